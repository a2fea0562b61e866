//! Answers in Cloudflare's envelope.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: HTTP status, Cloudflare's code, and its words.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: message.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let errors = json!([{ "code": self.code, "message": self.message }]);
        let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
        (self.status, Json(body)).into_response()
    }
}

/// What a handler gives.
pub(crate) type Answer = Result<Response, Refusal>;

/// A result in its envelope.
pub(crate) fn success(result: impl Into<Value>) -> Response {
    Json(json!({ "success": true, "errors": [], "messages": [], "result": result.into() })).into_response()
}

/// A page, with what the next one is asked for by.
pub(crate) fn success_with(result: impl Into<Value>, result_info: impl Into<Value>) -> Response {
    let (result, result_info) = (result.into(), result_info.into());
    Json(json!({ "success": true, "errors": [], "messages": [], "result": result, "result_info": result_info }))
        .into_response()
}

/// One page of a list that is paged by number. Past the end it is empty, for clients that stop only there.
pub(crate) fn page<T: Into<Value>>(
    items: Vec<T>,
    page: Option<usize>,
    per_page: Option<usize>,
    most: usize,
) -> Response {
    let (page, per_page) = (page.unwrap_or(1).max(1), per_page.unwrap_or(most).clamp(1, most));
    let total = items.len();
    let shown: Vec<Value> = items.into_iter().skip((page - 1) * per_page).take(per_page).map(Into::into).collect();
    let info = json!({ "page": page, "per_page": per_page, "count": shown.len(), "total_count": total });
    success_with(shown, info)
}

/// Whatever is not emulated.
pub(crate) async fn unknown_route(uri: http::Uri) -> Refusal {
    Refusal::new(404, 7003, format!("Could not route to {}, perhaps your object identifier is invalid?", uri.path()))
}
