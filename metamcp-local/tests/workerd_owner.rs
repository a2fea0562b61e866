//! What is left when the program that owns the publisher is killed.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::fs::DirEntry;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use metamcp_core::{Endpoint, Publisher};
use metamcp_local::{Isolation, LocalConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{Local, artifact, call, open, processes_of, server, worker};

const FOLDER: &str = "METAMCP_TEST_OWNER_FOLDER";

/// The program that is killed: it deploys a server, says where, and waits for the end of its input.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs to be run by the test beside it as a program of its own"]
async fn owner_program() {
    // A folder of its own only if it is run by itself: one that is killed could not remove it.
    let own = if std::env::var_os(FOLDER).is_none() { Some(tempfile::tempdir().unwrap()) } else { None };
    let given = std::env::var_os(FOLDER).map(PathBuf::from);
    let folder = given.or(own.as_ref().map(|own| own.path().to_owned())).unwrap();
    // Without namespaces, whose end would be the end of workerd in any case.
    let config = LocalConfig::new(folder.join("data")).with_isolation(Isolation::Process);
    let publisher = open(&config).await.unwrap();
    let survivor = server("survivor");
    let built = artifact(&survivor, &worker("hello() { return 'hello'; }"));
    let staged = publisher.stage(&survivor, &built).await.unwrap();
    let endpoint = publisher.activate(&survivor, &staged.version).await.unwrap();
    let mut output = std::io::stdout();
    writeln!(output, "\nlive at {}", endpoint.url).unwrap();
    output.flush().unwrap();
    std::io::stdin().lines().next();
}

/// Starts the program and waits until its server is live.
fn start_owner(folder: &std::path::Path) -> (Child, Endpoint) {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["owner_program", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let url = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("live at ").map(str::to_owned));
    let url = url.expect("the program deploys a server");
    (owner, Endpoint::new(url.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_on_after_its_owner_was_killed_and_the_same_url_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = LocalConfig::new(folder.path().join("data"));
    let (mut owner, endpoint) = start_owner(folder.path());
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    let conflict = open(&config).await.unwrap_err();
    assert!(conflict.message().contains(&format!("(process {}", owner.id())), "{conflict}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    while !processes_of(&config).is_empty() {
        tokio::task::yield_now().await;
    }
    let publisher = open(&config).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    publisher.close().await.unwrap();
    assert!(std::fs::read_dir(config.data_dir.join("run")).unwrap().next().is_none());
}

/// Kills the shells that stand between an owner and its workerd processes.
fn kill_supervisors(config: &LocalConfig) {
    for pid in processes_of(config) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "sh" {
            // One of a pair may be gone by the other's end.
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
        }
    }
}

/// Whether no thread of a process runs any more, which a signal alone does not make so at once.
fn is_stopped(pid: u32) -> bool {
    let stopped = |task: DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(stopped)
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_whose_supervisors_were_killed_too_are_ended_by_the_next_owner() {
    let folder = tempfile::tempdir().unwrap();
    let config = LocalConfig::new(folder.path().join("data"));
    let (mut owner, _) = start_owner(folder.path());
    // An owner that is stopped cannot act on the end of the supervisors.
    kill_process(Pid::from_child(&owner), Signal::STOP).unwrap();
    while !is_stopped(owner.id()) {
        tokio::task::yield_now().await;
    }
    kill_supervisors(&config);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(!processes_of(&config).is_empty(), "workerd survived both");
    let publisher = open(&config).await.unwrap();
    while !processes_of(&config).is_empty() {
        tokio::task::yield_now().await;
    }
    publisher.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_supervisor_was_killed_is_replaced_and_ended() {
    let local = Local::open_with(|config| config.with_isolation(Isolation::Process)).await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker("hello() { return 'hello'; }")).await;
    let before = processes_of(&local.config);
    kill_supervisors(&local.config);
    while processes_of(&local.config).iter().any(|pid| before.contains(pid)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
}
