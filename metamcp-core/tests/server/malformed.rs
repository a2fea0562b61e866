//! Messages that are not quite MCP: who sends them is told what is wrong.

use metamcp_core::Scope;
use metamcp_core::server::{MetaMcpServer, serve_socket};
use reqwest::Response;
use rmcp::ServiceExt;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::guard::{Guarded, LIMIT, header};
use super::{everything, memory};

/// What is said, with its code and a part of the text of the answer.
fn cases() -> Vec<(&'static str, Value, i64, &'static str)> {
    let call = "tools/call";
    vec![
        (call, json!({ "name": "list_templates", "arguments": "{}" }), -32602, "arguments must be an object"),
        (call, json!({ "name": "list_templates", "arguments": [] }), -32602, "arguments must be an object"),
        (call, json!({ "name": 5, "arguments": {} }), -32602, "name must be a string, not a number"),
        (call, json!({ "arguments": {} }), -32602, "name is missing"),
        (call, Value::Null, -32602, "params must be an object"),
        ("prompts/get", json!({}), -32602, "missing field `name`"),
        ("resources/read", json!({ "uri": 1 }), -32602, "params cannot be read"),
        ("completion/complete", json!({}), -32602, "params cannot be read"),
        ("initialize", json!({}), -32602, "params cannot be read"),
        ("tools/cal", json!({ "name": "list_templates" }), -32601, "tools/cal"),
    ]
}

fn message(method: &str, params: &Value) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "id": 7, "method": method });
    if !params.is_null() {
        message["params"] = params.clone();
    }
    message
}

#[track_caller]
fn check(answer: &Value, code: i64, said: &str) {
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(code)), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(said), "{said}: {answer}");
}

/// Says all of it on a stream, after the handshake.
async fn say(stream: impl AsyncRead + AsyncWrite) {
    let (answers, mut requests) = tokio::io::split(stream);
    let mut answers = BufReader::new(answers).lines();
    let initialize = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" }
    });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let hello = format!("{}\n{initialized}\n", message("initialize", &initialize));
    requests.write_all(hello.as_bytes()).await.unwrap();
    let mut next = async || -> Value {
        let line = timeout(LIMIT, answers.next_line()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert!(next().await["result"].is_object());
    for (method, params, code, said) in cases() {
        requests.write_all(format!("{}\n", message(method, &params)).as_bytes()).await.unwrap();
        check(&next().await, code, said);
    }
}

#[tokio::test]
async fn parameters_that_are_wrong_are_told_on_a_stream() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = MetaMcpServer::new(memory::meta().await, everything());
    tokio::spawn(async move { server.serve(theirs).await.unwrap().waiting().await });
    say(ours).await;
}

#[tokio::test]
async fn parameters_that_are_wrong_are_told_on_the_socket_that_bridges_pass_on_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let meta = memory::meta().await;
    tokio::spawn(async move { serve_socket(meta, listener).await });
    say(UnixStream::connect(&path).await.unwrap()).await;
}

#[tokio::test]
async fn parameters_that_are_wrong_are_told_over_http() {
    let guarded = Guarded::start().await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    for (method, params, code, said) in cases() {
        let response = guarded.post(key.expose_secret(), &message(method, &params)).send().await.unwrap();
        check(&response.json().await.unwrap(), code, said);
    }
}

#[tokio::test]
async fn what_is_no_message_is_answered_as_json_rpc_has_it() {
    let guarded = Guarded::start().await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let post = async |body: String| -> Response {
        let request = guarded.post(key.expose_secret(), &Value::Null).body(body);
        request.send().await.unwrap()
    };
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    for (body, code, id) in [
        ("{\"jsonrpc\":".to_owned(), -32700, Value::Null),
        (String::new(), -32700, Value::Null),
        (deep, -32700, Value::Null),
        ("[]".to_owned(), -32600, Value::Null),
        ("5".to_owned(), -32600, Value::Null),
        (json!({ "id": "x", "method": "ping" }).to_string(), -32600, json!("x")),
    ] {
        let response = post(body.clone()).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (400, "application/json"));
        let answer: Value = response.json().await.unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{body}: {answer}");
    }
    // What says that it is something else is something else.
    let mut other = guarded.post(key.expose_secret(), &message("ping", &Value::Null)).build().unwrap();
    other.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(guarded.http.execute(other).await.unwrap().status().as_u16(), 415);
}
