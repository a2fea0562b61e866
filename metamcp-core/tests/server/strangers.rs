//! External servers that want to mislead whoever reads them, or to use up this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use metamcp_core::TrustedHosts;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Client, everything, memory};

/// What a method answers, for the how manieth time it is called.
type Answers = fn(&str, usize) -> Result<Value, Value>;

struct Stranger {
    answers: Answers,
    asked: AtomicUsize,
}

/// A server connected to a stranger, and what connecting said.
async fn connected(answers: Answers) -> (Client, Arc<Stranger>, Value) {
    let stranger = Arc::new(Stranger { answers, asked: AtomicUsize::new(0) });
    let url = serve(Router::new().fallback(answer).with_state(stranger.clone())).await;
    let meta = memory::meta().await.with_trusted_hosts(TrustedHosts::new(["127.0.0.1"]).unwrap());
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "ours", "description": "A server." })).await;
    let connect = json!({ "serverId": "ours", "serverUrl": url, "serverName": "them" });
    let said = client.call("connect_external_mcp", connect).await;
    let said = said.structured_content.clone().unwrap_or_else(|| super::text(&said).into());
    (client, stranger, said)
}

/// Serves it as long as the test's runtime lives; its URL.
pub(super) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = router.layer(DefaultBodyLimit::disable());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn answer(State(stranger): State<Arc<Stranger>>, Json(message): Json<Value>) -> Response {
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let method = message["method"].as_str().unwrap();
    let answered = match method {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-11-25", "capabilities": { "tools": {}, "resources": {}, "prompts": {} },
            "serverInfo": { "name": "stranger", "version": "1.0.0" }
        })),
        "server/discover" => Err(json!({ "code": -32601, "message": "not known" })),
        method => (stranger.answers)(method, stranger.asked.fetch_add(1, Ordering::SeqCst)),
    };
    let mut answer = json!({ "jsonrpc": "2.0", "id": id });
    match answered {
        Ok(result) => answer["result"] = result,
        Err(error) => answer["error"] = error,
    }
    Json(answer).into_response()
}

fn nothing(method: &str) -> Value {
    let list = method.strip_suffix("/list").unwrap();
    json!({ list: [] })
}

fn tool(name: &str, description: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "a\u{e0041}": { "description": description } } });
    json!({ "name": name, "description": description, "inputSchema": schema })
}

#[tokio::test]
async fn what_strangers_say_is_shown_without_hidden_text() {
    let (client, _, said) = connected(|method, _| match method {
        "tools/list" => Ok(json!({ "tools": [tool("echo", "safe\u{e0041}\u{61c}\u{200b}\u{202e} 👩🏽\u{200d}🚀")] })),
        "tools/call" => Err(json!({ "code": 1, "message": format!("no\n\u{202e}\u{e0041}{}", "x".repeat(100_000)) })),
        method => Ok(nothing(method)),
    })
    .await;
    assert_eq!(said["tools"], json!(["echo"]), "{said}");
    let one = json!({ "serverId": "ours", "serverName": "them" });
    let offer = client.data("list_external_mcp", one).await["offer"].take();
    let shown = "safe\u{fffd}\u{fffd}\u{fffd}\u{fffd} 👩🏽\u{200d}🚀";
    assert_eq!(offer["tools"][0]["description"], shown);
    let properties = &offer["tools"][0]["inputSchema"]["properties"];
    assert_eq!(*properties, json!({ "a\u{fffd}": { "description": shown } }));
    let call = json!({ "serverId": "ours", "serverName": "them", "toolName": "echo" });
    let said = client.failure("call_mcp_tool", call).await;
    assert!(said.contains("gave no result: no \u{fffd}\u{fffd}xxx") && said.chars().count() < 1_250, "{said}");
    assert!(!said.contains(['\u{202e}', '\u{e0041}', '\n']), "{said}");
}

#[tokio::test]
async fn what_a_refused_call_may_have_done_is_told_by_its_code() {
    async fn called(answers: Answers) -> String {
        let (client, _, _) = connected(answers).await;
        client.failure("call_mcp_tool", json!({ "serverId": "ours", "serverName": "them", "toolName": "echo" })).await
    }
    macro_rules! refusing {
        ($code:literal, $message:literal) => {
            called(|method, _| match method {
                "tools/list" => Ok(json!({ "tools": [tool("echo", "Echoes.")] })),
                "tools/call" => Err(json!({ "code": $code, "message": $message })),
                method => Ok(nothing(method)),
            })
            .await
        };
    }
    let said = refusing!(-32603, "was stopped");
    assert!(
        said.starts_with("unexpected: tool \"echo\" gave no result: was stopped; it may have been carried out"),
        "{said}"
    );
    let said = refusing!(-32602, "Tool echo not found");
    assert!(said.starts_with("not_found: tool \"echo\" was not called: Tool echo not found"), "{said}");
    let said = refusing!(-32602, "the file of tool echo was not found");
    assert!(said.starts_with("unexpected: tool \"echo\" gave no result: the file"), "{said}");
    let said = refusing!(-32021, "capabilities do not declare elicitation");
    assert!(said.starts_with("unsupported: ") && said.contains("with a client that can be asked"), "{said}");
}

