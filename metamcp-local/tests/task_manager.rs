//! The template `agent-task-manager`: what becomes of tasks while their server is closed, killed and deployed anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use live::{Client, Era};
use metamcp_core::{Deployment, MetaMcp, ServerDefinition, ServerKey};
use metamcp_local::LocalConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(120);

const NAME: &str = "tasks";

/// A server whose tool `gate` asks another one, and so ends when the test says, or never.
fn definition(description: &str) -> ServerDefinition {
    let gate = "
        const answer = await fetch('http://gate.test/', { signal: ctx.signal });
        const text = await answer.text();
        while (text === 'loop');
        return text;";
    serde_json::from_value(json!({
        "name": NAME, "description": description, "template": "agent-task-manager",
        "options": { "retryDelayMs": 0, "concurrency": 2 },
        "tools": [
            { "name": "gate", "description": "Waits.", "implementation": gate, "limits": { "timeoutMs": 120_000 } },
            {
                "name": "join", "description": "Joins.", "parameters": { "a": { "type": "string" }, "b": { "type": "string" } },
                "implementation": "return parameters.a + parameters.b;",
            },
        ]
    }))
    .unwrap()
}

/// Meta-MCP with the server deployed, and the other end of its gate.
struct Tasks {
    meta: MetaMcp,
    deployment: Deployment,
    client: Client,
    gate: TcpListener,
    folder: TempDir,
}

impl Tasks {
    async fn deploy() -> Self {
        Self::deploy_this(definition("The first.")).await
    }

