//! A memory publisher with something that answers at its URLs: a server that lists what the version's `definition.json`
//! has, and whose tools only echo; where a body has the word, they throw or hang.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use metamcp_core::memory::MemoryPublisher;
use metamcp_core::{Publisher, VersionId};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A publisher whose versions answer, as long as the test's runtime lives.
pub(crate) async fn publisher() -> Arc<MemoryPublisher> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let publisher = Arc::new(MemoryPublisher::answering_at(&base));
    let answers = Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(publisher.clone());
    tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });
    publisher
}

async fn answer(State(publisher): State<Arc<MemoryPublisher>>, uri: Uri, Json(message): Json<Value>) -> Response {
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let Some((definition, bodies)) = definition_at(&publisher, uri.path()).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let list = |field: &str| definition.get(field).cloned().unwrap_or(json!([]));
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
            "serverInfo": { "name": definition["name"], "version": "1.0.0" }
        }),
        "tools/list" => json!({ "tools": list("tools") }),
        "prompts/list" => json!({ "prompts": list("prompts") }),
        "resources/list" => json!({ "resources": list("resources") }),
        "tools/call" if bodies.contains("hang") => std::future::pending().await,
        "tools/call" => call(&message["params"], &bodies),
        method => {
            let error = json!({ "code": -32601, "message": format!("{method} is not known") });
            return Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response();
        }
    };
    Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}

fn call(params: &Value, bodies: &str) -> Value {
    if bodies.contains("throw") {
        return json!({ "isError": true, "content": [{ "type": "text", "text": "Error: thrown (line 1)" }] });
    }
    json!({ "content": [{ "type": "text", "text": format!("{} {}", params["name"].as_str().unwrap(), params["arguments"]) }] })
}

/// The `definition.json` and all bodies of the version that `/name/mcp` or `/name/version/mcp` names.
async fn definition_at(publisher: &MemoryPublisher, path: &str) -> Option<(Value, String)> {
    let mut parts = path.split('/').skip(1);
    let name = parts.next()?;
    let servers = publisher.list_servers().await.unwrap();
    let server = servers.into_iter().find(|server| server.server.name.as_str() == name)?;
    let version: VersionId = match parts.next()? {
        "mcp" => server.active?,
        version => version.parse().ok()?,
    };
    let artifact = publisher.artifact(&server.server, &version)?;
    let definition = serde_json::from_slice(&artifact.modules["definition.json"].content).unwrap();
    let bodies = artifact.modules.iter().filter(|(name, _)| name.starts_with("bodies/"));
    let bodies: Vec<_> = bodies.map(|(_, module)| String::from_utf8_lossy(&module.content).into_owned()).collect();
    Some((definition, bodies.join("\n")))
}
