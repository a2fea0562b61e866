//! Programs killed at every step of a deploy, a rollback and a removal: what is left is brought into agreement, and a
//! deployed server answers again at the same URL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash {
    pub(crate) mod killing;
}

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crash::killing::Killer;
use metamcp_core::registry::RecordStatus;
use metamcp_core::{Backends, ErrorKind, MetaMcp, Result, ServerDefinition, ServerKey};
use metamcp_local::LocalConfig;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;
use tempfile::TempDir;

const NAME: &str = "survivor";
const WHAT: &str = "METAMCP_CRASH_WHAT";
const FOLDER: &str = "METAMCP_CRASH_FOLDER";
const POINT: &str = "METAMCP_CRASH_POINT";
const VICTIM: &str = "METAMCP_CRASH_VICTIM";

fn config(folder: &Path) -> LocalConfig {
    LocalConfig::new(folder).with_toolchain_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain"))
}

fn definition(answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": NAME, "description": "Says which version it is.",
        "tools": [{ "name": "version", "description": "Its version.", "implementation": format!("return '{answer}';") }]
    }))
    .unwrap()
}

fn key() -> ServerKey {
    NAME.parse().unwrap()
}

async fn write(meta: &MetaMcp, answer: &str) {
    let answer = definition(answer);
    meta.servers().edit(&key(), |_| Ok(answer.clone())).await.unwrap();
}

async fn ask(url: &str) -> String {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap();
    let result = client.call_tool(CallToolRequestParams::new("version")).await.unwrap();
    client.cancel().await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

/// What the killed program does in the folder it is given.
async fn act(what: &str, meta: &MetaMcp) -> Result<()> {
    match what {
        "first deploy" => {
            meta.servers().create(&definition("one")).await?;
            meta.deployments().deploy(&key()).await.map(|_| ())
        }
        "second deploy" => {
            meta.servers().edit(&key(), |_| Ok(definition("two"))).await?;
            meta.deployments().deploy(&key()).await.map(|_| ())
        }
        "rollback" => {
            let oldest = meta.deployments().versions(&key()).await?.pop().unwrap();
            meta.deployments().rollback(&key(), &oldest.version).await.map(|_| ())
        }
        "remove" => meta.deployments().remove(&key()).await,
        other => panic!("nothing is called {other:?}"),
    }
}

/// A data directory as the action finds it.
async fn prepare(what: &str, folder: &Path) -> Option<String> {
    if what == "first deploy" {
        return None;
    }
    let meta = metamcp_local::open(config(folder)).await.unwrap();
    meta.servers().create(&definition("one")).await.unwrap();
    let url = meta.deployments().deploy(&key()).await.unwrap().url;
    assert!(!servers_of(folder).is_empty(), "the check for processes without an owner finds none at all");
    if what == "rollback" {
        write(&meta, "two").await;
        meta.deployments().deploy(&key()).await.unwrap();
    }
    meta.close().await.unwrap();
    Some(url.to_string())
}

/// Run by the tests below as a program of its own, which is killed at a point. By itself it does the same without a
/// killer, and ends well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    let own = tempfile::tempdir().unwrap();
    let given = |name| std::env::var(name).ok();
    let what = given(WHAT).unwrap_or_else(|| "first deploy".into());
    let folder = given(FOLDER).map_or_else(|| own.path().to_owned(), PathBuf::from);
    let point = given(POINT).map_or(0, |point| point.parse().unwrap());
    let backends = metamcp_local::backends(config(&folder)).await.unwrap();
    let killer = match given(VICTIM).as_deref() {
        Some("workerd") => Killer::new(point, move || kill_servers_of(&folder)),
        _ => Killer::new(point, kill_this_program),
    };
    let meta = MetaMcp::new(killer.around(&backends));
    // With its server killed under it the action may fail, as an error: the checks come afterwards.
    if let Err(error) = act(&what, &meta).await {
        assert_eq!(given(VICTIM).as_deref(), Some("workerd"), "{error}");
    }
    meta.close().await.unwrap();
}

fn kill_this_program() {
    signal("KILL", std::process::id());
    std::thread::sleep(Duration::from_secs(60));
}

fn kill_servers_of(folder: &Path) {
    for pid in servers_of(folder) {
        signal("KILL", pid);
    }
}

fn signal(name: &str, pid: u32) {
    Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
}

