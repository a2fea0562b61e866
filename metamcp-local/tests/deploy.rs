//! The pipeline on the local target: what callers see of deploys, rollbacks, races and failures.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::StreamExt;
use metamcp_core::registry::{DeploymentStep, ListOptions, RecordStatus};
use metamcp_core::{
    CleanupMode, CleanupOptions, DeployEvent, Deployment, ErrorKind, EventSink, MetaMcp, Result, ServerDefinition,
    ServerKey,
};
use metamcp_local::LocalConfig;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

fn config(folder: &TempDir) -> LocalConfig {
    LocalConfig::new(folder.path()).with_toolchain_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain"))
}

async fn open(folder: &TempDir) -> MetaMcp {
    metamcp_local::open(config(folder)).await.unwrap()
}

fn definition(name: &str, answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": name, "description": "Says which version it is.",
        "tools": [{
            "name": "version", "description": "Its version.",
            "implementation": format!("return '{answer}';"),
            "examples": [{ "expected": answer }]
        }]
    }))
    .unwrap()
}

fn key(name: &str) -> ServerKey {
    name.parse().unwrap()
}

async fn deploy_new(meta: &MetaMcp, definition: &ServerDefinition) -> Deployment {
    let record = meta.servers().create(definition).await.unwrap();
    meta.deployments().deploy(&record.id.into()).await.unwrap()
}

async fn change(meta: &MetaMcp, to: ServerDefinition) {
    meta.servers().edit(&key(&to.name.clone()), |_| Ok(to.clone())).await.unwrap();
}

async fn ask(url: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await?;
    let result = client.call_tool(CallToolRequestParams::new("version")).await?;
    client.cancel().await?;
    let text = result.content[0].as_text().ok_or("no text")?.text.clone();
    if result.is_error == Some(true) { Err(text.into()) } else { Ok(text) }
}

