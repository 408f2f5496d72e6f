//! Pages: the site's own from `--www-dir`, and the built-in ones where the site has none.

use std::{path::Path, sync::Arc};

use axum::{
    body::Body,
    extract::{Path as UrlPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use tower_http::services::ServeDir;

use super::{App, error::HttpError};

/// A page that is part of the program.
struct Page {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const PAGES: [Page; 7] = [
    Page { path: "/", content_type: HTML, content: include_str!("pages/live.html") },
    Page { path: "/live.js", content_type: SCRIPT, content: include_str!("pages/live.js") },
    Page { path: "/client.js", content_type: SCRIPT, content: include_str!("pages/client.js") },
    Page { path: "/screen", content_type: HTML, content: include_str!("pages/screen.html") },
    Page { path: "/screen.js", content_type: SCRIPT, content: include_str!("pages/screen.js") },
    Page { path: "/reception", content_type: HTML, content: include_str!("pages/reception.html") },
    Page { path: "/reception.js", content_type: SCRIPT, content: include_str!("pages/reception.js") },
];

/// The built-in pages load nothing from elsewhere, and run no other script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-src 'self'; frame-ancestors 'self'";

pub(super) async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let built_in = PAGES.iter().find(|page| page.path == path);
    if !matches!(method, Method::GET | Method::HEAD) {
        return match built_in {
            Some(_) => method_not_allowed(),
            None => HttpError::not_found(&path).into_response(),
        };
    }
    if let Some(folder) = &app.settings.www_dir
        && let Some(response) = from_folder(folder, request).await
    {
        return response;
    }
    match built_in {
        Some(page) => {
            let headers = [
                (header::CONTENT_TYPE, page.content_type),
                (header::CACHE_CONTROL, "no-cache"),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (HeaderName::from_static("referrer-policy"), "no-referrer"),
            ];
            (headers, page.content).into_response()
        }
        None => HttpError::not_found(&path).into_response(),
    }
}

/// What belongs to the site's theme. Without one the screen looks as it is.
pub(super) async fn theme(
    State(app): State<Arc<App>>,
    UrlPath(path): UrlPath<String>,
    mut request: Request,
) -> Response {
    if let Some(folder) = &app.settings.theme_dir
        && let Some(target) = request.uri().path().strip_prefix("/theme").and_then(|path| path.parse().ok())
    {
        *request.uri_mut() = target;
        if let Some(response) = from_folder(folder, request).await {
            return response;
        }
    }
    match path == "screen.css" {
        true => {
            let headers =
                [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
            (headers, "").into_response()
        }
        false => HttpError::not_found(&format!("/theme/{path}")).into_response(),
    }
}

/// The file, if there is one that may be shown.
async fn from_folder(folder: &Path, request: Request) -> Option<Response> {
    if is_hidden(request.uri().path()) {
        return None;
    }
    // Its errors are answers already.
    let Ok(response) = ServeDir::new(folder).oneshot(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return None;
    }
    let mut response = response.map(Body::new);
    // A browser asks each time whether it changed: screens run for months.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

/// Whether a part of the path, as it stands or decoded, begins with a dot.
fn is_hidden(path: &str) -> bool {
    // `form_urlencoded` would take a plus for a space, which hides no dot.
    let decoded = form_urlencoded::parse(path.as_bytes()).flat_map(|(name, value)| [name, value]);
    decoded.chain([path.into()]).any(|text| text.split(['/', '\\']).any(|part| part.starts_with('.')))
}

fn method_not_allowed() -> Response {
    let mut response = HttpError::method_not_allowed().into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}
