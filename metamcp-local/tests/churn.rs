//! Servers that come and go leave nothing behind: no process, no descriptor, no file, no memory.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metamcp_core::registry::sql::{SqlExecutor, SqlValue, Statement};
use metamcp_core::{MetaMcp, ServerDefinition, ServerKey};
use metamcp_local::{LocalConfig, SqliteExecutor};
use serde_json::{Value, json};

/// Both tests look at the whole program.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// How long after the last removal a closed connection may still be on its way out.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_servers_come_and_go_without_a_trace() {
    let (_, after) = churn(3, 7).await;
    assert!(after > 0, "the program's memory can be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs minutes"]
async fn two_hundred_servers_come_and_go_without_a_trace() {
    let (before, after) = churn(20, 180).await;
    eprintln!("resident memory: {before} kB after 20 servers, {after} kB after 200");
    assert!(after * 10 <= before * 11, "resident memory grew from {before} kB to {after} kB");
}

/// Makes, calls and removes `first` servers, then `more`, and compares what there is after each; returns the
/// program's resident memory at both points in kB.
async fn churn(first: usize, more: usize) -> (u64, u64) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let meta = metamcp_local::open(LocalConfig::new(&data)).await.unwrap();
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    for number in 0..first {
        live_and_die(&meta, &http, number).await;
    }
    // First: SQLite keeps the descriptor of a second look open.
    let rows_before = rows(&data).await;
    let before = Traces::settled(&data, None).await;
    let memory_before = resident_kb();
    for number in first..first + more {
        live_and_die(&meta, &http, number).await;
    }
    let after = Traces::settled(&data, Some(&before)).await;
    assert_eq!(after, before);
    assert_eq!(rows(&data).await, rows_before);
    let memory_after = resident_kb();
    meta.close().await.unwrap();
    (memory_before, memory_after)
}

/// A server's whole life: defined, deployed, called through the gateway, removed.
async fn live_and_die(meta: &MetaMcp, http: &reqwest::Client, number: usize) {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": format!("mayfly-{number}"),
        "description": "Lives for one call.",
        "tools": [{
            "name": "double",
            "description": "Doubles a number.",
            "parameters": { "number": { "type": "number", "required": true } },
            "implementation": "return String(2 * parameters.number);"
        }]
    }))
    .unwrap();
    let key = ServerKey::from(meta.servers().create(&definition).await.unwrap().id);
    let deployment = meta.deployments().deploy(&key).await.unwrap();
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "double", "arguments": { "number": number } }
    });
    let request = http.post(deployment.url).header("accept", "application/json, text/event-stream");
    let answer: Value = request.json(&message).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], (2 * number).to_string(), "{answer}");
    meta.deployments().remove(&key).await.unwrap();
}

/// How many rows each table of the database has.
async fn rows(data: &Path) -> Vec<(String, SqlValue)> {
    let database = SqliteExecutor::open(data.join("registry.db")).await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut counts = Vec::new();
    for row in database.execute(vec![Statement::new(tables, [])]).await.unwrap().remove(0) {
        let SqlValue::Text(table) = &row[0] else { panic!("{row:?}") };
        let count = Statement::new(format!("SELECT count(*) FROM \"{table}\""), []);
        counts.push((table.clone(), database.execute(vec![count]).await.unwrap()[0][0][0].clone()));
    }
    counts
}

/// What servers could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Processes below this one.
    children: usize,
    /// Open descriptors by what they are.
    descriptors: BTreeMap<String, usize>,
    /// Files and folders of the data directory, sockets included, beside the database's own.
    files: Vec<PathBuf>,
}

impl Traces {
    /// What is there as soon as it is what was expected, or at the end of the limit. Connections and threads end
    /// a moment after the call that used them.
    async fn settled(data: &Path, expected: Option<&Self>) -> Self {
        let started = std::time::Instant::now();
        loop {
            let now = Self::now(data);
            let is_quiet = now.children == 0 && expected.is_none_or(|expected| *expected == now);
            if is_quiet && (expected.is_some() || now == Self::a_moment_later(data).await) {
                return now;
            }
            if started.elapsed() > SETTLE_LIMIT {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn a_moment_later(data: &Path) -> Self {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Self::now(data)
    }

    fn now(data: &Path) -> Self {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                *descriptors.entry(kind_of_descriptor(&target)).or_default() += 1;
            }
        }
        let mut files = files_below(data);
        files.retain(|path| path.file_name().is_none_or(|name| !name.to_string_lossy().starts_with("registry.db")));
        Self { children: children(), descriptors, files }
    }
}

/// `socket:[123]` is a socket, whichever.
fn kind_of_descriptor(target: &Path) -> String {
    let text = target.display().to_string();
    text.split_once(':').map_or(text.clone(), |(kind, _)| kind.to_owned())
}

fn children() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default().split_whitespace().count())
        .sum()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn resident_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
