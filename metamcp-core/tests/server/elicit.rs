//! A secret that a person types on a page, asked for by the client in either era.

use std::sync::Arc;
use std::time::Duration;

use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryRegistry};
use metamcp_core::server::{Access, HttpConfig, MetaMcpServer, serve_http};
use metamcp_core::{Backends, MetaMcp, MockPublisher, NewApiKey, Scope};
use reqwest::{RequestBuilder, StatusCode};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ClientRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability, ErrorData,
    Implementation, ProtocolVersion, UrlElicitationCapability,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RequestContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::text;

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(60);
const VALUE: &str = "two\nlines & more";

/// A person and the client that is used: agrees or not, then types.
#[derive(Debug, Clone)]
struct Person {
    says: ElicitationAction,
    pages: mpsc::UnboundedSender<String>,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let url = ElicitationCapability::default().with_url(UrlElicitationCapability::default());
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(url);
        ClientConfig::new(capabilities, Implementation::new("metamcp-test", "1.0.0"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::UrlElicitationParams { url, message, .. } = request else {
            panic!("secrets are not asked for in forms: {request:?}")
        };
        assert!(message.contains("vault") && message.contains("TOKEN"), "{message}");
        self.pages.send(url).unwrap();
        Ok(ElicitResult::new(self.says.clone()))
    }
}

type Connected = RunningService<RoleClient, Person>;

/// Meta-MCP with a server that declares a secret, which may be set to [`VALUE`] and nothing else, so often.
async fn vault(times: usize) -> MetaMcp {
    let mut publisher = MockPublisher::new();
    publisher
        .expect_set_secret()
        .withf(|_, name, value| name.as_str() == "TOKEN" && value.expose_secret() == VALUE)
        .times(times)
        .returning(|_, _, _| Ok(()));
    let meta = MetaMcp::new(Backends {
        registry: Arc::new(MemoryRegistry::new()),
        cache: Arc::new(MemoryKvCache::new()),
        builder: Arc::new(MemoryBuilder::new()),
        publisher: Arc::new(publisher),
    });
    let definition = json!({ "name": "vault", "description": "Has a secret.", "secrets": ["TOKEN"] });
    meta.servers().create(&serde_json::from_value(definition).unwrap()).await.unwrap();
    meta
}

fn eras() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions }]
}

/// A client on stdio, and the pages that it was shown.
async fn connect(
    meta: &MetaMcp,
    says: ElicitationAction,
    era: ClientLifecycleMode,
) -> (Connected, mpsc::UnboundedReceiver<String>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = MetaMcpServer::new(meta.clone(), Access::full("test"));
    tokio::spawn(async move { server.serve(theirs).await.unwrap().waiting().await });
    let (pages, shown) = mpsc::unbounded_channel();
    (Person { says, pages }.serve_with_lifecycle(ours, era).await.unwrap(), shown)
}

async fn set_secret(client: &Connected, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().cloned().unwrap();
    client.call_tool(CallToolRequestParams::new("set_secret").with_arguments(arguments)).await.unwrap()
}

fn token() -> Value {
    json!({ "serverId": "vault", "name": "TOKEN" })
}

/// The page's form, as a browser sends it.
fn form(page: &str, value: &str) -> RequestBuilder {
    let origin = page.rsplit_once('/').unwrap().0;
    let body: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("value", value).finish();
    reqwest::Client::new()
        .post(page)
        .header("origin", origin)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
}

