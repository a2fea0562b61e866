//! What a body asks its client, in either era, and what else a definition says to clients of the newer one.
#![expect(deprecated, reason = "servers still ask for samples and roots, in the newest revision too")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use live::asking::definition;
use live::http::request;
use live::{Era, Live};
use metamcp_core::ErrorKind;
use reqwest::Client as Http;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, Implementation, ListRootsResult, ProtocolVersion, Root,
    SamplingMessage,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::json;

/// A client that answers what it is asked.
#[derive(Debug, Clone)]
struct Answering;

impl ClientHandler for Answering {
    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let asked = serde_json::to_value(&params.messages[0]).unwrap();
        let text = format!("hello {}", asked["content"]["text"].as_str().unwrap());
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text(text), "test".to_owned()))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///work")]))
    }

    fn get_info(&self) -> ClientConfig {
        let capabilities: ClientCapabilities =
            serde_json::from_value(json!({ "elicitation": {}, "sampling": {}, "roots": {} })).unwrap();
        ClientConfig::new(capabilities, Implementation::new("metamcp-test", "1.0.0"))
    }
}

async fn connect(url: &str, era: Era) -> RunningService<RoleClient, Answering> {
    let lifecycle = match era {
        Era::Initialize => ClientLifecycleMode::Initialize,
        Era::Discover => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(Http::new(), config);
    Answering.serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_asks_clients_of_both_eras_alike() {
    let live = Live::open().await;
    let deployment = live.deploy(definition()).await;
    for era in [Era::Initialize, Era::Discover] {
        let client = connect(deployment.url.as_str(), era).await;
        let call = |tool: &'static str| client.call_tool(CallToolRequestParams::new(tool));
        assert_eq!(live::text(&call("interview").await.unwrap()), "Ada: hello Ada in file:///work", "{era:?}");
        assert_eq!(live::text(&call("capabilities").await.unwrap()), r#"["elicitation","roots","sampling"]"#);
        client.cancel().await.unwrap();
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_meta_mcp_which_cannot_be_asked_is_told_who_can() {
    let live = Live::open().await;
    let deployment = live.deploy(definition()).await;
    let (deployments, key) = (live.meta.deployments(), deployment.server_id.into());
    let none = serde_json::Map::new;
    let called = deployments.call_tool(&key, "interview", none()).await.unwrap_err();
    let tested = deployments.test_tool(&key, "interview", none()).await.unwrap_err();
    for error in [called, tested] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("connect to its URL with a client that can be asked"), "{error}");
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_hints_and_completion_are_what_the_definition_says() {
    let live = Live::open().await;
    let url = live.deploy(definition()).await.url.to_string();
    let listed = request(&url, Era::Discover, "tools/list", &json!({})).await;
    assert_eq!((&listed.result()["ttlMs"], &listed.result()["cacheScope"]), (&json!(5000), &json!("public")));
    let read = request(&url, Era::Discover, "resources/read", &json!({ "uri": "asked://watched" })).await;
    assert_eq!((&read.result()["ttlMs"], &read.result()["cacheScope"]), (&json!(7), &json!("private")));
    let city = request(&url, Era::Discover, "resources/read", &json!({ "uri": "asked://city/Rome" })).await;
    assert_eq!(city.result()["ttlMs"], 0);
    for era in [Era::Initialize, Era::Discover] {
        let params = json!({
            "ref": { "type": "ref/resource", "uri": "asked://city/{name}" },
            "argument": { "name": "name", "value": "r" }
        });
        let offered = request(&url, era, "completion/complete", &params).await;
        assert_eq!(offered.result()["completion"]["values"], json!(["Rome", "Riga"]));
    }
    let legacy = request(&url, Era::Initialize, "resources/read", &json!({ "uri": "asked://watched" })).await;
    assert_eq!(legacy.result().get("ttlMs"), None);
    live.close().await;
}