/// Asks without a pause until it is stopped; every failure and every answer that is not allowed counts.
struct Traffic {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    task: JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(url: String, allowed: &'static [&'static str]) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, count) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match ask(&url).await {
                    Ok(answer) if allowed.contains(&answer.as_str()) => {}
                    Ok(answer) => failures.push(format!("answered {answer}")),
                    Err(error) => failures.push(error.to_string()),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        Self { stop, asked, task }
    }

    async fn end(self) {
        // At least one request began after whatever was tried.
        let seen = self.asked.load(Ordering::Relaxed);
        while self.asked.load(Ordering::Relaxed) < seen + 2 {
            tokio::task::yield_now().await;
        }
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.task.await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_deploy_switches_without_a_failed_request() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let first = deploy_new(&meta, &definition("busy", "one")).await;
    let traffic = Traffic::start(first.url.to_string(), &["one", "two"]);
    change(&meta, definition("busy", "two")).await;
    let second = meta.deployments().deploy(&key("busy")).await.unwrap();
    assert_eq!(second.url, first.url);
    assert_eq!(ask(second.url.as_str()).await.unwrap(), "two");
    traffic.end().await;
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_its_example_never_goes_live() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let first = deploy_new(&meta, &definition("steady", "one")).await;
    let traffic = Traffic::start(first.url.to_string(), &["one"]);
    let mut wrong = definition("steady", "two");
    wrong.tools[0].examples[0].expected = Value::from("three");
    change(&meta, wrong).await;
    let error = meta.deployments().deploy(&key("steady")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert!(error.message().contains("version") && error.message().contains("three"), "{error}");
    traffic.end().await;

    let record = meta.servers().get(&key("steady")).await.unwrap();
    assert_eq!((record.status, record.live.unwrap().version), (RecordStatus::Deployed, first.version.clone()));
    let versions = meta.deployments().versions(&key("steady")).await.unwrap();
    assert_eq!(versions.iter().map(|version| &version.version).collect::<Vec<_>>(), [&first.version]);
    let history = meta.deployments().history(&key("steady"), 10).await.unwrap();
    assert_eq!(history[0].step, DeploymentStep::Failed);
    assert!(history[0].error.as_ref().unwrap().contains("three"));
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_fails_its_example_tells_its_line() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let mut broken = definition("broken", "one");
    // The example that is run before activation meets a body that only fails when it runs.
    broken.tools[0].implementation = "return missing.value;".into();
    meta.servers().create(&broken).await.unwrap();
    let error = meta.deployments().deploy(&key("broken")).await.unwrap_err();
    assert!(error.message().contains("missing is not defined") && error.message().contains("line 1"), "{error}");
    let record = meta.servers().get(&key("broken")).await.unwrap();
    assert_eq!((record.status, record.live), (RecordStatus::Draft, None));
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deploys_at_once_one_waits_for_the_other_and_finds_it_live() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    meta.servers().create(&definition("contested", "one")).await.unwrap();
    let (key_one, deployments) = (key("contested"), meta.deployments());
    let (left, right) = tokio::join!(deployments.deploy(&key_one), deployments.deploy(&key_one));
    let (left, right) = (left.unwrap(), right.unwrap());
    assert_eq!((left.version, left.url), (right.version, right.url.clone()));
    assert_eq!(ask(right.url.as_str()).await.unwrap(), "one");
    assert_eq!(meta.deployments().versions(&key_one).await.unwrap().len(), 1);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_program_on_a_data_directory_hears_who_owns_it() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let error = metamcp_local::open(config(&folder)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_back_restores_behaviour_and_keeps_the_working_definition() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let first = deploy_new(&meta, &definition("turning", "one")).await;
    change(&meta, definition("turning", "two")).await;
    meta.deployments().deploy(&key("turning")).await.unwrap();
    let back = meta.deployments().rollback(&key("turning"), &first.version).await.unwrap();
    assert_eq!(ask(back.url.as_str()).await.unwrap(), "one");
    let record = meta.servers().get(&key("turning")).await.unwrap();
    assert_eq!((record.revision.0, record.live.unwrap().revision.0), (2, 1));
    assert_eq!(record.definition, definition("turning", "two"));
    let unknown = meta.deployments().rollback(&key("turning"), &"nothing".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_server_is_served_at_the_same_url_after_reopening() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let first = deploy_new(&meta, &definition("lasting", "one")).await;
    meta.close().await.unwrap();
    drop(meta);
    let meta = open(&folder).await;
    assert_eq!(ask(first.url.as_str()).await.unwrap(), "one");
    meta.deployments().verify(&key("lasting")).await.unwrap();
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploying_what_is_live_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let first = deploy_new(&meta, &definition("same", "one")).await;
    let (sink, events) = EventSink::channel();
    let again = meta.deployments().deploy_with_events(&key("same"), sink).await.unwrap();
    assert_eq!(again.version, first.version);
    let events: Vec<_> = events.collect().await;
    assert!(matches!(events.last(), Some(DeployEvent::Unchanged { .. })), "{events:?}");
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_reports_its_steps_in_order() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    meta.servers().create(&definition("told", "one")).await.unwrap();
    let (sink, events) = EventSink::channel();
    meta.deployments().deploy_with_events(&key("told"), sink).await.unwrap();
    let names: Vec<_> =
        events.map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()).collect().await;
    assert_eq!(names, ["started", "generated", "built", "staged", "verified", "activated", "confirmed"]);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleanup_only_tells_unless_it_is_told_to_remove() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let url = deploy_new(&meta, &definition("old", "one")).await.url;
    let young = meta.deployments().cleanup_old_servers(CleanupOptions::default()).await.unwrap();
    assert_eq!(young.found, []);
    let mut everything = CleanupOptions::default();
    everything.older_than = std::time::Duration::ZERO;
    // A change of this very millisecond is not yet in the past.
    let told = loop {
        let told = meta.deployments().cleanup_old_servers(everything).await.unwrap();
        if !told.found.is_empty() {
            break told;
        }
    };
    assert_eq!((told.found.len(), told.removed.len()), (1, 0));
    assert_eq!(ask(url.as_str()).await.unwrap(), "one");
    everything.mode = CleanupMode::Remove;
    let removed = meta.deployments().cleanup_old_servers(everything).await.unwrap();
    assert_eq!(removed.removed, removed.found);
    assert!(ask(url.as_str()).await.is_err());
    assert_eq!(meta.servers().list(&ListOptions::default()).await.unwrap().items, []);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_with_mistakes_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let mut wrong = definition("wrong", "one");
    wrong.tools[0].implementation = "return (".into();
    wrong.version = "one".into();
    let error = meta.servers().create(&wrong).await.unwrap_err();
    let pointers: Vec<_> = error.validation().unwrap().problems().iter().map(|problem| &*problem.pointer).collect();
    assert_eq!(pointers, ["/version", "/tools/0/implementation"]);
    assert_eq!(meta.servers().get(&key("wrong")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let renamed = deploy_new(&meta, &definition("fixed", "one")).await;
    let error = meta.servers().edit(&renamed.server_id.into(), |_| Ok(definition("other", "one"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_sees_nothing_beyond_its_own_environment() {
    let folder = TempDir::new().unwrap();
    let meta = open(&folder).await;
    let mut nosy = definition("nosy", "unused");
    nosy.vars.insert("UNITS".into(), json!("metric"));
    nosy.tools[0].examples.clear();
    nosy.tools[0].implementation = "
        const names = (value) => Object.keys(value ?? {}).sort();
        const imported = await import('cloudflare:workers').then((module) => names(module.env), () => []);
        const { process: global } = globalThis;
        const { default: builtin } = await import('node:process').catch(() => ({}));
        return JSON.stringify([names(env), imported, names(global?.env), names(builtin?.env)]);"
        .into();
    let deployed = deploy_new(&meta, &nosy).await;
    assert_eq!(ask(deployed.url.as_str()).await.unwrap(), r#"[["UNITS"],[],[],[]]"#);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_server_looks_at_its_own_files_and_leaves_those_that_others_need() {
    let folder = TempDir::new().unwrap();
    let count = |name: &str| std::fs::read_dir(folder.path().join(name)).unwrap().count();
    let meta = open(&folder).await;
    deploy_new(&meta, &definition("gone", "one")).await;
    let kept = deploy_new(&meta, &definition("kept", "two")).await;
    let shared = count("modules");
    let version = format!("servers/{}/versions/{}.json", kept.server_id, kept.version);
    let version = folder.path().join(version);
    let whole = std::fs::read(&version).unwrap();
    std::fs::write(&version, "{").unwrap();
    meta.deployments().remove(&key("gone")).await.unwrap();
    std::fs::write(&version, whole).unwrap();
    assert_eq!((count("bundles"), count("modules")), (1, shared));
    meta.close().await.unwrap();
    drop(meta);

    let meta = open(&folder).await;
    assert_eq!(ask(kept.url.as_str()).await.unwrap(), "two");
    meta.deployments().remove(&key("kept")).await.unwrap();
    assert_eq!((count("bundles"), count("modules"), count("servers")), (0, 0, 0));
    meta.close().await.unwrap();
}
