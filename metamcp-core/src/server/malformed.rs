//! Messages that are no requests of MCP, and what is said of them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use rmcp::model::{
    CallToolRequestMethod, CallToolRequestParams, CompleteRequestMethod, CompleteRequestParams, ConstString,
    CustomRequest, ErrorCode, ErrorData, GetPromptRequestMethod, GetPromptRequestParams, InitializeRequestParams,
    InitializeResultMethod, ReadResourceRequestMethod, ReadResourceRequestParams,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::guard::Body;

/// What is wrong with a request that rmcp could not read as one of MCP's.
pub(super) fn request(request: &CustomRequest) -> ErrorData {
    let params = request.params.as_ref();
    let problem = match request.method.as_str() {
        CallToolRequestMethod::VALUE => tool_call(params).or_else(|| misread::<CallToolRequestParams>(params)),
        GetPromptRequestMethod::VALUE => misread::<GetPromptRequestParams>(params),
        ReadResourceRequestMethod::VALUE => misread::<ReadResourceRequestParams>(params),
        CompleteRequestMethod::VALUE => misread::<CompleteRequestParams>(params),
        InitializeResultMethod::VALUE => misread::<InitializeRequestParams>(params),
        // Of other methods that are served, rmcp takes whatever parameters come.
        method => return ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method.to_owned(), None),
    };
    let problem = problem.unwrap_or_else(|| "params are not those of this method".to_owned());
    ErrorData::invalid_params(format!("{}: {problem}", request.method), None)
}

/// What models get wrong of a call, in words that lead to a right one.
fn tool_call(params: Option<&Value>) -> Option<String> {
    let Some(Value::Object(params)) = params else {
        return Some(format!("params must be an object with name and arguments, not {}", kind(params)));
    };
    match params.get("name") {
        Some(Value::String(_)) => {}
        None => return Some("name is missing: it says which tool is called".to_owned()),
        other => return Some(format!("name must be a string, not {}", kind(other))),
    }
    match params.get("arguments") {
        None | Some(Value::Null | Value::Object(_)) => None,
        Some(Value::String(_)) => {
            Some("arguments must be an object, not a string: send the object itself, not its JSON text".to_owned())
        }
        other => Some(format!("arguments must be an object, not {}", kind(other))),
    }
}

fn misread<T: DeserializeOwned>(params: Option<&Value>) -> Option<String> {
    let error = serde_json::from_value::<T>(params.cloned().unwrap_or(Value::Null)).err()?;
    Some(format!("params cannot be read: {error}"))
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
}

/// Whether a request's headers say that its body is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The answer over HTTP to JSON that is no message, or to what is no JSON.
pub(super) fn body(body: &[u8]) -> Response<Body> {
    let (code, message, id) = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(_)) => {
            (ErrorCode::INVALID_REQUEST, "batches are not part of MCP: send one message".to_owned(), Value::Null)
        }
        Ok(mut message) => {
            let id = message.get_mut("id").map(Value::take).filter(|id| id.is_string() || id.is_number());
            (ErrorCode::INVALID_REQUEST, "this is no JSON-RPC 2.0 message of MCP".to_owned(), id.unwrap_or_default())
        }
        Err(error) => (ErrorCode::PARSE_ERROR, format!("this is no JSON: {error}"), Value::Null),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code.0, "message": message } });
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
