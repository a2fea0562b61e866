//! Servers that run by themselves: the alarms of their Durable Objects ring without a call.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metamcp_core::{Artifact, DurableObjectClass, Endpoint, ErrorKind, LogOptions, Publisher, ServerRef, VersionId};
use metamcp_local::{Isolation, WorkerdPublisher};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use serde_json::json;
use support::{Local, artifact, call, error_message, open, processes_of, server, worker};
use tokio::time::timeout;

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(60);

/// A Worker with one Durable Object, which counts, rings again and again once it is told to, and in each ring says
/// which life of its process this is. `health` is what `GET /health` is answered with, given the object and `env`.
fn clock(name: &ServerRef, health: &str) -> Artifact {
    let tools = ["start", "add", "addSlowly"].map(|tool| format!("{tool}(_, env) {{ return clockOf(env).{tool}(); }}"));
    let tools = worker(&tools.join(", "));
    let health = format!(r#"=== "/health") {{ const clock = clockOf(env); {health} }}"#);
    let source = format!(
        r#"
        import {{ DurableObject }} from "cloudflare:workers";
        const clockOf = (env) => env.CLOCK.get(env.CLOCK.idFromName("one"));
        export class Clock extends DurableObject {{
          life = crypto.randomUUID();
          async count() {{ return (await this.ctx.storage.get("count")) ?? 0; }}
          async add() {{
            const count = (await this.count()) + 1;
            await this.ctx.storage.put("count", count);
            return count;
          }}
          async addSlowly() {{
            console.log("slowly");
            await new Promise((resolve) => setTimeout(resolve, 1000));
            return this.add();
          }}
          async start() {{ await this.ctx.storage.setAlarm(Date.now() + 20); }}
          async alarm() {{
            console.log("ring " + this.life);
            await this.start();
          }}
        }}
        {}"#,
        tools.replace(r#"=== "/health") return new Response("ok");"#, &health)
    );
    let mut built = artifact(name, &source);
    built.settings.durable_objects = vec![DurableObjectClass::new("CLOCK", "Clock")];
    built
}

const HEALTHY: &str = r#"return new Response("ok");"#;
/// Healthy as long as nothing was counted: as a preview, whose storage is its own, but not on what another version left.
const HEALTHY_ON_NO_STATE: &str = "return new Response('counted', { status: await clock.count() === 0 ? 200 : 500 });";

async fn log(publisher: &WorkerdPublisher, server: &ServerRef) -> Vec<String> {
    let lines = publisher.logs(server, LogOptions::new(1_000)).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}

/// The lives in which the alarm rang.
async fn lives(publisher: &WorkerdPublisher, server: &ServerRef) -> BTreeSet<String> {
    log(publisher, server).await.into_iter().filter(|line| line.starts_with("ring ")).collect()
}

/// Waits until it rang in a life that is not one of these. Nothing is called.
async fn rings_in_a_life_beside(known: &BTreeSet<String>, publisher: &WorkerdPublisher, server: &ServerRef) {
    let deadline = Instant::now() + LIMIT;
    while lives(publisher, server).await.is_subset(known) {
        assert!(Instant::now() < deadline, "no alarm rang: {:?}", log(publisher, server).await);
        tokio::task::yield_now().await;
    }
}

/// Deploys a clock that rings.
async fn deploy_ringing(local: &Local, name: &ServerRef) -> (VersionId, Endpoint) {
    let (version, endpoint) = local.deploy_artifact(name, &clock(name, HEALTHY)).await;
    assert_eq!(call(&endpoint, "start", json!({})).await["id"], 7);
    rings_in_a_life_beside(&BTreeSet::new(), &local.publisher, name).await;
    (version, endpoint)
}

/// Kills every process of workerd.
fn kill_workerd(local: &Local) {
    for pid in processes_of(&local.config) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "workerd" {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
    }
}

async fn open_local() -> Local {
    Local::open_with(|config| config.with_isolation(Isolation::Process)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_ring_as_soon_as_the_directory_is_opened_again() {
    let local = open_local().await;
    // More than are started at the same time.
    let servers: Vec<_> = (0..6).map(|number| server(&format!("clock-{number}"))).collect();
    for name in &servers {
        deploy_ringing(&local, name).await;
    }
    let Local { folder, config, publisher } = local;
    publisher.close().await.unwrap();
    assert!(processes_of(&config).is_empty());
    let mut known = Vec::new();
    for name in &servers {
        known.push(lives(&publisher, name).await);
    }
    drop(publisher);

    let reopened = open(&config).await.unwrap();
    for (name, known) in servers.iter().zip(&known) {
        rings_in_a_life_beside(known, &reopened, name).await;
    }
    reopened.close().await.unwrap();
    assert!(processes_of(&config).is_empty());
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_ring_again_after_every_crash() {
    let local = open_local().await;
    let name = server("clock");
    let (_, endpoint) = deploy_ringing(&local, &name).await;
    for _ in 0..3 {
        let known = lives(&local.publisher, &name).await;
        kill_workerd(&local);
        rings_in_a_life_beside(&known, &local.publisher, &name).await;
    }
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 1);
    local.publisher.unpublish(&name).await.unwrap();
    assert!(processes_of(&local.config).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_take_the_state_over_gives_it_back() {
    let local = open_local().await;
    let name = server("clock");
    let (live, endpoint) = deploy_ringing(&local, &name).await;
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 1);
    let staged = local.publisher.stage(&name, &clock(&name, HEALTHY_ON_NO_STATE)).await.unwrap();
    let known = lives(&local.publisher, &name).await;

    let error = local.publisher.activate(&name, &staged.version).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let said = format!("could not be switched to version {}; version {live} is served again", staged.version);
    assert!(error.to_string().contains(&said) && error.to_string().contains("500"), "{error}");
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 2);
    rings_in_a_life_beside(&known, &local.publisher, &name).await;
    let versions = local.publisher.list_versions(&name).await.unwrap();
    assert!(versions.iter().any(|version| version.active && version.version == live), "{versions:?}");
    local.publisher.discard(&name, &staged.version).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_free_once_a_version_without_it_is_live() {
    let local = open_local().await;
    let name = server("clock");
    let (with_state, endpoint) = local.deploy_artifact(&name, &clock(&name, HEALTHY)).await;
    let owners = processes_of(&local.config);
    let slow = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { call(&endpoint, "addSlowly", json!({})).await }
    });
    let deadline = Instant::now() + LIMIT;
    while !log(&local.publisher, &name).await.contains(&"slowly".to_owned()) {
        assert!(Instant::now() < deadline, "the call does not begin");
        tokio::task::yield_now().await;
    }
    local.deploy(&name, &worker("add() { return 'stateless'; }")).await;
    assert!(processes_of(&local.config).iter().all(|pid| !owners.contains(pid)), "two may have the state");
    assert_eq!(slow.await.unwrap()["result"], 1);
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], "stateless");
    local.publisher.activate(&name, &with_state).await.unwrap();
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_with_which_a_server_does_not_start_is_not_kept() {
    let local = open_local().await;
    let (name, token) = (server("clock"), "TOKEN".parse().unwrap());
    let mut built = clock(&name, "return new Response(null, { status: env.TOKEN === 'bad' ? 500 : 200 });");
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let (live, endpoint) = local.deploy_artifact(&name, &built).await;
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 1);
    let error = local.publisher.set_secret(&name, &token, SecretString::from("bad")).await.unwrap_err();
    let said = format!("could not be switched to the changed secret; version {live} is served again");
    assert!(error.to_string().contains(&said), "{error}");
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 2);
    assert!(local.publisher.list_secret_names(&name).await.unwrap().is_empty());
    local.publisher.set_secret(&name, &token, SecretString::from("good")).await.unwrap();
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_any_more_says_so_and_makes_room_at_once() {
    let local = open_local().await;
    let name = server("clock");
    let (bad, endpoint) = local.deploy_artifact(&name, &clock(&name, HEALTHY_ON_NO_STATE)).await;
    call(&endpoint, "add", json!({})).await;
    kill_workerd(&local);
    let said = |line: &String| line.starts_with("metamcp: version") && line.contains("500") && line.contains("again");
    let deadline = Instant::now() + LIMIT;
    while log(&local.publisher, &name).await.iter().filter(|line| said(line)).count() < 3 {
        assert!(Instant::now() < deadline, "{:?}", log(&local.publisher, &name).await);
        tokio::task::yield_now().await;
    }
    let answer = call(&endpoint, "add", json!({})).await;
    assert!(error_message(&answer).contains(&format!("version {bad} does not start")), "{answer}");

    // The next version is not kept waiting, and keeps the state.
    local.deploy_artifact(&name, &clock(&name, HEALTHY)).await;
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_does_not_end_holds_nothing_up() {
    for what in ["close", "unpublish", "activate", "drop"] {
        // Nobody waits for its end.
        let local =
            Local::open_with(|config| config.with_isolation(Isolation::Process).with_start_timeout(20 * LIMIT)).await;
        let name = server("clock");
        let stuck =
            "return await clock.count() === 0 ? new Response() : new Promise((resolve) => setTimeout(resolve, 1e9));";
        let (_, endpoint) = local.deploy_artifact(&name, &clock(&name, stuck)).await;
        let staged = local.publisher.stage(&name, &clock(&name, HEALTHY)).await.unwrap();
        call(&endpoint, "add", json!({})).await;
        let before = processes_of(&local.config);
        kill_workerd(&local);
        let deadline = Instant::now() + LIMIT;
        while processes_of(&local.config).iter().all(|pid| before.contains(pid)) {
            assert!(Instant::now() < deadline, "it is not started again");
            tokio::task::yield_now().await;
        }
        let Local { folder, config, publisher } = local;
        let done = async {
            match what {
                "close" => publisher.close().await.unwrap(),
                "unpublish" => publisher.unpublish(&name).await.unwrap(),
                "activate" => {
                    publisher.activate(&name, &staged.version).await.unwrap();
                    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 2);
                }
                _ => {}
            }
        };
        timeout(LIMIT, done).await.unwrap_or_else(|_| panic!("{what} waits for a start"));
        drop(publisher);
        while !processes_of(&config).is_empty() {
            assert!(Instant::now() < deadline + LIMIT, "{what} leaves {:?}", processes_of(&config));
            tokio::task::yield_now().await;
        }
        drop(folder);
    }
}
