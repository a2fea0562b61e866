//! The template `agent-scheduler`: what is due runs, once, whatever happens to the server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use live::witness::{WITNESS_HOST, Witness};
use live::{Client, Era, Live};
use metamcp_core::{ServerDefinition, ServerKey};
use serde_json::{Value, json};
use support::kill_workerd;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep, timeout};

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A server whose tools tell the witness of each call.
fn definition() -> Value {
    let tell = format!(
        "const seen = await (await fetch(`http://{WITNESS_HOST}/${{parameters.what}}`, {{ method: 'POST' }})).text();"
    );
    let what = json!({ "what": { "type": "string", "required": true } });
    json!({
        "name": "clock", "description": "Calls a witness by the clock.", "template": "agent-scheduler",
        "options": { "leastEverySeconds": 1, "keepRuns": 1000 },
        "tools": [
            { "name": "tell", "description": "Tells the witness.", "parameters": what,
              "implementation": format!("{tell}\nreturn seen;") },
            { "name": "tell_and_wait", "description": "Tells the witness and goes on for long.", "parameters": what,
              "limits": { "timeoutMs": 600_000 },
              "implementation": format!("{tell}\nreturn new Promise(() => {{}});") },
        ],
    })
}

struct Clock {
    live: Live,
    key: ServerKey,
    url: String,
    witness: Witness,
}

impl Clock {
    async fn deploy() -> Self {
        let (witness, address) = Witness::start().await;
        let live = Live::open_with(|config| config.with_outbound_override(WITNESS_HOST, address)).await;
        let key = live.create(definition()).await;
        let url = live.meta.deployments().deploy(&key).await.unwrap().url.to_string();
        Self { live, key, url, witness }
    }

    /// A new version, changed as said.
    async fn redeploy(&self, change: impl Fn(&mut ServerDefinition) + Send + Sync) {
        let edit = |written: &ServerDefinition| {
            let mut changed = written.clone();
            change(&mut changed);
            Ok(changed)
        };
        self.live.meta.servers().edit(&self.key, edit).await.unwrap();
        self.live.meta.deployments().deploy(&self.key).await.unwrap();
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let client = Client::connect(&self.url, Era::Discover).await;
        let text = client.text(tool, arguments).await;
        client.service.cancel().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn schedule(&self, name: &str, tool: &str, timing: Value) -> Value {
        let mut arguments = json!({ "name": name, "tool": tool, "arguments": { "what": name } });
        arguments.as_object_mut().unwrap().extend(live::object(timing));
        self.call("create_schedule", arguments).await
    }

    async fn runs(&self, name: &str) -> Vec<Value> {
        let answer = self.call("list_runs", json!({ "name": name, "limit": 100 })).await;
        answer["runs"].as_array().unwrap().clone()
    }

    async fn listed(&self, name: &str) -> Value {
        let answer = self.call("list_schedules", json!({ "limit": 100 })).await;
        answer["schedules"].as_array().unwrap().iter().find(|schedule| schedule["name"] == name).unwrap().clone()
    }

    /// The runs, once they are as they should be.
    async fn runs_once(&self, name: &str, are: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let runs = self.runs(name).await;
            if are(&runs) {
                return runs;
            }
            assert!(Instant::now() < deadline, "{name}: {runs:?}");
            sleep(LOOK).await;
        }
    }

    /// Waits until the witness has seen so many.
    async fn seen(&self, what: &str, count: usize) {
        let seen = async {
            while self.witness.count(what) < count {
                sleep(LOOK).await;
            }
        };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.witness.all()));
    }
}

fn succeeded(run: &Value) -> bool {
    run["status"] == "succeeded"
}

/// Nothing more will change; an interrupted run has no `endedAt`, as nobody knows when it ended.
fn none_running(runs: &[Value]) -> bool {
    runs.iter().all(|run| run["status"] != "running")
}

/// Every time that was due has one run, and every run that was not cut off did its work once.
fn assert_none_twice(runs: &[Value], seen: usize) {
    let due: BTreeSet<_> = runs.iter().map(|run| run["dueAt"].as_str().unwrap()).collect();
    assert_eq!(due.len(), runs.len(), "{runs:?}");
    let answers: BTreeSet<_> =
        runs.iter().filter(|run| succeeded(run)).filter_map(|run| run["output"].as_str()).collect();
    let ended = runs.iter().filter(|run| succeeded(run)).count();
    assert_eq!(answers.len(), ended, "{runs:?}");
    assert!((ended..=runs.len()).contains(&seen), "{seen} calls: {runs:?}");
}

/// So long from now, as `at` takes it.
fn at(ahead: Duration) -> Value {
    json!({ "at": (OffsetDateTime::now_utc() + ahead).format(&Rfc3339).unwrap().get(..19).map(|time| format!("{time}Z")) })
}

