//! Errors as clients see them: a status, a code for programs and a message for people.

use std::fmt::Display;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(super) struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The cell that the message is about, for a page to point at.
    column: Option<Box<str>>,
    retry_after_s: Option<u32>,
}

impl HttpError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        HttpError { status, code, message: message.into(), column: None, retry_after_s: None }
    }

    fn retry_later(mut self) -> Self {
        self.retry_after_s = Some(fastrand::u32(2..=6));
        self
    }

    pub(super) fn bad_since(name: &str, problem: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_since", format!("{name}: {problem}"))
    }

    pub(super) fn bad_value(code: &'static str, name: &str, expected: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("{name} is {expected}"))
    }

    pub(super) fn unknown_parameter(name: &str, columns: &[Box<str>]) -> Self {
        let name: String = name.chars().take(100).collect();
        let columns = columns.join(", ");
        let message = format!("{name:?} is neither a parameter nor a column; the columns are {columns}");
        Self::new(StatusCode::BAD_REQUEST, "unknown_parameter", message)
    }

    pub(super) fn not_found(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {path}"))
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "use GET, or what the header Allow names",
        )
    }

    /// What is there only if the process is started with an option.
    pub(super) fn not_enabled(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_enabled", message)
    }

    pub(super) fn unknown_person(message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_person", message.to_string())
    }

    pub(super) fn cross_site(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "cross_site", message)
    }

    pub(super) fn bad_body(problem: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_body", problem.to_string())
    }

    pub(super) fn bad_type(expected: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_type",
            format!("the content type must be {expected}"),
        )
    }

    pub(super) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("at most {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in time")
    }

    pub(super) fn bad_person(message: impl Display, column: Option<Box<str>>) -> Self {
        HttpError { column, ..Self::new(StatusCode::BAD_REQUEST, "bad_person", message.to_string()) }
    }

    pub(super) fn bad_photo(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_photo", message.to_string())
    }

    pub(super) fn conflict(code: &'static str, message: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, code, message.to_string())
    }

    pub(super) fn not_written(message: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_written", message.to_string()).retry_later()
    }

    pub(super) fn uri_too_long(limit_bytes: usize) -> Self {
        let message = format!("a request target has at most {limit_bytes} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", message)
    }

    pub(super) fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many clients, come back later")
            .retry_later()
    }

    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_later()
    }

    pub(super) fn history_unavailable() -> Self {
        let message = "the rows after that id can't be read from the table now, come back later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "history_unavailable", message).retry_later()
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(column), Some(error)) = (self.column, error.as_object_mut()) {
            error.insert("column".into(), String::from(column).into());
        }
        let body = json!({ "error": error }).to_string();
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