/// Processes of workerd that serve this data directory: their configuration names the modules in it.
fn servers_of(folder: &Path) -> Vec<u32> {
    let output = Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let user_folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let ours = |line: &&str| line.contains("workerd serve") && line.contains(&*user_folder.to_string_lossy());
    text.lines().filter(ours).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn run_program(what: &str, folder: &Path, point: u32, victim: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "the_program", "--nocapture"]);
    command.env(WHAT, what).env(FOLDER, folder).env(POINT, point.to_string()).env(VICTIM, victim);
    command.status().unwrap()
}

/// Kills at point 1, 1 + stride, … until the action ends before its point, and checks what is left each time.
async fn kill_at_every_point(what: &str, victim: &str, first: u32, stride: u32) {
    let mut point = first;
    loop {
        let folder = TempDir::new().unwrap();
        let url = prepare(what, folder.path()).await;
        let status = run_program(what, folder.path(), point, victim);
        check(what, folder.path(), url, &format!("{what}, {victim} killed at point {point}")).await;
        if status.success() && (victim == "program" || point > 40) {
            assert!(point > first, "{what}: no point was reached");
            return;
        }
        assert!(point < 200, "{what} does not end");
        point += stride;
    }
}

async fn check(what: &str, folder: &Path, url: Option<String>, when: &str) {
    no_server_is_left(folder, when);
    let backends = metamcp_local::backends(config(folder)).await.unwrap();
    let meta = MetaMcp::new(backends.clone());
    let report = meta.deployments().reconcile().await.unwrap();
    assert!(report.pending.is_empty(), "{when}: {report:?}");
    agreement(&backends, when).await;
    match meta.servers().get(&key()).await {
        Ok(record) => {
            if let Some(live) = &record.live {
                let answer = ask(live.url.as_str()).await;
                assert!(["one", "two"].contains(&answer.as_str()), "{when}: {answer}");
                assert!(url.is_none_or(|url| url == live.url.as_str()), "{when}");
            } else {
                assert_eq!(what, "first deploy", "{when}: a live server is gone");
            }
            // And it can go on from here.
            write(&meta, "three").await;
            let deployed = meta.deployments().deploy(&key()).await.unwrap();
            assert_eq!(ask(deployed.url.as_str()).await, "three", "{when}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{when}");
            assert!(["first deploy", "remove"].contains(&what), "{when}: the server is gone");
        }
    }
    meta.close().await.unwrap();
    no_server_is_left(folder, when);
}

/// Nothing runs without an owner; the kernel may take a moment to end what was told to.
fn no_server_is_left(folder: &Path, when: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !servers_of(folder).is_empty() {
        assert!(Instant::now() < deadline, "{when}: {:?} run without an owner", servers_of(folder));
        std::thread::yield_now();
    }
}

/// Registry and target tell the same: servers, versions, and what is live.
async fn agreement(backends: &Backends, when: &str) {
    let recorded = backends.registry.list_servers(&metamcp_core::registry::ListOptions::default()).await.unwrap();
    let published = backends.publisher.list_servers().await.unwrap();
    for server in &published {
        assert!(recorded.items.iter().any(|record| record.id == server.server.id), "{when}: a server without a record");
    }
    for record in recorded.items {
        let full = backends.registry.get_server(&record.id.into()).await.unwrap();
        let versions = backends.publisher.list_versions(&full.reference()).await.unwrap();
        let active = versions.iter().find(|version| version.active).map(|version| version.version.clone());
        assert_eq!(active, record.live.as_ref().map(|live| live.version.clone()), "{when}");
        let on_target: BTreeSet<_> = versions.into_iter().map(|version| version.version).collect();
        let known = backends.registry.list_versions(record.id).await.unwrap();
        let known: BTreeSet<_> = known.into_iter().map(|version| version.version).collect();
        assert_eq!(on_target, known, "{when}: versions");
        assert_eq!(record.live.is_some(), record.status == RecordStatus::Deployed, "{when}");
    }
    assert!(backends.registry.pending_deployments().await.unwrap().is_empty(), "{when}: something is pending");
}

const ACTIONS: [&str; 4] = ["first deploy", "second deploy", "rollback", "remove"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_killed_in_a_second_deploy_leaves_a_whole_server() {
    kill_at_every_point("second deploy", "program", 3, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs minutes"]
async fn a_program_killed_at_any_point_leaves_registry_files_and_processes_in_agreement() {
    for what in ACTIONS {
        kill_at_every_point(what, "program", 1, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs minutes"]
async fn a_server_killed_at_any_point_of_a_deploy_is_served_again() {
    for what in ["first deploy", "second deploy", "rollback"] {
        kill_at_every_point(what, "workerd", 1, 2).await;
    }
}