#[tokio::test]
async fn a_person_types_a_secret_that_the_agent_does_not_see() {
    for era in eras() {
        let meta = vault(1).await;
        let (client, mut pages) = connect(&meta, ElicitationAction::Accept, era).await;
        let typing = async {
            let page = pages.recv().await.unwrap();
            let shown = reqwest::get(&page).await.unwrap();
            assert_eq!(shown.headers()["cache-control"], "no-store");
            assert!(shown.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
            let shown = shown.text().await.unwrap();
            assert!(shown.contains("TOKEN for the MCP server vault"), "{shown}");
            let sent = form(&page, "two\r\nlines & more").send().await.unwrap();
            assert_eq!(sent.status(), StatusCode::OK);
            assert!(!sent.text().await.unwrap().contains("lines"));
            page
        };
        let (answer, page) = tokio::join!(set_secret(&client, token()), typing);
        assert_eq!(answer.structured_content, Some(json!({ "success": true })), "{answer:?}");
        assert!(!format!("{answer:?}").contains("lines"));
        let log = meta.audit(10).await.unwrap();
        assert_eq!(log[0].action, "set_secret");
        assert!(form(&page, "another").send().await.is_err(), "the page works once");
    }
}

#[tokio::test]
async fn the_page_takes_nothing_but_its_own_form() {
    let meta = vault(1).await;
    let [era, _] = eras();
    let (client, mut pages) = connect(&meta, ElicitationAction::Accept, era).await;
    let typing = async {
        let page = pages.recv().await.unwrap();
        let (origin, _) = page.rsplit_once('/').unwrap();
        let foreign = form(&page, VALUE).build().unwrap();
        let with = |name: &'static str, value: &'static str| {
            let mut request = foreign.try_clone().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            reqwest::Client::new().execute(request)
        };
        let without_origin = {
            let mut request = foreign.try_clone().unwrap();
            request.headers_mut().remove("origin");
            reqwest::Client::new().execute(request)
        };
        for (refused, status) in [
            (with("origin", "http://evil.example").await, StatusCode::FORBIDDEN),
            (with("origin", "null").await, StatusCode::FORBIDDEN),
            (without_origin.await, StatusCode::FORBIDDEN),
            (with("host", "evil.example").await, StatusCode::FORBIDDEN),
            (with("content-type", "text/plain").await, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (form(&format!("{origin}/guessed"), VALUE).send().await, StatusCode::NOT_FOUND),
            (form(&page, "").send().await, StatusCode::BAD_REQUEST),
            (form(&page, &"x".repeat(70_000)).send().await, StatusCode::PAYLOAD_TOO_LARGE),
            (reqwest::Client::new().put(&page).send().await, StatusCode::METHOD_NOT_ALLOWED),
        ] {
            assert_eq!(refused.unwrap().status(), status);
        }
        assert_eq!(form(&page, VALUE).send().await.unwrap().status(), StatusCode::OK);
    };
    let (answer, ()) = tokio::join!(set_secret(&client, token()), typing);
    assert_ne!(answer.is_error, Some(true), "{answer:?}");
}

#[tokio::test]
async fn who_declines_or_puts_it_away_is_not_asked_further() {
    for (says, kind) in
        [(ElicitationAction::Decline, "permission_denied: "), (ElicitationAction::Cancel, "unavailable: ")]
    {
        for era in eras() {
            let meta = vault(0).await;
            let (client, mut pages) = connect(&meta, says.clone(), era).await;
            let said = text(&set_secret(&client, token()).await);
            assert!(said.starts_with(kind) && said.contains("TOKEN"), "{said}");
            assert!(reqwest::get(pages.recv().await.unwrap()).await.is_err(), "the page is gone");
            assert_eq!(meta.audit(10).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn the_page_closes_with_the_call_that_is_cancelled() {
    let meta = vault(0).await;
    let [era, _] = eras();
    let (client, mut pages) = connect(&meta, ElicitationAction::Accept, era).await;
    let call = CallToolRequestParams::new("set_secret").with_arguments(token().as_object().cloned().unwrap());
    let call = ClientRequest::CallToolRequest(CallToolRequest::new(call));
    let call = client.send_cancellable_request(call, PeerRequestOptions::no_options()).await.unwrap();
    let page = pages.recv().await.unwrap();
    assert!(reqwest::get(&page).await.is_ok());
    call.cancel(None).await.unwrap();
    timeout(LIMIT, async { while reqwest::get(&page).await.is_ok() {} }).await.expect("the page closes");
}

#[tokio::test]
async fn nobody_is_asked_for_what_cannot_be_set_nor_by_a_client_that_cannot_ask() {
    let meta = vault(0).await;
    for era in eras() {
        let (client, mut pages) = connect(&meta, ElicitationAction::Accept, era).await;
        for (arguments, kind) in [
            (json!({ "serverId": "vault", "name": "OTHER" }), "not_found: "),
            (json!({ "serverId": "valt", "name": "TOKEN" }), "not_found: "),
            (json!({ "serverId": "vault", "name": "no name" }), "not_found: "),
            (json!({ "serverId": "vault", "name": "TOKEN", "valu": "x" }), "invalid_arguments: "),
            (json!({ "serverId": "vault", "name": "TOKEN", "value": "x", "fromEnv": "Y" }), "invalid_definition: "),
        ] {
            let said = text(&set_secret(&client, arguments).await);
            assert!(said.starts_with(kind), "{said}");
        }
        assert!(pages.try_recv().is_err());
    }
    let plain = super::Client::connect(&meta, Access::full("test")).await;
    let said = plain.failure("set_secret", token()).await;
    assert!(said.starts_with("unsupported: ") && said.contains("elicitation by URL"), "{said}");
    assert!(said.contains("fromEnv (it offers none)"), "{said}");
}

#[tokio::test]
async fn an_answer_belongs_to_who_was_asked_and_to_nothing_else() {
    let meta = vault(0).await;
    let definition = json!({ "name": "other", "description": "Another.", "secrets": ["TOKEN"] });
    meta.servers().create(&serde_json::from_value(definition).unwrap()).await.unwrap();
    let [_, era] = eras();
    let (client, _pages) = connect(&meta, ElicitationAction::Accept, era).await;
    let forged = CallToolRequestParams::new("set_secret")
        .with_arguments(token().as_object().cloned().unwrap())
        .with_request_state("guessed");
    let said = text(&client.call_tool(forged).await.unwrap());
    assert!(said.starts_with("not_found: no page waits"), "{said}");

    // Sixteen questions may wait, each for its own secret.
    let ask = || CallToolRequestParams::new("set_secret").with_arguments(token().as_object().cloned().unwrap());
    let mut states = Vec::new();
    for _ in 0..16 {
        match client.call_tool_once(ask()).await.unwrap() {
            CallToolResponse::InputRequired(asked) => states.push(asked.request_state.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    let CallToolResponse::Complete(refused) = client.call_tool_once(ask()).await.unwrap() else { panic!("too many") };
    assert!(text(&refused).starts_with("limit_exceeded: "), "{refused:?}");
    let other = json!({ "serverId": "other", "name": "TOKEN" }).as_object().cloned().unwrap();
    let stolen = CallToolRequestParams::new("set_secret").with_arguments(other).with_request_state(&states[0]);
    let said = text(&client.call_tool(stolen).await.unwrap());
    assert!(said.starts_with("not_found: no page waits"), "{said}");
}

#[tokio::test]
async fn over_http_the_page_is_for_clients_of_this_machine() {
    let meta = vault(0).await;
    let admin = NewApiKey::new("test", [Scope::Admin]);
    let (_, key) = meta.api_keys().create(admin).await.unwrap();
    let config = HttpConfig::new().with_allowed_host("meta.example");
    let server = serve_http(meta, config).await.unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "set_secret", "arguments": token(),
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1.0.0" },
                "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } }
            }
        }
    });
    let ask = async |host: Option<&str>, forwarded: Option<&str>| {
        let mut request = reqwest::Client::new()
            .post(server.url().clone())
            .bearer_auth(key.expose_secret())
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "set_secret");
        for (name, value) in [("host", host), ("x-forwarded-for", forwarded)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.json(&call).send().await.unwrap().json::<Value>().await.unwrap()["result"].take()
    };
    let asked = ask(None, None).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let request = &asked["inputRequests"]["secret"];
    assert_eq!((&request["method"], &request["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
    assert!(request["params"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{asked}");
    for far in [ask(Some("meta.example"), None).await, ask(None, Some("203.0.113.7")).await] {
        let said = far["content"][0]["text"].as_str().unwrap();
        assert!(said.starts_with("unsupported: ") && said.contains("over a network"), "{said}");
    }
    server.close().await;
}
