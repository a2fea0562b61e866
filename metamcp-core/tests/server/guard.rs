//! The guard before the HTTP endpoint, from outside: every answer it has.

use std::num::NonZeroU32;
use std::time::Duration;

use metamcp_core::server::{Authentication, HttpConfig, HttpServer, serve_http};
use metamcp_core::{ErrorKind, MetaMcp, NewApiKey, Scope};
use reqwest::{Client, RequestBuilder, Response};
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::memory;

/// Long past anything that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Guarded {
    pub(crate) meta: MetaMcp,
    pub(crate) server: HttpServer,
    pub(crate) http: Client,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        Self::start_with(HttpConfig::new()).await
    }

    pub(crate) async fn start_with(config: HttpConfig) -> Self {
        let meta = memory::meta().await;
        let server = serve_http(meta.clone(), config).await.unwrap();
        Self { meta, server, http: Client::new() }
    }

    pub(crate) async fn key(&self, scopes: &[Scope]) -> (Uuid, SecretString) {
        self.make_key(NewApiKey::new("test", scopes)).await
    }

    pub(crate) async fn make_key(&self, new: NewApiKey) -> (Uuid, SecretString) {
        let (record, key) = self.meta.api_keys().create(new).await.unwrap();
        (record.id, key)
    }

    pub(crate) fn post(&self, key: &str, body: &Value) -> RequestBuilder {
        self.http
            .post(self.server.url().clone())
            .bearer_auth(key)
            .header("accept", "application/json, text/event-stream")
            .json(body)
    }

    pub(crate) async fn call(&self, key: &SecretString, tool: &str, arguments: Value) -> Response {
        self.post(key.expose_secret(), &call_message(tool, &arguments)).send().await.unwrap()
    }
}

pub(crate) fn call_message(tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn who_has_no_valid_key_is_told_how_to_send_one() {
    let guarded = Guarded::start().await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let without = guarded.http.post(guarded.server.url().clone()).json(&list).send().await.unwrap();
    assert_eq!((without.status().as_u16(), header(&without, "www-authenticate")), (401, "Bearer realm=\"meta-mcp\""));

    let (id, revoked) = guarded.key(&[Scope::Read]).await;
    guarded.meta.api_keys().revoke(id).await.unwrap();
    let wrong = (0..1_000).map(|n| format!("mmk_{n}")).chain([revoked.expose_secret().to_owned()]);
    for key in wrong {
        let response = guarded.post(&key, &list).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 401, "{key}");
        assert!(header(&response, "www-authenticate").contains("error=\"invalid_token\""));
    }
    // A key in the URL is none.
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let mut url = guarded.server.url().clone();
    url.set_query(Some(&format!("access_token={}", key.expose_secret())));
    assert_eq!(guarded.http.post(url).json(&list).send().await.unwrap().status().as_u16(), 401);
    assert_eq!(guarded.post(key.expose_secret(), &list).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_scope_too_low_is_a_403_that_names_the_scope_on_every_tool() {
    let guarded = Guarded::start().await;
    let (_, admin) = guarded.key(&[Scope::Admin]).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let listed = |key: &SecretString| guarded.post(key.expose_secret(), &list).send();
    let names = async |key: &SecretString| -> Vec<String> {
        let answer: Value = listed(key).await.unwrap().json().await.unwrap();
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(&admin).await;
    for scope in Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin) {
        let (_, key) = guarded.key(&[scope]).await;
        let offered = names(&key).await;
        for tool in &all {
            let response = guarded.call(&key, tool, json!({})).await;
            let status = response.status().as_u16();
            let challenge = header(&response, "www-authenticate").to_owned();
            let text = response.text().await.unwrap();
            assert_eq!(status, if offered.contains(tool) { 200 } else { 403 }, "{tool} with {scope}: {text}");
            if status == 403 {
                assert!(text.contains(&format!("{tool} needs scope ")), "{text}");
                assert!(challenge.contains("error=\"insufficient_scope\", scope=\""), "{challenge}");
            }
        }
    }
}

#[tokio::test]
async fn a_scope_too_low_is_a_403_on_every_method_that_reads() {
    let guarded = Guarded::start().await;
    let (_, reader) = guarded.key(&[Scope::Read]).await;
    let (_, caller) = guarded.key(&[Scope::Call, Scope::Write, Scope::Deploy, Scope::Exec]).await;
    for (method, needs_read) in [
        ("resources/list", true),
        ("resources/templates/list", true),
        ("resources/read", true),
        ("tools/list", false),
        ("prompts/list", false),
        ("ping", false),
    ] {
        let message =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "uri": "metamcp://servers/none" } });
        let refused = guarded.post(caller.expose_secret(), &message).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), if needs_read { 403 } else { 200 }, "{method}");
        if needs_read {
            let challenge = "Bearer realm=\"meta-mcp\", error=\"insufficient_scope\", scope=\"read\"";
            assert_eq!(header(&refused, "www-authenticate"), challenge);
            assert!(refused.text().await.unwrap().contains(&format!("{method} needs scope read")));
        }
        let allowed = guarded.post(reader.expose_secret(), &message).send().await.unwrap();
        assert_eq!(allowed.status().as_u16(), 200, "{method}");
    }
}

