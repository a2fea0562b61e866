//! The reference server as hosts start it, and clients of it.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Long past anything that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// Tests are built to `deps/`, with the examples beside it.
pub(crate) fn example() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("meta_mcp_server")
}

pub(crate) fn toolchain() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")
}

/// The reference server as it is started; it ends with the value that spawning gives.
pub(crate) fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example());
    command.args(arguments).kill_on_drop(true);
    command.env("METAMCP_TOOLCHAIN_DIR", toolchain()).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn start(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}; build the examples", example().display()))
}

/// The server over HTTP, and what it printed.
pub(crate) struct Http {
    pub(crate) process: Child,
    pub(crate) url: String,
    pub(crate) admin_key: Option<String>,
}

impl Http {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[]).await
    }

    pub(crate) async fn start_with(data_dir: &Path, more: &[&str]) -> Self {
        let on_data = ["--data-dir", data_dir.to_str().unwrap()];
        Self::start_on(&[&on_data, more].concat(), &[]).await
    }

    /// Wherever the arguments and the environment say.
    pub(crate) async fn start_on(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = start(command(&[&["--http", "127.0.0.1:0"], arguments].concat(), environment));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut admin_key = None;
        loop {
            let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().expect("the server listens");
            if let Some(key) = line.strip_prefix("admin key: ") {
                admin_key = Some(key.to_owned());
            }
            if let Some(url) = line.strip_prefix("listening on ") {
                return Self { process, url: url.to_owned(), admin_key };
            }
        }
    }

    pub(crate) async fn connect(&self, key: &str) -> Client {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        config.auth_header = Some(key.to_owned());
        let transport = StreamableHttpClientTransport::with_client(reqwest::Client::new(), config);
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        Client(
            client()
                .serve_with_lifecycle(transport, ClientLifecycleMode::Discover { preferred_versions })
                .await
                .unwrap(),
        )
    }

    /// Ends it as a terminal or a service manager does.
    pub(crate) async fn end(mut self) {
        let id = self.process.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(sent.success());
        let status = timeout(LIMIT, self.process.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// A host that speaks with the server it started.
pub(crate) struct Host {
    pub(crate) process: Child,
    pub(crate) client: Client,
}

/// A client that has met the server.
pub(crate) struct Client(pub(crate) RunningService<RoleClient, ClientConfig>);

fn client() -> ClientConfig {
    ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-test", "1.0.0"))
}

impl Host {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_as(command(&["--stdio", "--data-dir", data_dir.to_str().unwrap()], &[])).await
    }

    /// However the command says.
    pub(crate) async fn start_as(command: Command) -> Self {
        let mut process = start(command);
        let pipes = (process.stdout.take().unwrap(), process.stdin.take().unwrap());
        let client = timeout(LIMIT, client().serve_with_lifecycle(pipes, ClientLifecycleMode::Initialize));
        Self { process, client: Client(client.await.unwrap().unwrap()) }
    }

    /// Ends the session as hosts do, and waits for the process.
    pub(crate) async fn end(mut self) {
        self.client.0.cancel().await.unwrap();
        let status = timeout(LIMIT, self.process.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Client {
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        timeout(LIMIT, self.0.call_tool(params)).await.unwrap().unwrap()
    }

    pub(crate) async fn data(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{tool}: {}", text(&result));
        result.structured_content.unwrap()
    }
}

pub(crate) fn text(result: &CallToolResult) -> String {
    let texts = result.content.iter().filter_map(|block| block.as_text());
    texts.map(|text| text.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// Where `.ci/run` installs what tests need.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools")
}

/// The JSON that a program of Node's prints.
pub(crate) async fn node(arguments: impl IntoIterator<Item = OsString>) -> Value {
    let mut command = Command::new("node");
    command.args(arguments).env("METAMCP_TOOLCHAIN_DIR", toolchain()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{problems}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{problems}"))
}
