//! Answers of the gateway itself, each in the form its reader shows.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use metamcp_core::Error;
use serde_json::{Value, json};

use super::body::ReplyBody;

/// JSON-RPC's code for an error within the server.
const INTERNAL_ERROR: i64 = -32_603;

/// A request that does not reach a server.
pub(super) fn refused(status: StatusCode, problem: &str) -> Response<ReplyBody> {
    let error = json!({ "code": INTERNAL_ERROR, "message": problem });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
    let mut response = json_response(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
}

/// A call that its server did not answer. With an id it is a JSON-RPC answer like any other, sent with status
/// 200: clients show its message, where of an HTTP error they show the status.
pub(super) fn failed(id: &Value, error: &Error) -> Response<ReplyBody> {
    let mut response = json_response(Bytes::from(failure(id, error)));
    if id.is_null() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// The same within a stream that has begun. The empty line ends an event that was cut off, which would be one with this
/// otherwise.
pub(super) fn failed_event(id: &Value, error: &Error) -> Bytes {
    Bytes::from(format!("\n\nevent: message\ndata: {}\n\n", failure(id, error)))
}

/// The id of the request in a body, if it is one.
pub(super) fn request_id(body: &[u8]) -> Value {
    #[derive(serde::Deserialize)]
    struct Request {
        id: Value,
    }
    serde_json::from_slice::<Request>(body).map_or(Value::Null, |request| request.id)
}

/// An error with its kind, which tells callers that read it what its code does not.
fn failure(id: &Value, error: &Error) -> String {
    let data = json!({ "kind": error.kind().as_str() });
    let error = json!({ "code": INTERNAL_ERROR, "message": error.to_string(), "data": data });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

fn json_response(body: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
