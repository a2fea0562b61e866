//! Sessions of clients of the 2025 revisions: how they begin and end, what they survive, what goes over their streams.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use std::time::Duration;

use live::asking::definition;
use live::http::{Answer, message, post, prepare, request};
use live::{Era, Live};
use metamcp_core::ServerDefinition;
use reqwest::{Client as Http, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(60);

/// The parameters with which a client of the 2025 revisions begins.
fn initialize(capabilities: &Value) -> Value {
    let client = json!({ "name": "metamcp-test", "version": "1.0.0" });
    json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client })
}

/// A session by plain HTTP.
struct Session {
    url: String,
    id: String,
}

impl Session {
    /// `initialize` of a client that can do what `capabilities` says.
    async fn open(url: &str, capabilities: &Value) -> Self {
        let opened = prepare(url, Era::Initialize, "initialize", &initialize(capabilities)).send().await.unwrap();
        let id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        assert!(Answer::of(opened).await.result()["protocolVersion"].is_string());
        let session = Self { url: url.to_owned(), id };
        let initialized = session.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        assert_eq!(initialized.status(), 202);
        session
    }

    async fn send(&self, message: &Value) -> Response {
        let request = post(&self.url).header("mcp-protocol-version", "2025-11-25").header("mcp-session-id", &self.id);
        request.body(message.to_string()).send().await.unwrap()
    }

    async fn request(&self, method: &str, params: &Value) -> Answer {
        Answer::of(self.send(&message(Era::Initialize, method, params)).await).await
    }

    async fn call(&self, tool: &str) -> Response {
        self.send(&message(Era::Initialize, "tools/call", &json!({ "name": tool, "arguments": {} }))).await
    }

    async fn listen(&self) -> Response {
        self.listening().send().await.unwrap()
    }

    async fn listen_again(&self, last_event: &str) -> Response {
        self.listening().header("last-event-id", last_event).send().await.unwrap()
    }

    fn listening(&self) -> RequestBuilder {
        let request = Http::new().get(&self.url).header("accept", "text/event-stream");
        request.header("mcp-session-id", &self.id)
    }

    async fn end(&self) -> Response {
        Http::new().delete(&self.url).header("mcp-session-id", &self.id).send().await.unwrap()
    }
}

/// The next message of an event stream.
async fn next_message(stream: &mut Response) -> Value {
    next_event(stream).await.1
}

