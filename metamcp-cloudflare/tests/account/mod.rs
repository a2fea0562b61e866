//! An emulated account.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metamcp_cloudflare::{Client, CloudflareConfig, D1Executor, RetryPolicy};
use metamcp_cloudflare_emulator::{DockerConfig, Emulator, Options};
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use metamcp_core::{
    Artifact, ErrorKind, MetaMcp, Module, ModuleKind, ServerDefinition, ServerKey, ServerName, WorkerSettings,
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

/// An emulator of its own, and what its clients need to know.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) emulator: Emulator,
}

/// Any account: the emulator has one.
pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef";
/// The only token it accepts.
pub(crate) const TOKEN: &str = "emulator-token";

impl Account {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let options = Options {
            token: Some(TOKEN.to_owned()),
            toolchain_dir: Some(toolchain()),
            docker: docker_config(),
            ..options
        };
        Self { emulator: Emulator::start(options).await.unwrap() }
    }

    /// One that takes any token for its own.
    pub(crate) async fn start_open() -> Self {
        let options = Options { toolchain_dir: Some(toolchain()), ..Options::default() };
        Self { emulator: Emulator::start(options).await.unwrap() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }

    pub(crate) fn client_with(&self, token: &str) -> Client {
        Client::new(self.config_with(token)).unwrap()
    }

    pub(crate) fn config(&self) -> CloudflareConfig {
        self.config_with(TOKEN)
    }

    /// Puts a Worker there that somebody else has.
    pub(crate) async fn put_script(&self, path: &str) {
        let metadata = r#"{"main_module":"index.js","compatibility_date":"2026-11-01"}"#;
        let source = "export default { fetch: () => new Response('foreign') };";
        let module = Part::text(source).file_name("index.js").mime_str("application/javascript+module").unwrap();
        let form = Form::new().text("metadata", metadata).part("index.js", module);
        let url = format!("{}/accounts/{ID}/workers/{path}", self.emulator.base_url());
        let put = reqwest::Client::new().put(url).bearer_auth(TOKEN).multipart(form).send().await.unwrap();
        assert!(put.status().is_success());
    }

    /// Sets a secret as `wrangler secret put` does: a version of somebody else's, which is live at once.
    pub(crate) async fn put_secret(&self, script: &str, name: &str) {
        let url = format!("{}/accounts/{ID}/workers/scripts/{script}/secrets", self.emulator.base_url());
        let secret = json!({ "name": name, "text": "by hand", "type": "secret_text" }).to_string();
        let put = reqwest::Client::new().put(url).bearer_auth(TOKEN).header("content-type", "application/json");
        assert!(put.body(secret).send().await.unwrap().status().is_success());
    }

    /// Deploys an upload as `wrangler rollback` does; `back` counts from the newest one.
    pub(crate) async fn deploy_upload(&self, script: &str, back: usize) {
        let url = format!("{}/accounts/{ID}/workers/scripts/{script}", self.emulator.base_url());
        let http = reqwest::Client::new();
        let listed = http.get(format!("{url}/versions")).bearer_auth(TOKEN).send().await.unwrap();
        let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
        let upload = &listed["result"]["items"][back]["id"];
        let deployment =
            json!({ "strategy": "percentage", "versions": [{ "percentage": 100, "version_id": upload }] }).to_string();
        let post =
            http.post(format!("{url}/deployments")).bearer_auth(TOKEN).header("content-type", "application/json");
        assert!(post.body(deployment).send().await.unwrap().status().is_success());
    }

    pub(crate) async fn remove_script(&self, path: &str) {
        let url = format!("{}/accounts/{ID}/workers/{path}", self.emulator.base_url());
        let removed = reqwest::Client::new().delete(url).bearer_auth(TOKEN).send().await.unwrap();
        assert!(removed.status().is_success());
    }

    /// Runs SQL on the registry's database.
    pub(crate) async fn sql(&self, sql: &'static str) {
        let database = D1Executor::open(self.client(), "meta-mcp-db").await.unwrap();
        database.execute(vec![Statement::new(sql, [])]).await.unwrap();
    }

    pub(crate) fn config_with(&self, token: &str) -> CloudflareConfig {
        let config = CloudflareConfig::new(ID, token.into()).unwrap();
        let config = config.with_base_url(&self.emulator.base_url()).unwrap();
        let config = config.with_workers_dev_url(&self.emulator.workers_dev_url()).unwrap();
        let retry = RetryPolicy::new(4, Duration::from_secs(20));
        config.with_retry(retry).with_toolchain_dir(toolchain()).with_log_window(Duration::from_secs(30))
    }
}

