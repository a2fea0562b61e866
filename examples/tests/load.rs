//! Many clients at once make, use and remove servers, for minutes; what is there afterwards is what was there before.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use reference::{Client, Http, text};

const CLIENTS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_secs(120);
/// How long after the last call what it used may be on its way out.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Kinds of errors that say which limit was reached.
const LIMITS: [&str; 3] = ["timed_out: ", "limit_exceeded: ", "rate_limited: "];

/// How the loops of all clients went.
#[derive(Debug, Default)]
struct Loops {
    complete: Vec<Duration>,
    steps: BTreeMap<&'static str, Vec<Duration>>,
    failed: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs minutes"]
async fn sixty_four_clients_make_call_and_remove_servers_for_two_minutes_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Http::start_with(&data, &["--requests-per-minute", "1000000", "--requests-at-once", "1000"]).await;
    let key = server.admin_key.clone().unwrap();
    load(&server, &key, "early", WARM_UP).await;
    let before = Traces::settled(&server, &data, None).await;
    let resident_before = resident_kb(&server);

    let started = Instant::now();
    let loops = load(&server, &key, "late", LOAD).await;
    loops.report(started.elapsed());
    let after = Traces::settled(&server, &data, Some(&before)).await;
    let resident_after = resident_kb(&server);
    eprintln!("resident memory: {resident_before} kB, then {resident_after} kB; {after:?}");
    assert_eq!(after, before);
    assert!(resident_after * 4 <= resident_before * 5, "resident memory grew");
    let client = server.connect(&key).await;
    assert_eq!(client.data("list_mcp_servers", json!({})).await, json!({ "servers": [] }));

    let all = loops.complete.len() + loops.failed.len();
    assert!(loops.complete.len() * 100 >= all * 95, "{} of {all}: {:?}", loops.complete.len(), loops.failed);
    let unstated: Vec<_> = loops.failed.iter().filter(|text| !states_a_limit(text)).collect();
    assert!(unstated.is_empty(), "{unstated:#?}");
    drop(client);
    server.end().await;
}

fn states_a_limit(text: &str) -> bool {
    LIMITS.iter().any(|kind| text.contains(kind))
}

/// All clients, each in its own loop until the time is over.
async fn load(server: &Http, key: &str, phase: &'static str, time: Duration) -> Loops {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = server.connect(key).await;
        clients.spawn(async move {
            let mut loops = Loops::default();
            for turn in 0.. {
                if started.elapsed() >= time {
                    break;
                }
                loops.once(&client, &format!("{phase}-{number}-{turn}")).await;
            }
            client.0.cancel().await.unwrap();
            loops
        });
    }
    clients.join_all().await.into_iter().fold(Loops::default(), Loops::and)
}

impl Loops {
    fn and(mut self, other: Self) -> Self {
        self.complete.extend(other.complete);
        self.failed.extend(other.failed);
        for (step, times) in other.steps {
            self.steps.entry(step).or_default().extend(times);
        }
        self
    }

    /// A server's life. One that was begun is removed, whatever happened to it.
    async fn once(&mut self, client: &Client, name: &str) {
        let started = Instant::now();
        let used = self.make_and_call(client, name).await;
        let removed = self.step(client, "delete_mcp_server", json!({ "serverId": name })).await;
        match used.and(removed) {
            Ok(_) => self.complete.push(started.elapsed()),
            Err(problem) => self.failed.push(problem),
        }
    }

    async fn make_and_call(&mut self, client: &Client, name: &str) -> Result<String, String> {
        self.step(client, "init_mcp_server", json!({ "name": name, "description": "Lives for one call." })).await?;
        let tool = json!({
            "serverId": name, "toolName": "say", "description": "Says its name.",
            "implementation": format!("return '{name}';")
        });
        self.step(client, "add_mcp_tool", tool).await?;
        self.step(client, "deploy_mcp_server", json!({ "serverId": name })).await?;
        let said = self.step(client, "call_mcp_tool", json!({ "serverId": name, "toolName": "say" })).await?;
        if said == name { Ok(said) } else { Err(format!("{name} said {said:?}")) }
    }

    async fn step(&mut self, client: &Client, tool: &'static str, arguments: Value) -> Result<String, String> {
        let started = Instant::now();
        let result = client.call(tool, arguments).await;
        self.steps.entry(tool).or_default().push(started.elapsed());
        let said = text(&result);
        if result.is_error == Some(true) { Err(format!("{tool}: {said}")) } else { Ok(said) }
    }

    fn report(&self, took: Duration) {
        let (complete, failed) = (self.complete.len(), self.failed.len());
        let per_second = f64::from(u32::try_from(complete).unwrap()) / took.as_secs_f64();
        eprintln!("{CLIENTS} clients: {complete} loops in {took:.1?}, {per_second:.1} in a second; {failed} failed");
        for problem in self.failed.iter().take(20) {
            eprintln!("  {problem}");
        }
        let all = std::iter::once((&"the whole loop", &self.complete)).chain(&self.steps);
        for (step, times) in all {
            let mut times = times.clone();
            times.sort();
            let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
            eprintln!("  {step}: median {:.0?}, p99 {:.0?}", at(50), at(99));
        }
    }
}

/// What servers and clients could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Processes below the server.
    children: usize,
    descriptors: usize,
    /// Files and folders of the data directory beside the database's own.
    files: Vec<PathBuf>,
}

impl Traces {
    /// What is there once it is what was expected, or what it still is at the limit; where nothing is expected, once it
    /// does not change any more.
    async fn settled(server: &Http, data: &Path, expected: Option<&Self>) -> Self {
        let started = Instant::now();
        let mut seen = Self::now(server, data);
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = Self::now(server, data);
            let is_settled = expected.map_or(now == seen && now.children == 0, |expected| now == *expected);
            if is_settled || started.elapsed() > SETTLE_LIMIT {
                return now;
            }
            seen = now;
        }
    }

    fn now(server: &Http, data: &Path) -> Self {
        let process = format!("/proc/{}", server.process.id().unwrap());
        let tasks = fs::read_dir(format!("{process}/task")).unwrap().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let mut files = Vec::new();
        list(data, &mut files);
        files.retain(|path| !path.to_string_lossy().contains(".sqlite") && !path.to_string_lossy().contains(".db"));
        files.sort();
        Self {
            children: children.map(|children| children.split_whitespace().count()).sum(),
            descriptors: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            files,
        }
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        files.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), files);
        }
    }
}

fn resident_kb(server: &Http) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
