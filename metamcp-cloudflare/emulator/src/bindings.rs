//! What Workers ask of their bindings, which the runtime turns into requests to the emulator.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use crate::answer::Refusal;
use crate::scripts::forward;
use crate::workerd::BINDING;
use crate::{State, d1, kv};

/// Refuses bindings to what does not exist, or what the emulator does not have.
pub(crate) fn check_bound(state: &State, bindings: &[Value]) -> Result<(), Refusal> {
    bindings.iter().try_for_each(|binding| check(state, binding))
}

fn check(state: &State, binding: &Value) -> Result<(), Refusal> {
    let field = |name: &str| binding[name].as_str().unwrap_or_default();
    let missing = |code, what: &str| Err(Refusal::new(400, code, format!("binding {}: {what}", binding["name"])));
    match field("type") {
        "plain_text" | "secret_text" | "json" | "durable_object_namespace" => Ok(()),
        "kv_namespace" if state.namespaces.exists(field("namespace_id")) => Ok(()),
        "kv_namespace" => missing(10_041, "KV namespace not found"),
        "d1" if state.databases.exists(database_id(binding)) => Ok(()),
        "d1" => missing(10_181, "D1 database not found"),
        "service" if state.scripts.exists(field("service")) => Ok(()),
        "service" => missing(10_144, "no such Worker"),
        "dispatch_namespace" if !state.dispatch.exists(field("namespace")) => missing(100_119, "namespace not found"),
        "dispatch_namespace" => match binding["outbound"]["worker"]["service"].as_str() {
            Some(service) if !state.scripts.exists(service) => missing(10_144, "no such outbound Worker"),
            _ => Ok(()),
        },
        kind => missing(10_021, &format!("the emulator has nothing of the type {kind}")),
    }
}

/// wrangler still writes `id` where the API's name is `database_id`.
fn database_id(binding: &Value) -> &str {
    binding["database_id"].as_str().or(binding["id"].as_str()).unwrap_or_default()
}

/// Answers a request that a binding made.
pub(crate) async fn serve(state: &Arc<State>, mut request: Request) -> Response {
    let binding = request.headers_mut().remove(BINDING);
    let Some(binding) = binding.and_then(|header| serde_json::from_slice::<Value>(header.as_bytes()).ok()) else {
        return (StatusCode::BAD_REQUEST, "a binding that cannot be read").into_response();
    };
    let field = |name: &str| binding[name].as_str().unwrap_or_default();
    match field("type") {
        "kv_namespace" => kv::serve_binding(state, field("namespace_id"), request).await,
        "d1" => d1::serve_binding(state, database_id(&binding), request).await,
        "service" => match state.scripts.live_process(field("service")) {
            Some(process) => forward(request, &process).await,
            None => (StatusCode::SERVICE_UNAVAILABLE, "the Worker behind this binding is gone").into_response(),
        },
        "dispatch_namespace" => state.dispatch.serve(state, &binding, request).await,
        "tail" => match Bytes::from_request(request, state).await {
            Ok(events) => {
                state.scripts.tails.receive(field("script"), field("version"), &events);
                StatusCode::NO_CONTENT.into_response()
            }
            Err(error) => error.into_response(),
        },
        _ => (StatusCode::NOT_FOUND, "no such binding").into_response(),
    }
}
