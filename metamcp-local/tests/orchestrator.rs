//! The template `orchestrator-workers`: a job comes to its end, whatever happens to the server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;
mod support;

use std::time::Duration;

use live::witness::{WITNESS_HOST, Witness};
use live::{Client, Era, Live};
use metamcp_core::{ServerDefinition, ServerKey};
use serde_json::{Value, json};
use support::kill_workerd;
use tokio::time::{Instant, sleep, timeout};

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A server whose workers tell the witness of each run.
fn definition() -> Value {
    let tell = format!(
        "const seen = await (await fetch(`http://{WITNESS_HOST}/${{parameters.what}}`, {{ method: 'POST' }})).text();"
    );
    let what = json!({ "what": { "type": "string", "required": true } });
    json!({
        "name": "crew", "description": "Works for a witness.", "template": "orchestrator-workers",
        "options": { "planner": "count_to", "aggregator": "sum", "concurrency": 2, "retryDelayMs": 0 },
        "tools": [
            { "name": "count_to", "description": "Plans so many.", "parameters": { "number": { "type": "integer", "required": true } },
              "implementation": "return Array.from({ length: parameters.number }, (_, n) => ({ tool: 'tell', arguments: { what: `n-${n}` } }));" },
            { "name": "tell", "description": "Tells the witness.", "parameters": what,
              "implementation": format!("{tell}\nawait new Promise((resolve) => setTimeout(resolve, 100));\nreturn seen;") },
            { "name": "tell_and_wait", "description": "Tells the witness and goes on for long.", "parameters": what,
              "limits": { "timeoutMs": 600_000 },
              "implementation": format!("{tell}\nreturn new Promise(() => {{}});") },
            { "name": "sum", "description": "Counts what went well.", "parameters": { "results": { "type": "array", "required": true } },
              "implementation": "return { well: parameters.results.filter(({ ok }) => ok).length };" },
        ],
    })
}

struct Crew {
    live: Live,
    key: ServerKey,
    url: String,
    witness: Witness,
}

impl Crew {
    async fn deploy() -> Self {
        let (witness, address) = Witness::start().await;
        let live = Live::open_with(|config| config.with_outbound_override(WITNESS_HOST, address)).await;
        let key = live.create(definition()).await;
        let url = live.meta.deployments().deploy(&key).await.unwrap().url.to_string();
        Self { live, key, url, witness }
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let client = Client::connect(&self.url, Era::Discover).await;
        let text = client.text(tool, arguments).await;
        client.service.cancel().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Begins a job and returns its id.
    async fn begin(&self, mut job: Value) -> String {
        job["waitSeconds"] = json!(0);
        self.call("run_job", job).await["job"].as_str().unwrap().to_owned()
    }

    /// The job, once it ended.
    async fn ended(&self, job: &str) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let view = self.call("get_job", json!({ "job": job, "waitSeconds": 10 })).await;
            if view["endedAt"].is_string() {
                return view;
            }
            assert!(Instant::now() < deadline, "{view}");
        }
    }

    async fn subtasks(&self, job: &str) -> Vec<Value> {
        let answer = self.call("list_subtasks", json!({ "job": job, "limit": 100 })).await;
        answer["subtasks"].as_array().unwrap().clone()
    }

    /// Waits until the witness has seen so many different ones.
    async fn seen(&self, count: usize) {
        let seen = async {
            while self.witness.all().len() < count {
                sleep(LOOK).await;
            }
        };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{:?}", self.witness.all()));
    }

    /// Every sub-task came to a good end, none ran more often than it was tried, and not all ran twice.
    async fn assert_all_done(&self, job: &str, count: usize) {
        let view = self.ended(job).await;
        assert_eq!((&view["status"], &view["progress"]["succeeded"]), (&json!("completed"), &json!(count)), "{view}");
        assert_eq!(view["result"], json!({ "well": count }));
        let seen = self.witness.all();
        let subtasks = self.subtasks(job).await;
        assert_eq!(subtasks.len(), count);
        for subtask in &subtasks {
            let runs = seen[subtask["arguments"]["what"].as_str().unwrap()];
            let attempts = usize::try_from(subtask["attempts"].as_u64().unwrap()).unwrap();
            assert!((1..=attempts).contains(&runs), "ran {runs} times: {subtask}");
        }
        let again = subtasks.iter().filter(|subtask| subtask["attempts"] != 1).count();
        // Two run at a time, and each interruption cuts off no more than these.
        assert!(again <= 2 * INTERRUPTIONS, "{again} of {count} were tried again");
    }
}

