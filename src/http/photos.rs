//! `GET /photos/<name>`: the photos of people who are greeted.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::{App, error::HttpError, screen};
use crate::people::{is_photo_name, is_stored_photo_name};

/// A file that was stored under its hash never changes; one that somebody put there may.
const FOR_EVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
const EACH_TIME: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A picture is never a page, whatever is in it.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

pub(super) async fn photo(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, HttpError> {
    let people = screen::people(&app)?;
    let missing = HttpError::not_found(request.uri().path());
    if !is_photo_name(&name) {
        return Err(missing);
    }
    let file = ServeFile::new(people.photo_dir().join(&name));
    let (mut parts, body) = request.into_parts();
    parts.uri = Uri::from_static("/");
    // Its errors are answers already.
    let Ok(response) = file.oneshot(Request::from_parts(parts, body)).await;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(missing);
    }
    let mut response = response.map(Body::new);
    let keep = if is_stored_photo_name(&name) { FOR_EVER } else { EACH_TIME };
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}