#[tokio::test(flavor = "multi_thread")]
async fn at_and_every_call_their_tools_and_nothing_else_does() {
    let clock = Clock::deploy().await;
    assert_eq!(clock.schedule("once", "tell", at(Duration::from_secs(6))).await["status"], "active");
    clock.schedule("often", "tell", json!({ "every": "1s" })).await;
    clock.seen("once", 1).await;
    clock.seen("often", 4).await;
    clock.call("cancel_schedule", json!({ "name": "often" })).await;
    let often = clock.runs_once("often", none_running).await;
    assert_none_twice(&often, clock.witness.count("often"));
    let once = clock.runs("once").await;
    assert_eq!((once.len(), once[0]["output"].as_str()), (1, Some("1")));
    assert_eq!(clock.listed("once").await["status"], "done");
    clock.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs up to two minutes"]
async fn a_cron_line_calls_its_tool_at_the_minute() {
    let clock = Clock::deploy().await;
    clock.schedule("minutely", "tell", json!({ "cron": "* * * * *", "timeZone": "Australia/Lord_Howe" })).await;
    clock.seen("minutely", 2).await;
    let runs = clock.runs("minutely").await;
    assert!(runs.iter().all(|run| run["dueAt"].as_str().unwrap().ends_with(":00.000Z")), "{runs:?}");
    assert_none_twice(&runs, clock.witness.count("minutely"));
    clock.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_due_while_the_server_was_down_runs_once_when_it_is_back() {
    let mut clock = Clock::deploy().await;
    clock.schedule("missed", "tell", at(Duration::from_secs(12))).await;
    clock.schedule("often", "tell", json!({ "every": "1s" })).await;
    clock.schedule("later", "tell", json!({ "every": "1d" })).await;
    clock.seen("often", 1).await;
    let mut opened = OffsetDateTime::UNIX_EPOCH;
    let down = async {
        sleep(Duration::from_secs(15)).await;
        opened = OffsetDateTime::now_utc();
    };
    clock.live = clock.live.reopen_after(down).await;

    // Nobody calls the server.
    clock.seen("missed", 1).await;
    let missed = clock.runs_once("missed", |runs| runs.iter().any(succeeded)).await;
    assert_eq!((missed.len(), clock.witness.count("missed")), (1, 1), "{missed:?}");
    assert_eq!(missed[0]["late"], true, "{missed:?}");
    let seen = clock.witness.count("often");
    clock.seen("often", seen + 2).await;
    clock.call("pause_schedule", json!({ "name": "often" })).await;
    let often = clock.runs_once("often", none_running).await;
    assert_none_twice(&often, clock.witness.count("often"));
    let time = |run: &Value, field: &str| OffsetDateTime::parse(run[field].as_str().unwrap(), &Rfc3339).unwrap();
    // What was due while it was down, or as it was being closed, runs once for all the times that were missed.
    let caught_up: Vec<_> =
        often.iter().filter(|run| time(run, "startedAt") >= opened && time(run, "dueAt") < opened).collect();
    assert_eq!(caught_up.len(), 1, "{often:?}");
    assert_eq!(caught_up[0]["late"], true, "{often:?}");
    assert_eq!(clock.witness.count("later"), 0);
    clock.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_twice_over_deployments_and_what_they_cut_off_is_interrupted() {
    let clock = Clock::deploy().await;
    clock.schedule("often", "tell", json!({ "every": "1s" })).await;
    clock.schedule("long", "tell_and_wait", at(Duration::from_secs(6))).await;
    clock.seen("long", 1).await;
    for n in 1..=4 {
        let seen = clock.witness.count("often");
        clock.redeploy(|definition| definition.version = format!("1.0.{n}")).await;
        clock.seen("often", seen + 1).await;
    }
    clock.call("cancel_schedule", json!({ "name": "often" })).await;
    let often = clock.runs_once("often", none_running).await;
    assert_none_twice(&often, clock.witness.count("often"));
    let long = clock.runs("long").await;
    assert_eq!((long.len(), &long[0]["status"], clock.witness.count("long")), (1, &json!("interrupted"), 1));
    clock.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_crash_cut_off_is_interrupted_and_the_others_go_on() {
    let clock = Clock::deploy().await;
    clock.schedule("long", "tell_and_wait", json!({ "every": "1d" })).await;
    clock.schedule("often", "tell", json!({ "every": "1s" })).await;
    clock.call("run_schedule_now", json!({ "name": "long" })).await;
    clock.seen("long", 1).await;
    for _ in 0..3 {
        let seen = clock.witness.count("often");
        kill_workerd(&clock.live.config);
        clock.seen("often", seen + 1).await;
    }
    let long = clock.runs("long").await;
    assert_eq!((long.len(), &long[0]["status"], clock.witness.count("long")), (1, &json!("interrupted"), 1));
    assert_eq!(clock.listed("long").await["status"], "active");
    clock.call("cancel_schedule", json!({ "name": "often" })).await;
    let often = clock.runs_once("often", none_running).await;
    assert_none_twice(&often, clock.witness.count("often"));
    clock.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_a_new_version_lacks_is_a_failed_run_and_the_schedule_says_so() {
    let clock = Clock::deploy().await;
    clock.schedule("often", "tell", json!({ "every": "1s" })).await;
    clock.seen("often", 1).await;
    clock.redeploy(|definition| definition.tools.retain(|tool| tool.name != "tell")).await;
    let runs = clock.runs_once("often", |runs| runs[0]["status"] == "failed").await;
    assert_eq!(runs[0]["output"], "the server has no tool \"tell\" any more");
    let listed = clock.listed("often").await;
    assert_eq!(
        (&listed["status"], &listed["problem"]),
        (&json!("active"), &json!("the server has no tool \"tell\" any more; its runs fail"),)
    );
    clock.live.close().await;
}
