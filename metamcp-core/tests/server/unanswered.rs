//! Calls of tools that end without a result: what they may have done, and whether they may be made again.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use metamcp_core::TrustedHosts;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, yield_now};

use super::strangers::serve;
use super::{Client, everything, memory};

const PERHAPS_DONE: &str = "it may have been carried out; ";
const LATER: &str = "; the same call may succeed later";

async fn connected(url: &str) -> Client {
    let meta = memory::meta().await.with_trusted_hosts(TrustedHosts::new(["127.0.0.1"]).unwrap());
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "ours", "description": "A server." })).await;
    client.data("connect_external_mcp", json!({ "serverId": "ours", "serverUrl": url, "serverName": "them" })).await;
    client
}

/// What is said of a call that ends in some way.
async fn said(client: &Client, tool: &str, end: &str) -> String {
    let call = json!({ "serverId": "ours", "serverName": "them", "toolName": tool, "arguments": { "end": end } });
    client.failure("call_mcp_tool", call).await
}

#[tokio::test]
async fn what_may_have_been_carried_out_may_be_repeated_only_where_the_tool_says_so() {
    let client = connected(&serve(Router::new().fallback(answer)).await).await;
    for end in ["502", "broken", "ended", "unavailable"] {
        let of_write = said(&client, "write", end).await;
        assert!(of_write.starts_with("unavailable: ") && of_write.contains(PERHAPS_DONE), "{end}: {of_write}");
        assert!(!of_write.ends_with(LATER), "{end}: {of_write}");
        for tool in ["read", "put"] {
            let said = said(&client, tool, end).await;
            assert!(said.starts_with("unavailable: ") && said.ends_with(LATER), "{tool}, {end}: {said}");
            assert!(!said.contains(PERHAPS_DONE), "{tool}, {end}: {said}");
        }
    }
    let said = said(&client, "write", "429").await;
    assert_eq!(said, format!(r#"unavailable: tool "write" gave no answer: HTTP status 429{LATER}"#));
}

#[tokio::test]
async fn the_kind_of_a_failure_is_what_its_answer_says() {
    let client = connected(&serve(Router::new().fallback(answer)).await).await;
    for (end, kind) in [
        ("timed_out", "timed_out"),
        ("limit_exceeded", "limit_exceeded"),
        ("permission_denied", "unexpected"),
        ("something else", "unexpected"),
    ] {
        let said = said(&client, "write", end).await;
        let begin = format!(r#"{kind}: tool "write" gave no result: was stopped; {PERHAPS_DONE}"#);
        assert!(said.starts_with(&begin) && !said.ends_with(LATER), "{end}: {said}");
    }
}

#[tokio::test]
async fn what_was_not_reached_was_not_called() {
    let (listening, url) = closing().await;
    let client = connected(&url).await;
    // It stops listening before it answers what it offers: the call that follows finds nobody.
    listening.open.set(()).unwrap();
    let said = said(&client, "write", "502").await;
    assert_eq!(said, format!(r#"unavailable: tool "write" gave no answer: the connection was refused{LATER}"#));
}

/// A server that stops listening once it is asked for its tools while it is open.
#[derive(Default)]
struct Listening {
    open: OnceLock<()>,
    task: OnceLock<AbortHandle>,
}

async fn closing() -> (Arc<Listening>, String) {
    let listening = Arc::new(Listening::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer_and_close).with_state(listening.clone());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    listening.task.set(task.abort_handle()).unwrap();
    (listening, url)
}

async fn answer_and_close(State(listening): State<Arc<Listening>>, message: axum::Json<Value>) -> Response {
    if listening.open.get().is_some() && message["method"] == "tools/list" {
        let task = listening.task.get().unwrap();
        task.abort();
        while !task.is_finished() {
            yield_now().await;
        }
    }
    ([(header::CONNECTION, "close")], answer(message).await).into_response()
}

async fn answer(axum::Json(message): axum::Json<Value>) -> Response {
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let answered = match message["method"].as_str().unwrap() {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
            "serverInfo": { "name": "stranger", "version": "1.0.0" }
        })),
        "tools/list" => {
            Ok(json!({ "tools": [tool("write", ""), tool("read", "readOnlyHint"), tool("put", "idempotentHint")] }))
        }
        "tools/call" => match message["params"]["arguments"]["end"].as_str().unwrap() {
            "429" => return StatusCode::TOO_MANY_REQUESTS.into_response(),
            "502" => return (StatusCode::BAD_GATEWAY, "<p>Sorry").into_response(),
            "broken" => {
                let broken = stream::iter([Err::<&str, _>(io::Error::other("broken"))]);
                return ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(broken)).into_response();
            }
            "ended" => return ([(header::CONTENT_TYPE, "text/event-stream")], ": begun\n\n").into_response(),
            kind => Err(json!({ "code": -32603, "message": "was stopped", "data": { "kind": kind } })),
        },
        method => Err(json!({ "code": -32601, "message": format!("{method} is not known") })),
    };
    let (name, value) = match answered {
        Ok(result) => ("result", result),
        Err(error) => ("error", error),
    };
    axum::Json(json!({ "jsonrpc": "2.0", "id": id, name: value })).into_response()
}

fn tool(name: &str, hint: &str) -> Value {
    let annotations = if hint.is_empty() { json!({}) } else { json!({ hint: true }) };
    json!({ "name": name, "inputSchema": { "type": "object" }, "annotations": annotations })
}