#[tokio::test]
async fn a_key_for_some_servers_sees_no_others() {
    let guarded = Guarded::start().await;
    let (_, admin) = guarded.key(&[Scope::Admin]).await;
    let mut team = NewApiKey::new("team", [Scope::Admin]);
    team.servers = vec!["team-*".into()];
    let (_, team) = guarded.make_key(team).await;
    let mut ids = Vec::new();
    for name in ["team-a", "other"] {
        let response =
            guarded.call(&admin, "init_mcp_server", json!({ "name": name, "description": "A server." })).await;
        let answer: Value = response.json().await.unwrap();
        ids.push(answer["result"]["structuredContent"]["serverId"].clone());
    }
    let listed = guarded.call(&team, "list_mcp_servers", json!({})).await.text().await.unwrap();
    assert!(listed.contains("team-a") && !listed.contains("other"), "{listed}");
    for (tool, arguments) in [
        ("get_mcp_server_details", json!({ "serverId": "other" })),
        ("get_mcp_server_details", json!({ "serverId": ids[1] })),
        ("init_mcp_server", json!({ "name": "another", "description": "A server." })),
        ("import_server", json!({ "definition": { "name": "another", "description": "A server." } })),
        ("cleanup_old_servers", json!({})),
        ("create_api_key", json!({ "name": "more", "scopes": ["admin"] })),
        ("list_audit_log", json!({})),
    ] {
        let said = guarded.call(&team, tool, arguments).await.text().await.unwrap();
        assert!(said.contains("permission_denied: "), "{tool}: {said}");
    }
    let own = guarded.call(&team, "get_mcp_server_details", json!({ "serverId": ids[0] })).await.text().await.unwrap();
    assert!(own.contains("\"isError\":false") || !own.contains("isError"), "{own}");
}