/// The id and the message of the next event that has one.
async fn next_event(stream: &mut Response) -> (String, Value) {
    let mut text = String::new();
    while let Some(chunk) = timeout(LIMIT, stream.chunk()).await.unwrap().unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        let field =
            |name: &str| text.lines().filter_map(|line| line.strip_prefix(name)).rfind(|value| !value.is_empty());
        if let (true, Some(data)) = (text.ends_with("\n\n"), field("data: ")) {
            return (field("id: ").unwrap_or_default().to_owned(), serde_json::from_str(data).unwrap());
        }
    }
    panic!("the stream ended: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_cannot_be_asked_is_an_error_of_its_era() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let call = json!({ "name": "elicit", "arguments": {} });

    let modern = request(&url, Era::Discover, "tools/call", &call).await;
    assert_eq!((modern.status, modern.error_code()), (400, -32021));
    assert!(modern.last()["error"]["data"]["requiredCapabilities"]["elicitation"].is_object(), "{modern:?}");

    let session = Session::open(&url, &json!({})).await;
    let refused = session.request("tools/call", &call).await;
    assert_eq!(refused.result()["isError"], true);

    let stateless = request(&url, Era::Initialize, "tools/call", &call).await;
    assert_eq!(stateless.result()["isError"], true);
    assert!(stateless.result().to_string().contains("a session"), "{stateless:?}");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_fit_is_asked_for_again() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let session = Session::open(&url, &json!({ "elicitation": {} })).await;
    let mut stream = session.call("elicit").await;
    for (content, is_last) in [(json!({ "name": 7 }), false), (json!({ "name": "Ada" }), true)] {
        let question = next_message(&mut stream).await;
        assert_eq!(question["method"], "elicitation/create");
        let result = json!({ "action": "accept", "content": content });
        let accepted = session.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": result })).await;
        assert_eq!(accepted.status(), 202);
        if is_last {
            let answer = next_message(&mut stream).await;
            assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("Ada"), "{answer}");
        }
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_known_by_its_id_until_it_is_deleted() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let session = Session::open(&url, &json!({})).await;
    assert!(session.id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    assert!(session.request("tools/list", &json!({})).await.result()["tools"].is_array());

    let one_more = format!("{}0", &session.id[1..]);
    for id in ["unknown", "", &"0".repeat(64), &one_more] {
        let stranger = Session { url: url.clone(), id: id.to_owned() };
        assert_eq!(stranger.request("tools/list", &json!({})).await.status, 404, "{id:?}");
        assert_eq!(stranger.listen().await.status(), 404, "{id:?}");
        assert_eq!(stranger.end().await.status(), 404, "{id:?}");
    }
    assert_eq!(Http::new().get(&url).send().await.unwrap().status(), 400);
    assert_eq!(Http::new().put(&url).send().await.unwrap().status(), 405);
    // Who asks for no session, or could not be asked anything in it, is served without one.
    assert!(request(&url, Era::Initialize, "tools/list", &json!({})).await.result()["tools"].is_array());
    let only_json =
        Http::new().post(&url).header("content-type", "application/json").header("accept", "application/json");
    let opened =
        only_json.body(message(Era::Initialize, "initialize", &initialize(&json!({}))).to_string()).send().await;
    assert_eq!(opened.unwrap().headers().get("mcp-session-id"), None);
    let huge = initialize(&json!({ "experimental": { "x": { "y": "z".repeat(70_000) } } }));
    assert_eq!(request(&url, Era::Initialize, "initialize", &huge).await.status, 413);

    assert_eq!(session.end().await.status(), 200);
    assert_eq!(session.request("tools/list", &json!({})).await.status, 404);
    assert_eq!(session.listen().await.status(), 404);
    assert_eq!(session.end().await.status(), 404);
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_subscribed_hears_of_a_change_on_its_newest_stream() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let (subscribed, other) = (Session::open(&url, &json!({})).await, Session::open(&url, &json!({})).await);
    let watched = json!({ "uri": "asked://watched" });
    assert_eq!(
        subscribed.request("resources/subscribe", &json!({ "uri": "asked://nothing" })).await.error_code(),
        -32002
    );
    assert_eq!(subscribed.request("resources/subscribe", &watched).await.result(), &json!({}));

    // The first stream is left without a word, as by a client that lost its network.
    let lost = subscribed.listen().await;
    let mut stream = subscribed.listen().await;
    assert_eq!((lost.status(), stream.status()), (reqwest::StatusCode::OK, reqwest::StatusCode::OK));
    for _ in 0..2 {
        assert_eq!(Answer::of(other.call("touch").await).await.result()["content"][0]["text"], "touched");
        let heard = next_message(&mut stream).await;
        assert_eq!((&heard["method"], &heard["params"]), (&json!("notifications/resources/updated"), &watched));
    }
    assert_eq!(subscribed.request("resources/unsubscribe", &watched).await.result(), &json!({}));
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lost_its_connection_gets_what_it_missed() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let session = Session::open(&url, &json!({ "elicitation": {} })).await;
    let mut lost = session.call("elicit").await;
    let (event, question) = next_event(&mut lost).await;
    drop(lost);
    session.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } })).await;
    let mut resumed = session.listen_again(&event).await;
    assert!(next_message(&mut resumed).await["result"].to_string().contains("decline"));

    let watched = json!({ "uri": "asked://watched" });
    session.request("resources/subscribe", &watched).await;
    // An event from before a restart is not known any more: the client listens afresh.
    let mut stream = session.listen_again("_GET_stream:before:7").await;
    session.call("touch").await.bytes().await.unwrap();
    assert_eq!(next_message(&mut stream).await["params"], watched);
    assert_eq!(session.listen_again("a-call:before:7").await.status(), 400);
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_new_version_and_its_open_stream_does_not_hold_the_switch_up() {
    let live = Live::open().await;
    let key = live.create(definition()).await;
    let url = live.meta.deployments().deploy(&key).await.unwrap().url.to_string();
    let session = Session::open(&url, &json!({ "elicitation": {} })).await;
    let watched = json!({ "uri": "asked://watched" });
    assert_eq!(session.request("resources/subscribe", &watched).await.result(), &json!({}));
    let mut before = session.listen().await;

    let described = |written: &ServerDefinition| {
        let mut described = written.clone();
        described.description = "New.".into();
        Ok(described)
    };
    live.meta.servers().edit(&key, described).await.unwrap();
    live.meta.deployments().deploy(&key).await.unwrap();
    // The process that held it is gone.
    assert!(!matches!(timeout(LIMIT, before.chunk()).await.unwrap(), Ok(Some(_))));

    let mut stream = session.call("elicit").await;
    let question = next_message(&mut stream).await;
    assert_eq!(question["method"], "elicitation/create");
    session.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } })).await;
    assert!(next_message(&mut stream).await.to_string().contains("decline"));
    let mut after = session.listen().await;
    session.call("touch").await;
    assert_eq!(next_message(&mut after).await["method"], "notifications/resources/updated");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_cancelled_call_ends_without_an_answer() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let session = Session::open(&url, &json!({ "elicitation": {} })).await;
    let mut stream = session.call("elicit").await;
    let (event, question) = next_event(&mut stream).await;
    assert_eq!(question["method"], "elicitation/create");
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(session.send(&cancelled).await.status(), 202);
    let rest = timeout(LIMIT, stream.text()).await.unwrap().unwrap();
    assert!(!rest.contains("result") && !rest.contains("error"), "{rest}");

    // Neither does it begin to wait again, nor is a call of that id confused with it.
    let mut resumed = session.listen_again(&event).await;
    while next_message(&mut resumed).await["error"]["code"] != -32000 {}
    assert_eq!(session.send(&cancelled).await.status(), 202);
    assert_eq!(Answer::of(session.call("touch").await).await.result()["content"][0]["text"], "touched");
    live.close().await;
}