#[tokio::test]
async fn a_failure_to_connect_is_told_shortly_too() {
    let (_, _, said) =
        connected(|_, _| Err(json!({ "code": 1, "message": format!("\u{202e}{}", "y".repeat(100_000)) }))).await;
    let said = said.as_str().unwrap();
    assert!(said.contains("yyy") && said.chars().count() < 1_300 && !said.contains('\u{202e}'), "{said}");
}

#[tokio::test]
async fn a_tool_that_is_too_long_to_be_shown_is_not_connected() {
    let (_, _, said) = connected(|method, _| match method {
        "tools/list" => Ok(json!({ "tools": [tool("long", &"z".repeat(40_000))] })),
        method => Ok(nothing(method)),
    })
    .await;
    let said = said.as_str().unwrap();
    assert!(said.starts_with("limit_exceeded: ") && said.contains("\"long\" in more than 65536 bytes"), "{said}");
}

#[tokio::test]
async fn reading_ends_where_too_much_is_listed() {
    // More tools than are taken, a list without end.
    let (_, stranger, said) = connected(|_, asked| {
        let tools: Vec<_> = (0..300).map(|n| tool(&format!("t{asked}_{n}"), "Is one of many.")).collect();
        Ok(json!({ "tools": tools, "nextCursor": "more" }))
    })
    .await;
    assert!(said.as_str().unwrap().contains("gives more than 2000 items"), "{said}");
    assert_eq!(stranger.asked.load(Ordering::SeqCst), 7);

    // Few resources in many bytes: what the lists have together is bounded.
    let (_, stranger, said) = connected(|method, asked| {
        if method == "tools/list" {
            return Ok(nothing(method));
        }
        let resource = json!({ "uri": "a:b", "name": "large", "description": "x".repeat(3 << 20) });
        Ok(json!({ "resources": [resource], "nextCursor": format!("{asked}") }))
    })
    .await;
    let said = said.as_str().unwrap();
    assert!(said.starts_with("limit_exceeded: ") && said.contains("bytes that are left for it"), "{said}");
    assert!(stranger.asked.load(Ordering::SeqCst) <= 7, "{said}");
}

#[tokio::test]
async fn resources_and_prompts_are_counted() {
    let (_, _, said) = connected(|method, _| match method {
        "resources/list" => Ok(json!({ "resources": [{ "uri": "a:b", "name": "b" }, { "uri": "a:c", "name": "c" }] })),
        "prompts/list" => Ok(json!({ "prompts": [{ "name": "p" }] })),
        _ => Ok(nothing(method)),
    })
    .await;
    assert_eq!((&said["resourcesCount"], &said["promptsCount"]), (&json!(2), &json!(1)), "{said}");
}

/// A server that holds whoever asks for its tools until it is opened.
struct Held {
    waiting: AtomicUsize,
    most: AtomicUsize,
    opened: Semaphore,
}

async fn hold(State(held): State<Arc<Held>>, message: Json<Value>) -> Response {
    if message["method"] == "tools/list" {
        held.most.fetch_max(held.waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        assert!(held.opened.acquire().await.is_err(), "it is opened by being closed");
        held.waiting.fetch_sub(1, Ordering::SeqCst);
    }
    let answers: Answers = |method, _| Ok(nothing(method));
    answer(State(Arc::new(Stranger { answers, asked: AtomicUsize::new(0) })), message).await
}

#[tokio::test]
async fn few_strangers_are_looked_at_at_once() {
    let opened = Semaphore::new(0);
    let held = Arc::new(Held { waiting: AtomicUsize::new(0), most: AtomicUsize::new(0), opened });
    let url = serve(Router::new().fallback(hold).with_state(held.clone())).await;
    let meta = memory::meta().await.with_trusted_hosts(TrustedHosts::new(["127.0.0.1"]).unwrap());
    let client = Arc::new(Client::connect(&meta, everything()).await);
    client.data("init_mcp_server", json!({ "name": "ours", "description": "A server." })).await;
    let connect = |number: usize| {
        let (client, url) = (client.clone(), url.clone());
        let connect = json!({ "serverId": "ours", "serverUrl": url, "serverName": format!("them {number}") });
        tokio::spawn(async move { client.data("connect_external_mcp", connect).await })
    };
    let connecting: Vec<_> = (0..12).map(connect).collect();
    // Others wait for their turn, which they would have had long before this many are held, were there none.
    let full = async {
        while held.waiting.load(Ordering::SeqCst) < 8 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), full).await.unwrap();
    held.opened.close();
    for connected in connecting {
        connected.await.unwrap();
    }
    assert_eq!(held.most.load(Ordering::SeqCst), 8);
}