/// How often a test interrupts a job.
const INTERRUPTIONS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_where_it_was_when_its_owner_is_back() {
    let mut crew = Crew::deploy().await;
    let job = crew.begin(json!({ "input": { "number": 24 } })).await;
    for n in 1..=INTERRUPTIONS {
        crew.seen(5 * n).await;
        crew.live = crew.live.reopen_after(async {}).await;
    }
    // Nobody calls the server.
    crew.seen(24).await;
    crew.assert_all_done(&job, 24).await;
    crew.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_after_crashes() {
    let crew = Crew::deploy().await;
    let job = crew.begin(json!({ "input": { "number": 24 } })).await;
    for n in 1..=INTERRUPTIONS {
        crew.seen(5 * n).await;
        kill_workerd(&crew.live.config);
    }
    crew.seen(24).await;
    crew.assert_all_done(&job, 24).await;
    crew.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_in_new_versions() {
    let crew = Crew::deploy().await;
    let job = crew.begin(json!({ "input": { "number": 24 } })).await;
    for n in 1..=INTERRUPTIONS {
        crew.seen(5 * n).await;
        let renumbered = |written: &ServerDefinition| {
            let mut next = written.clone();
            next.version = format!("1.0.{n}");
            Ok(next)
        };
        crew.live.meta.servers().edit(&crew.key, renumbered).await.unwrap();
        crew.live.meta.deployments().deploy(&crew.key).await.unwrap();
    }
    crew.assert_all_done(&job, 24).await;
    crew.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_task_that_takes_the_server_down_each_time_fails_in_the_end() {
    let crew = Crew::deploy().await;
    let subtask = |tool: &str| json!({ "tool": tool, "arguments": { "what": tool } });
    let job = crew.begin(json!({ "subtasks": [subtask("tell"), subtask("tell_and_wait")] })).await;
    let done = async {
        while crew.subtasks(&job).await[0]["status"] != "succeeded" {
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, done).await.unwrap();
    for attempt in 1..=3 {
        let begun = async {
            while crew.witness.count("tell_and_wait") < attempt {
                sleep(LOOK).await;
            }
        };
        timeout(LIMIT, begun).await.unwrap_or_else(|_| panic!("{:?}", crew.witness.all()));
        kill_workerd(&crew.live.config);
    }
    let again = async {
        while Client::try_connect(&crew.url, Era::Discover, None).await.is_err() {
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, again).await.unwrap();
    let view = crew.ended(&job).await;
    assert_eq!((&view["status"], &view["result"]), (&json!("completed"), &json!({ "well": 1 })), "{view}");
    assert_eq!((&view["failures"][0]["reason"], &view["failures"][0]["attempts"]), (&json!("interrupted"), &json!(3)));
    assert_eq!(crew.witness.count("tell_and_wait"), 3);
    crew.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_how_far_the_job_is() {
    let crew = Crew::deploy().await;
    for era in live::ERAS {
        let client = Client::connect(&crew.url, era).await;
        let view = client.text("run_job", json!({ "input": { "number": 8 }, "waitSeconds": 120 })).await;
        let view: Value = serde_json::from_str(&view).unwrap();
        assert_eq!((&view["status"], &view["result"]["well"]), (&json!("completed"), &json!(8)));
        let told = client.notifications();
        assert!(told.iter().any(|progress| progress["total"] == 8.0), "{told:?}");
        client.service.cancel().await.unwrap();
    }
    crew.live.close().await;
}