    async fn deploy_this(definition: ServerDefinition) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let meta = metamcp_local::open(config(folder.path(), gate.local_addr().unwrap())).await.unwrap();
        meta.servers().create(&definition).await.unwrap();
        let deployment = meta.deployments().deploy(&key()).await.unwrap_or_else(|error| panic!("{error}"));
        let client = Client::connect(&deployment.url, Era::Discover).await;
        Self { meta, deployment, client, gate, folder }
    }

    /// The owner ends, and another opens the same directory; the task that runs then calls the gate before anybody
    /// calls its server.
    async fn reopen(self, answer: &str) -> Self {
        let Self { meta, deployment, gate, folder, client } = self;
        client.service.cancel().await.unwrap();
        meta.close().await.unwrap();
        drop(meta);
        let meta = metamcp_local::open(config(folder.path(), gate.local_addr().unwrap())).await.unwrap();
        called(&gate).await.answer(answer).await;
        let client = Client::connect(&deployment.url, Era::Initialize).await;
        Self { meta, deployment, client, gate, folder }
    }

    async fn enqueue(&self, tool: &str, more: Value) -> String {
        let mut arguments = json!({ "tool": tool });
        arguments.as_object_mut().unwrap().extend(live::object(more));
        self.used("enqueue_task", arguments).await["id"].as_str().unwrap().to_owned()
    }

    async fn used(&self, tool: &str, arguments: Value) -> Value {
        let result = self.client.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
        result.structured_content.unwrap()
    }

    async fn until(&self, id: &str, status: &str) -> Value {
        let started = Instant::now();
        loop {
            // A call that meets a process just killed is an error.
            let result = self.client.try_call("get_task", json!({ "id": id })).await;
            let task = result.ok().and_then(|result| result.structured_content).unwrap_or_default();
            if task["status"] == status {
                return task;
            }
            let ended = ["completed", "failed", "cancelled"].iter().any(|end| task["status"] == *end);
            assert!(!ended && started.elapsed() < LIMIT, "task is not {status}: {task}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn called(&self) -> Call {
        called(&self.gate).await
    }

    fn kill_workerd(&self) {
        let folder = self.folder.path().canonicalize().unwrap().display().to_string();
        let output = Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let ours = |line: &&str| line.contains("workerd serve") && line.contains(&folder);
        let pids: Vec<_> = text.lines().filter(ours).filter_map(|line| line.split_whitespace().next()).collect();
        assert!(!pids.is_empty(), "nothing runs");
        // Some end with those before them.
        Command::new("kill").arg("-KILL").args(pids).status().unwrap();
    }

    async fn close(self) {
        self.client.service.cancel().await.unwrap();
        self.meta.close().await.unwrap();
    }
}

/// The next call of the gate, which waits for its answer.
async fn called(gate: &TcpListener) -> Call {
    let (mut stream, _) = timeout(LIMIT, gate.accept()).await.expect("the gate is called").unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    Call { stream }
}

/// A tool's request to the gate.
struct Call {
    stream: TcpStream,
}

impl Call {
    async fn answer(mut self, text: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// Whoever called is gone.
    async fn dropped(mut self) {
        let read = timeout(LIMIT, self.stream.read(&mut [0])).await.expect("the connection ends");
        assert!(!matches!(read, Ok(1..)), "more was sent: {read:?}");
    }
}

fn config(folder: &Path, gate: SocketAddr) -> LocalConfig {
    LocalConfig::new(folder.join("data"))
        .with_toolchain_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain"))
        .with_outbound_override("gate.test", gate)
}

fn key() -> ServerKey {
    NAME.parse().unwrap()
}

/// How each attempt went.
fn outcomes(task: &Value) -> Vec<&str> {
    task["history"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_runs_in_its_order_and_outlives_its_owner() {
    let tasks = Tasks::deploy().await;
    let first = tasks.enqueue("gate", json!({})).await;
    let second = tasks.enqueue("gate", json!({ "priority": 5 })).await;
    let joined = json!({ "a": { "$result": first }, "b": { "$result": second } });
    let last = tasks.enqueue("join", json!({ "arguments": joined })).await;
    assert_eq!(tasks.until(&last, "waiting").await["attempts"], 0);
    for _ in 0..2 {
        tasks.called().await.answer("x").await;
    }
    assert_eq!(tasks.until(&last, "completed").await["result"]["content"][0]["text"], "xx");

    let interrupted = tasks.enqueue("gate", json!({})).await;
    let call = tasks.called().await;
    let tasks = tasks.reopen("y").await;
    call.dropped().await;
    assert_eq!(outcomes(&tasks.until(&interrupted, "completed").await), ["interrupted", "completed"]);
    let task = tasks.used("get_task", json!({ "id": last })).await;
    assert_eq!((&task["status"], outcomes(&task)), (&json!("completed"), vec!["completed"]));
    assert_eq!(task["result"]["content"][0]["text"], "xx");
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_process_is_killed_is_tried_again() {
    let tasks = Tasks::deploy().await;
    let id = tasks.enqueue("gate", json!({})).await;
    let waiting = tasks.enqueue("join", json!({ "arguments": { "a": { "$result": id }, "b": "!" } })).await;
    let call = tasks.called().await;
    tasks.kill_workerd();
    call.dropped().await;
    // Nobody calls the server: it comes back by itself.
    tasks.called().await.answer("again").await;
    let task = tasks.until(&id, "completed").await;
    assert_eq!(outcomes(&task), ["interrupted", "completed"]);
    assert_eq!(tasks.until(&waiting, "completed").await["result"]["content"][0]["text"], "again!");
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_process_each_time_fails_after_its_attempts() {
    let tasks = Tasks::deploy().await;
    let id = tasks.enqueue("gate", json!({ "maxAttempts": 2 })).await;
    for _ in 0..2 {
        let call = tasks.called().await;
        tasks.kill_workerd();
        call.dropped().await;
    }
    let task = tasks.until(&id, "failed").await;
    assert_eq!((outcomes(&task), &task["error"]["cause"]), (vec!["interrupted"; 2], &json!("interrupted")));
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_loops_keeps_the_queue_from_nothing_though_nobody_calls() {
    let mut definition = definition("With less patience.");
    definition.limits.timeout_ms = Some(10_000);
    definition.tools[0].limits.timeout_ms = Some(10_000);
    let tasks = Tasks::deploy_this(definition).await;
    let id = tasks.enqueue("gate", json!({})).await;
    tasks.called().await.answer("loop").await;
    tasks.called().await.answer("again").await;
    assert_eq!(outcomes(&tasks.until(&id, "completed").await), ["interrupted", "completed"]);
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_goes_on_with_the_tasks_of_the_old_one() {
    let tasks = Tasks::deploy().await;
    let id = tasks.enqueue("gate", json!({})).await;
    let delayed = tasks.enqueue("join", json!({ "arguments": { "a": "1", "b": "2" }, "delayMs": 1000 })).await;
    let call = tasks.called().await;
    tasks.meta.servers().edit(&key(), |_| Ok(definition("The second."))).await.unwrap();
    let second = tasks.meta.deployments().deploy(&key()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(second.version, tasks.deployment.version);
    call.dropped().await;
    tasks.called().await.answer("second").await;
    assert_eq!(outcomes(&tasks.until(&id, "completed").await), ["interrupted", "completed"]);
    assert_eq!(tasks.until(&delayed, "completed").await["attempts"], 1);
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_running_task_ends_what_it_does() {
    let tasks = Tasks::deploy().await;
    let id = tasks.enqueue("gate", json!({})).await;
    let call = tasks.called().await;
    let task = tasks.used("cancel_task", json!({ "id": id, "reason": "enough" })).await;
    assert_eq!((&task["status"], &task["reason"]), (&json!("cancelled"), &json!("enough")));
    call.dropped().await;
    assert_eq!(outcomes(&tasks.used("get_task", json!({ "id": id })).await), ["cancelled"]);
    tasks.close().await;
}