/// Opens a stream of 2026-07-28 for these resources.
async fn listen_for(url: &str, uris: &Value) -> Response {
    let params = json!({ "notifications": { "resourceSubscriptions": uris, "toolsListChanged": true } });
    prepare(url, Era::Discover, "subscriptions/listen", &params).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_without_a_session_hears_of_the_resources_it_asked_for() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let discovered = request(&url, Era::Discover, "server/discover", &json!({})).await;
    assert_eq!(discovered.result()["capabilities"]["resources"]["subscribe"], true);

    let mut stream = listen_for(&url, &json!(["asked://watched", "asked://nothing"])).await;
    let acknowledged = next_message(&mut stream).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    // A list of tools is as its version made it, and of a resource that is none nothing will be heard.
    assert_eq!(acknowledged["params"]["notifications"], json!({ "resourceSubscriptions": ["asked://watched"] }));
    let mut other = listen_for(&url, &json!(["asked://city/Rome"])).await;
    next_message(&mut other).await;
    for _ in 0..2 {
        request(&url, Era::Discover, "tools/call", &json!({ "name": "touch", "arguments": {} })).await.result();
        let heard = next_message(&mut stream).await;
        assert_eq!(
            (&heard["method"], &heard["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!("asked://watched"))
        );
        assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    }
    // Nothing to listen for: the stream ends at once.
    let nothing = Answer::of(listen_for(&url, &json!(["asked://nothing"])).await).await;
    assert_eq!(nothing.result()["resultType"], "complete");
    let wrong = Answer::of(listen_for(&url, &json!([7])).await).await;
    assert_eq!(wrong.error_code(), -32602);
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_without_a_session_holds_no_new_version_up_and_is_told_of_it() {
    let live = Live::open().await;
    let mut patient = definition();
    // A call may take as long as this, and a switch waits for calls.
    patient["limits"] = json!({ "timeoutMs": 600_000 });
    let key = live.create(patient).await;
    let url = live.meta.deployments().deploy(&key).await.unwrap().url.to_string();
    let mut before = listen_for(&url, &json!(["asked://watched"])).await;
    next_message(&mut before).await;

    let described = |written: &ServerDefinition| {
        let mut described = written.clone();
        described.description = "New.".to_owned();
        Ok(described)
    };
    live.meta.servers().edit(&key, described).await.unwrap();
    let deployed = timeout(LIMIT, live.meta.deployments().deploy(&key)).await;
    deployed.expect("an open stream is not waited for").unwrap();
    let told = next_message(&mut before).await;
    assert_eq!((&told["id"], told["error"]["message"].is_string()), (&json!(1), true), "{told}");

    let mut after = listen_for(&url, &json!(["asked://watched"])).await;
    next_message(&mut after).await;
    request(&url, Era::Discover, "tools/call", &json!({ "name": "touch", "arguments": {} })).await.result();
    assert_eq!(next_message(&mut after).await["method"], "notifications/resources/updated");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sessions_there_is_nothing_to_open_or_delete() {
    let live = Live::open().await;
    let mut plain = definition();
    plain.as_object_mut().unwrap().remove("sessions");
    let url = live.deploy(plain).await.url.to_string();
    let params = initialize(&json!({}));
    let opened = prepare(&url, Era::Initialize, "initialize", &params).send().await.unwrap();
    assert_eq!(opened.headers().get("mcp-session-id"), None);
    assert!(Answer::of(opened).await.result()["capabilities"]["resources"]["subscribe"] != json!(true));
    assert_eq!(Http::new().get(&url).send().await.unwrap().status(), 405);
    assert_eq!(Http::new().delete(&url).send().await.unwrap().status(), 405);
    let touched = request(&url, Era::Initialize, "tools/call", &json!({ "name": "touch", "arguments": {} })).await;
    assert_eq!(touched.result()["content"][0]["text"], "touched");
    live.close().await;
}
