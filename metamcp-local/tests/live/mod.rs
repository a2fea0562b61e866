//! What the end-to-end tests share: Meta-MCP over a temporary folder, and clients of both protocol eras.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(deprecated, reason = "servers still log to clients, in the newest revision too")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

pub(crate) mod asking;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod project;
pub(crate) mod witness;

use std::path::Path;
use std::sync::{Arc, Mutex};

use metamcp_core::{Deployment, MetaMcp, ServerDefinition, ServerKey};
use metamcp_local::LocalConfig;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientConfig, GetPromptRequestParams, Implementation,
    LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, NotificationContext, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// Meta-MCP on this machine, over a folder of its own.
pub(crate) struct Live {
    pub(crate) meta: MetaMcp,
    pub(crate) config: LocalConfig,
    /// After `meta`: what runs ends before its files go.
    folder: TempDir,
}

impl Live {
    pub(crate) async fn open() -> Self {
        Self::open_with(|config| config).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(LocalConfig) -> LocalConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain");
        let config = change(LocalConfig::new(folder.path().join("data")).with_toolchain_dir(toolchain));
        let meta = metamcp_local::open(config.clone()).await.unwrap();
        Self { meta, config, folder }
    }

    /// Stops everything, does nothing for as long as `down` takes, and opens the same folder again.
    pub(crate) async fn reopen_after(self, down: impl Future<Output = ()>) -> Self {
        let Self { meta, config, folder } = self;
        meta.close().await.unwrap();
        drop(meta);
        down.await;
        let meta = metamcp_local::open(config.clone()).await.unwrap();
        Self { meta, config, folder }
    }

    pub(crate) async fn create(&self, definition: Value) -> ServerKey {
        let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
        let record = self.meta.servers().create(&definition).await.unwrap_or_else(|error| panic!("{error}"));
        record.id.into()
    }

    pub(crate) async fn deploy(&self, definition: Value) -> Deployment {
        let key = self.create(definition).await;
        self.meta.deployments().deploy(&key).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops everything and waits for it.
    pub(crate) async fn close(self) {
        self.meta.close().await.unwrap();
    }
}

/// How a client meets its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize`, as the 2025 revisions do.
    Initialize,
    /// `server/discover`, as revision 2026-07-28 does.
    Discover,
}

pub(crate) const ERAS: [Era; 2] = [Era::Initialize, Era::Discover];

impl Era {
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Initialize => "2025-11-25",
            Self::Discover => "2026-07-28",
        }
    }
}

/// A connected rmcp client, and the notifications it received.
pub(crate) struct Client {
    pub(crate) service: RunningService<RoleClient, Recorder>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    received: Arc<Mutex<Vec<Value>>>,
}

impl ClientHandler for Recorder {
    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.received.lock().unwrap().push(serde_json::to_value(params).unwrap());
    }

    async fn on_logging_message(&self, params: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        self.received.lock().unwrap().push(serde_json::to_value(params).unwrap());
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(rmcp::model::ClientCapabilities::default(), Implementation::new("metamcp-test", "1.0.0"))
    }
}

impl Client {
    pub(crate) async fn connect(url: impl AsRef<str>, era: Era) -> Self {
        Self::try_connect(url, era, None).await.unwrap()
    }

    pub(crate) async fn try_connect(
        url: impl AsRef<str>,
        era: Era,
        token: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let lifecycle = match era {
            Era::Initialize => ClientLifecycleMode::Initialize,
            Era::Discover => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_ref());
        config.auth_header = token.map(str::to_owned);
        let transport = StreamableHttpClientTransport::with_client(reqwest::Client::new(), config);
        Ok(Self { service: Recorder::default().serve_with_lifecycle(transport, lifecycle).await? })
    }

    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> Result<CallToolResult, ServiceError> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(object(arguments));
        self.service.call_tool(params).await
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        self.try_call(tool, arguments).await.unwrap_or_else(|error| panic!("{tool}: {error}"))
    }

    /// The text of a call that has to succeed.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{tool}: {}", text(&result));
        text(&result)
    }

    /// What a call that has to fail says: as a tool's error, or as one of the protocol where its server could not
    /// answer any more.
    pub(crate) async fn failure(&self, tool: &str, arguments: Value) -> String {
        match self.try_call(tool, arguments).await {
            Ok(result) => {
                assert_eq!(result.is_error, Some(true), "{tool} answers {}", text(&result));
                text(&result)
            }
            Err(ServiceError::McpError(error)) => error.message.into_owned(),
            Err(error) => panic!("{tool} ends with no answer: {error}"),
        }
    }

    /// `resources/read`, as JSON.
    pub(crate) async fn read(&self, uri: &str) -> Result<Value, ServiceError> {
        let result = self.service.read_resource(ReadResourceRequestParams::new(uri)).await?;
        Ok(serde_json::to_value(result.contents).unwrap())
    }

    /// `prompts/get`, as JSON.
    pub(crate) async fn prompt(&self, name: &str, arguments: Value) -> Result<Value, ServiceError> {
        let params = GetPromptRequestParams::new(name).with_arguments(object(arguments));
        Ok(serde_json::to_value(self.service.get_prompt(params).await?.messages).unwrap())
    }

    pub(crate) fn notifications(&self) -> Vec<Value> {
        self.service.service().received.lock().unwrap().clone()
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// The text of a result's only block.
pub(crate) fn text(result: &CallToolResult) -> String {
    let [block] = result.content.as_slice() else { panic!("one block was expected: {result:?}") };
    block.as_text().unwrap_or_else(|| panic!("text was expected: {result:?}")).text.clone()
}

/// Code and message of an error of the protocol.
pub(crate) fn protocol_error<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> (i32, String) {
    match result {
        Err(ServiceError::McpError(error)) => (error.code.0, error.message.into_owned()),
        other => panic!("an error of the protocol was expected: {other:?}"),
    }
}