/// The image named in `METAMCP_DOCKER_BASE_IMAGE`, for machines that reach no image registry.
pub(crate) fn docker_config() -> DockerConfig {
    let config = DockerConfig::default();
    match std::env::var("METAMCP_DOCKER_BASE_IMAGE") {
        Ok(image) => config.with_base_image(image),
        Err(_) => config,
    }
}

pub(crate) fn toolchain() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")
}

/// Status and challenge of an MCP server's answer to a caller with this `Authorization`.
pub(crate) async fn knock(url: &str, authorization: Option<&str>) -> (u16, Option<String>) {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",
        "capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(body);
    let request = match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), challenge)
}

/// A definition whose callers have to send its secret `TOKEN`.
pub(crate) fn closed_server(answer: &str) -> ServerDefinition {
    let tool = serde_json::json!({
        "name": "version", "description": "Its version.", "implementation": format!("return '{answer}';"),
        "examples": [{ "expected": answer }]
    });
    let auth = serde_json::json!({ "bearer": { "secret": "TOKEN" } });
    let definition = serde_json::json!({
        "name": "closed", "description": "Asks who is there.", "secrets": ["TOKEN"], "auth": auth, "tools": [tool]
    });
    serde_json::from_value(definition).unwrap()
}

/// A server that only lets in who knows its secret, seen from its first version to its removal.
pub(crate) async fn check_bearer(meta: &MetaMcp) {
    let key: ServerKey = "closed".parse().unwrap();
    let secret = || "TOKEN".parse().unwrap();
    meta.servers().create(&closed_server("one")).await.unwrap();
    let error = meta.deployments().deploy(&key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    meta.secrets().set(&key, &secret(), "s3cret".into()).await.unwrap();
    // Its examples were run: the publisher's own check gets in.
    let deployment = meta.deployments().deploy(&key).await.unwrap();
    assert!(deployment.verification.calls > 0);
    let url = deployment.url.as_str();
    for wrong in [None, Some("Bearer wrong"), Some("Bearer s3cret2"), Some("Basic s3cret")] {
        let (status, challenge) = knock(url, wrong).await;
        assert_eq!(status, 401, "{wrong:?}");
        assert!(challenge.unwrap().starts_with("Bearer"));
    }
    assert_eq!(knock(url, Some("Bearer s3cret")).await.0, 200);

    meta.servers().edit(&key, |_| Ok(closed_server("two"))).await.unwrap();
    meta.deployments().deploy(&key).await.unwrap();
    let answer = meta.deployments().call_tool(&key, "version", serde_json::Map::new()).await.unwrap();
    assert!(!answer.is_error);
    assert_eq!(knock(url, None).await.0, 401);
    meta.secrets().set(&key, &secret(), "changed".into()).await.unwrap();
    assert_eq!(knock(url, Some("Bearer s3cret")).await.0, 401);
    assert_eq!(knock(url, Some("Bearer changed")).await.0, 200);
    // Without its secret it is closed for all.
    meta.secrets().remove(&key, &secret()).await.unwrap();
    for any in [None, Some("Bearer changed"), Some("Bearer undefined")] {
        assert_eq!(knock(url, any).await.0, 503);
    }
    assert!(meta.deployments().verify(&key).await.is_err());
    meta.deployments().remove(&key).await.unwrap();
}

/// Another API token follows: what was checked with the old one is checked with it.
pub(crate) async fn check_new_token(with: impl AsyncFn(&str) -> MetaMcp) {
    let key: ServerKey = "closed".parse().unwrap();
    let meta = with("first-token").await;
    meta.servers().create(&closed_server("one")).await.unwrap();
    meta.secrets().set(&key, &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
    let first = meta.deployments().deploy(&key).await.unwrap();
    let meta = with("second-token").await;
    assert!(meta.deployments().verify(&key).await.is_err());
    meta.servers().edit(&key, |_| Ok(closed_server("two"))).await.unwrap();
    meta.deployments().deploy(&key).await.unwrap();
    meta.deployments().rollback(&key, &first.version).await.unwrap();
    assert!(meta.deployments().verify(&key).await.is_ok());
    assert_eq!(knock(first.url.as_str(), Some("Bearer s3cret")).await.0, 200);
}

/// An artifact that answers with a number, beside a module that is the same in all.
pub(crate) fn artifact(name: &ServerName, number: u32) -> Artifact {
    let module = |source: String| Module { kind: ModuleKind::EsModule, content: source.into() };
    let index = format!("import './runtime.js'; export default {{ fetch: () => new Response('{number}') }};");
    let runtime = format!("// {}\n", "large ".repeat(20_000));
    Artifact {
        modules: BTreeMap::from([("index.js".to_owned(), module(index)), ("runtime.js".to_owned(), module(runtime))]),
        main_module: "index.js".to_owned(),
        settings: WorkerSettings::new(name.clone()),
    }
}
