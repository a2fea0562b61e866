//! What the tests of the publisher and its gateway share: small Workers, and a publisher over a temporary folder.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Artifact, Endpoint, Module, ModuleKind, Publisher, ServerId, ServerRef, VersionId, WorkerSettings};
use metamcp_local::{DataDirectory, LocalConfig, WorkerdConfig, WorkerdPublisher};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The pinned toolchain, installed once for all test binaries.
pub(crate) async fn toolchain() -> Toolchain {
    Toolchain::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")).await.unwrap()
}

/// A publisher over a folder of its own.
pub(crate) struct Local {
    pub(crate) folder: TempDir,
    pub(crate) config: LocalConfig,
    pub(crate) publisher: Arc<WorkerdPublisher>,
}

impl Local {
    pub(crate) async fn open() -> Self {
        Self::open_with(|config| config).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(LocalConfig) -> LocalConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = change(LocalConfig::new(folder.path().join("data")));
        let publisher = open(&config).await.unwrap();
        Self { folder, config, publisher }
    }

    /// Stages and activates a Worker of this source.
    pub(crate) async fn deploy(&self, server: &ServerRef, source: &str) -> (VersionId, Endpoint) {
        self.deploy_artifact(server, &artifact(server, source)).await
    }

    pub(crate) async fn deploy_artifact(&self, server: &ServerRef, artifact: &Artifact) -> (VersionId, Endpoint) {
        let staged = self.publisher.stage(server, artifact).await.unwrap();
        let endpoint = self.publisher.activate(server, &staged.version).await.unwrap();
        (staged.version, endpoint)
    }

    /// Everything in the data directory, relative, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.config.data_dir.canonicalize().unwrap();
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                found.push(path.strip_prefix(&root).unwrap().display().to_string());
            }
        }
        found.sort();
        found
    }
}

pub(crate) async fn open(config: &LocalConfig) -> metamcp_core::Result<Arc<WorkerdPublisher>> {
    let directory = Arc::new(DataDirectory::open(&config.data_dir)?);
    WorkerdPublisher::open(WorkerdConfig { workerd: toolchain().await.workerd(), directory, local: config.clone() })
        .await
}

pub(crate) fn server(name: &str) -> ServerRef {
    ServerRef { id: ServerId::random(), name: name.parse().unwrap() }
}

/// A Worker of one module with default settings.
pub(crate) fn artifact(server: &ServerRef, source: &str) -> Artifact {
    let module = Module { kind: ModuleKind::EsModule, content: source.to_owned().into() };
    Artifact {
        modules: BTreeMap::from([("index.js".to_owned(), module)]),
        main_module: "index.js".to_owned(),
        settings: settings(server),
    }
}

pub(crate) fn settings(server: &ServerRef) -> WorkerSettings {
    WorkerSettings::new(server.name.clone())
}

/// A Worker whose tools are the given JavaScript methods of one object, each `(arguments, env, request)`.
pub(crate) fn worker(tools: &str) -> String {
    format!(
        r#"
        const tools = {{ {tools} }};
        export default {{
          async fetch(request, env) {{
            if (new URL(request.url).pathname === "/health") return new Response("ok");
            const message = await request.json();
            try {{
              const result = await tools[message.params.name](message.params.arguments ?? {{}}, env, request);
              if (result instanceof Response) return result;
              return Response.json({{ jsonrpc: "2.0", id: message.id, result }});
            }} catch (error) {{
              return Response.json({{ jsonrpc: "2.0", id: message.id, error: {{ code: 1, message: String(error) }} }});
            }}
          }},
        }};"#
    )
}

/// The JSON-RPC message of a tool call.
pub(crate) fn call_message(tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// Calls a tool over HTTP and returns the whole JSON-RPC answer.
pub(crate) async fn call(endpoint: &Endpoint, tool: &str, arguments: Value) -> Value {
    let response = reqwest::Client::new()
        .post(endpoint.url.clone())
        .json(&call_message(tool, &arguments))
        .send()
        .await
        .expect("the gateway answers");
    response.json().await.expect("the answer is JSON")
}

/// Message of the JSON-RPC error in an answer.
pub(crate) fn error_message(answer: &Value) -> &str {
    assert_eq!(answer["id"], 7, "{answer}");
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("an error was expected: {answer}"))
}

/// Ids of running processes whose command line names this folder.
pub(crate) fn processes_of(config: &LocalConfig) -> Vec<i32> {
    let folder = config.data_dir.canonicalize().unwrap().display().to_string();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&folder) && pid != i32::try_from(std::process::id()).unwrap() {
            pids.push(pid);
        }
    }
    pids
}

/// Kills the workerd processes that serve this folder, as the system does for want of memory.
pub(crate) fn kill_workerd(config: &LocalConfig) {
    for pid in processes_of(config) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "workerd" {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
        }
    }
}