#[tokio::test]
async fn too_many_requests_of_one_key_wait_and_others_do_not() {
    let few = NonZeroU32::new(3).unwrap();
    let guarded = Guarded::start_with(HttpConfig::new().with_requests_per_minute(few)).await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let (_, other) = guarded.key(&[Scope::Read]).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let response = guarded.call(&key, "list_templates", json!({})).await;
        statuses.push(response.status().as_u16());
        if statuses.len() == 4 {
            let seconds: u64 = header(&response, "retry-after").parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(guarded.call(&other, "list_templates", json!({})).await.status().as_u16(), 200);
}

#[tokio::test]
async fn large_and_slow_bodies_are_cut_off() {
    let guarded = Guarded::start_with(HttpConfig::new().with_body_limits(10_000, LIMIT)).await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let large = json!({ "query": "x".repeat(20_000) });
    assert_eq!(guarded.call(&key, "search_mcp_tools", large).await.status().as_u16(), 413);

    let guarded = Guarded::start_with(HttpConfig::new().with_body_limits(10_000, Duration::from_millis(300))).await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let address = guarded.server.url().socket_addrs(|| None).unwrap()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        key.expose_secret()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn web_pages_and_rebound_names_stay_outside() {
    let guarded = Guarded::start_with(HttpConfig::new().with_allowed_origin("https://app.example.com:443")).await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let message = call_message("list_templates", &json!({}));
    for (name, value, expected) in [
        ("host", "evil.example.com", 403),
        ("origin", "https://evil.example.com", 403),
        ("origin", "null", 403),
        ("origin", "https://app.example.com", 200),
        ("origin", guarded.server.url().origin().ascii_serialization().as_str(), 200),
    ] {
        let response = guarded.post(key.expose_secret(), &message).header(name, value).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_its_streams() {
    let guarded = Guarded::start().await;
    let (id, key) = guarded.key(&[Scope::Write, Scope::Deploy]).await;
    // The probe hangs, so that the deployment does; what it did so far is reported on the answer's stream.
    let definition = json!({
        "name": "slow", "description": "Hangs.", "probe": { "tool": "hang" },
        "tools": [{ "name": "hang", "description": "Hangs.", "implementation": "return 'hang';" }]
    });
    guarded.call(&key, "import_server", json!({ "definition": definition })).await;
    let mut message = call_message("deploy_mcp_server", &json!({ "serverId": "slow" }));
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    let mut stream = guarded.post(key.expose_secret(), &message).send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    let first = timeout(LIMIT, stream.chunk()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("deploying revision 1"));
    guarded.meta.api_keys().revoke(id).await.unwrap();
    // As promised; the deployment itself would hang for longer.
    timeout(Duration::from_secs(5), async { while stream.chunk().await.unwrap().is_some() {} }).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_a_call_that_has_not_answered() {
    let guarded = Guarded::start().await;
    let (id, key) = guarded.key(&[Scope::Admin]).await;
    let definition = json!({
        "name": "slow", "description": "Hangs.",
        "tools": [{ "name": "wait", "description": "Hangs.", "implementation": "return 'hang';" }]
    });
    guarded.call(&key, "import_server", json!({ "definition": definition })).await;
    let call = guarded.call(&key, "test_mcp_tool", json!({ "serverId": "slow", "toolName": "wait" }));
    let revoke = async {
        // Code that runs is in the audit log before it does.
        while guarded.meta.audit(1).await.unwrap()[0].action != "test_mcp_tool" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        guarded.meta.api_keys().revoke(id).await.unwrap();
    };
    let (response, ()) = timeout(LIMIT, async { tokio::join!(call, revoke) }).await.unwrap();
    assert_eq!(response.status().as_u16(), 401);
}

#[tokio::test]
async fn clients_of_both_eras_come_through() {
    let guarded = Guarded::start().await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let discover = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, discover] {
        let mut config = StreamableHttpClientTransportConfig::with_uri(guarded.server.url().as_str());
        config.auth_header = Some(key.expose_secret().to_owned());
        let transport = StreamableHttpClientTransport::with_client(guarded.http.clone(), config);
        let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-test", "1.0.0"));
        let client = super::Client(client.serve_with_lifecycle(transport, lifecycle).await.unwrap());
        client.data("list_templates", json!({})).await;
    }
}

#[tokio::test]
async fn nobody_is_served_on_a_public_address_without_a_key() {
    let meta = memory::meta().await;
    let public = HttpConfig::new().with_listen("0.0.0.0:0".parse().unwrap());
    let open = public.clone().with_authentication(Authentication::None);
    for (config, help) in [(public.clone(), "make such a key first"), (open.clone(), "have callers need an API key")] {
        let error = serve_http(meta.clone(), config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains("can be reached by others"), "{error}");
        assert!(error.help().unwrap().starts_with(help), "{error}");
    }
    // Keys that are over or cannot do everything are not enough.
    let admin = NewApiKey::new("a", [Scope::Admin]);
    let (revoked, _) = meta.api_keys().create(admin.clone()).await.unwrap();
    meta.api_keys().revoke(revoked.id).await.unwrap();
    meta.api_keys().create(NewApiKey::new("a", [Scope::Read])).await.unwrap();
    assert_eq!(serve_http(meta.clone(), public.clone()).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
    meta.api_keys().create(admin).await.unwrap();
    serve_http(meta.clone(), public).await.unwrap().close().await;
    assert!(serve_http(meta, open).await.is_err());
}
