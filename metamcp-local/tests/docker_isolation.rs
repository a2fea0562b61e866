//! Servers in containers, with a real engine: the promises of a publisher, what code inside may try, and what becomes of
//! containers.
#![cfg(feature = "docker")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod attacks;
mod containers;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use metamcp_core::contract::Subject;
use metamcp_core::{Artifact, DurableObjectClass, Endpoint, ErrorKind, LogOptions, Publisher, ServerName, ServerRef};
use metamcp_local::{Isolation, LocalConfig};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Local, call, error_message, open, server, worker};
use tokio::time::{sleep, timeout};

use self::containers::{containers_of, docker};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

mod contract {
    metamcp_core::publisher_contract!(ignore = "needs a Docker engine", super::publisher(), super::artifact);
}

mod attack {
    use super::*;

    attacks::against!(Isolation::Docker, #[ignore = "needs a Docker engine"]);
}

async fn publisher() -> Subject<dyn Publisher> {
    let folder = tempfile::tempdir().unwrap();
    let publisher = support::open(&config(LocalConfig::new(folder.path().join("data")))).await.unwrap();
    Subject::<dyn Publisher>::new(publisher).keeping(folder)
}

fn artifact(name: &ServerName, number: u32) -> Artifact {
    let server = support::server(name.as_str());
    support::artifact(&server, &format!("export default {{ fetch: () => new Response('{number}') }};"))
}

fn config(config: LocalConfig) -> LocalConfig {
    config.with_isolation(Isolation::Docker).with_docker(containers::config())
}

async fn local() -> Local {
    Local::open_with(config).await
}

/// The containers of a publisher, by Docker's own client.
fn containers(local: &LocalConfig) -> Vec<String> {
    containers_of(&local.data_dir.join("isolation"))
}

/// Closes a publisher and checks that nothing of it is left.
async fn close(local: Local) {
    local.publisher.close().await.unwrap();
    assert_eq!(containers(&local.config), Vec::<String>::new());
}

/// What a shell prints that was let into a container, as the user of the server's process, and whether it succeeded.
fn inside(container: &str, line: &str) -> (String, bool) {
    let output = std::process::Command::new("docker").args(["exec", container, "sh", "-c", line]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn answer(endpoint: &Endpoint, tool: &str) -> Value {
    timeout(SOON, call(endpoint, tool, json!({}))).await.expect("an answer in bounded time")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn a_servers_container_is_locked_down() {
    let local = local().await;
    let name = server("boxed");
    let (_, endpoint) = local.deploy(&name, &worker("hello() { return 'hello'; }")).await;
    assert_eq!(answer(&endpoint, "hello").await["result"], "hello");
    let container = containers(&local.config).remove(0);
    let (status, _) = inside(&container, "id -u; grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status");
    let lines: Vec<_> = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_ne!(lines[0], "0");
    for line in ["CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    let data = local.config.data_dir.canonicalize().unwrap();
    for folder in ["/", "/etc", "/usr/bin", &data.display().to_string(), &data.join("run").display().to_string()] {
        assert!(!inside(&container, &format!("touch {folder}/x")).1, "{folder}");
    }
    let limits = docker(&["inspect", &container, "--format", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"]);
    assert!(limits.split_whitespace().all(|limit| limit.parse::<u64>().unwrap() > 0), "{limits}");
    close(local).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn who_breaks_out_of_workerd_sees_neither_the_host_nor_other_servers() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let local = local().await;
    let (mine, other) = (server("mine"), server("other"));
    for name in [&mine, &other] {
        local.publisher.set_secret(name, &"TOKEN".parse().unwrap(), SecretString::from("very-secret")).await.unwrap();
        let mut built = support::artifact(name, &worker("hello(_, env) { return env.TOKEN; }"));
        built.settings.secrets = vec!["TOKEN".parse().unwrap()];
        let (_, endpoint) = local.deploy_artifact(name, &built).await;
        assert_eq!(answer(&endpoint, "hello").await["result"], "very-secret");
    }
    let ids = containers(&local.config);
    assert_eq!(ids.len(), 2);
    for id in &ids {
        assert!(!inside(id, &format!("cat {}", secret.path().display())).1);
        // Its own socket and its way out; not Docker's, nor those of another server.
        let sockets =
            inside(id, "find / -xdev -type s 2>/dev/null; find /tmp /root /home /work /var /run -type s 2>/dev/null");
        let mut sockets: Vec<_> = sockets.0.lines().map(str::to_owned).collect();
        sockets.sort();
        sockets.dedup();
        assert!(sockets.iter().all(|path| path.ends_with("/io/s") || path.ends_with("/way/in")), "{sockets:?}");
        assert_eq!(sockets.len(), 2, "{sockets:?}");
        let data = local.config.data_dir.canonicalize().unwrap();
        let (files, _) =
            inside(id, &format!("find {} -name '*.json' -o -name '*.db' -o -name '*.lock'", data.display()));
        assert_eq!(files, "");
        assert_eq!(inside(id, "ls /sys/class/net").0, "lo\n");
        assert!(!docker(&["inspect", id]).contains("very-secret"));
        assert!(!inside(id, "env").0.contains("very-secret"));
    }
    close(local).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn a_link_in_place_of_its_socket_leads_nobody_astray() {
    let local = local().await;
    let name = server("swapped");
    let (_, endpoint) = local.deploy(&name, &worker("hello() { return 'hello'; }")).await;
    assert_eq!(answer(&endpoint, "hello").await["result"], "hello");
    let foreign = local.folder.path().join("foreign");
    let listener = UnixListener::bind(&foreign).unwrap();
    listener.set_nonblocking(true).unwrap();
    let container = containers(&local.config).remove(0);
    let line = format!(
        "cd {}/run/*/io && rm s && ln -s {} s",
        local.config.data_dir.canonicalize().unwrap().display(),
        foreign.display()
    );
    let (said, done) = inside(&container, &line);
    assert!(done, "{said}");
    // More calls at once than there are connections already.
    let calls = futures::future::join_all((0..8).map(|_| answer(&endpoint, "hello")));
    assert!(calls.await.iter().all(|answer| answer["result"] == "hello"));
    assert!(listener.accept().is_err(), "the gateway was led to another socket");
    close(local).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn a_container_that_is_killed_or_out_of_memory_is_replaced() {
    let local = local().await;
    let name = server("mortal");
    let tools = "hello() { console.log('said hello'); return 'hello'; },\n\
                 fill() { const kept = []; for (;;) kept.push(new Uint8Array(8_000_000).fill(1)); }";
    let (_, endpoint) = local.deploy(&name, &worker(tools)).await;
    assert_eq!(answer(&endpoint, "hello").await["result"], "hello");
    let first = containers(&local.config).remove(0);
    docker(&["kill", &first]);
    until("it is noticed", || !containers(&local.config).contains(&first)).await;
    assert_eq!(answer(&endpoint, "hello").await["result"], "hello");
    let out_of_memory = answer(&endpoint, "fill").await;
    assert!(error_message(&out_of_memory).contains("ran out of memory"), "{out_of_memory}");
    assert_eq!(answer(&endpoint, "hello").await["result"], "hello");
    let logs = local.publisher.logs(&name, LogOptions::default()).await.unwrap();
    assert!(logs.iter().any(|line| line.text.contains("said hello")), "{logs:?}");
    close(local).await;
}

fn counter(server: &ServerRef, step: u32) -> Artifact {
    let source = format!(
        r#"
        import {{ DurableObject }} from "cloudflare:workers";
        export class Counter extends DurableObject {{
          async add() {{
            const value = ((await this.ctx.storage.get("value")) ?? 0) + {step};
            await this.ctx.storage.put("value", value);
            return value;
          }}
        }}
        {}"#,
        worker("add(_, env) { return env.COUNTER.get(env.COUNTER.idFromName('one')).add(); }")
    );
    let mut built = support::artifact(server, &source);
    built.settings.durable_objects = vec![DurableObjectClass::new("COUNTER", "Counter")];
    built
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn durable_objects_keep_their_state_over_versions_restarts_and_isolations() {
    let local = local().await;
    let name = server("counter");
    let (_, endpoint) = local.deploy_artifact(&name, &counter(&name, 1)).await;
    assert_eq!(answer(&endpoint, "add").await["result"], 1);
    let staged = local.publisher.stage(&name, &counter(&name, 10)).await.unwrap();
    local.publisher.activate(&name, &staged.version).await.unwrap();
    assert_eq!(answer(&endpoint, "add").await["result"], 11);
    let Local { folder, config: docker, publisher } = local;
    publisher.close().await.unwrap();
    drop(publisher);
    for isolation in [Isolation::Process, Isolation::Docker] {
        let reopened = open(&docker.clone().with_isolation(isolation)).await.unwrap();
        let before = if isolation == Isolation::Process { 11 } else { 21 };
        assert_eq!(answer(&endpoint, "add").await["result"], before + 10, "{isolation:?}");
        reopened.close().await.unwrap();
    }
    assert_eq!(containers(&docker), Vec::<String>::new());
    drop(folder);
}

/// Run by the test below in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn helper_that_is_killed() {
    let Ok(folder) = std::env::var("METAMCP_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let publisher = open(&config(LocalConfig::new(folder.join("data")))).await.unwrap();
    let name = server("orphan");
    let staged = publisher.stage(&name, &support::artifact(&name, &worker("a() { return 1; }"))).await.unwrap();
    publisher.activate(&name, &staged.version).await.unwrap();
    std::fs::write(folder.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn containers_end_with_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_is_killed", "--ignored"])
        .env("METAMCP_TEST_FOLDER", folder.path())
        .spawn()
        .unwrap();
    until("it is ready", || folder.path().join("ready").exists()).await;
    let isolation = folder.path().join("data/isolation");
    assert_eq!(containers_of(&isolation).len(), 1);
    program.kill().unwrap();
    program.wait().unwrap();
    // Nobody has to start anything again for that.
    until("its container is gone", || containers_of(&isolation).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn an_image_that_cannot_run_workerd_is_said_to_be_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let local = config(LocalConfig::new(folder.path().join("data")));
    let docker = local.docker.clone().with_base_image("scratch-of-nobody:1");
    let error = open(&local.with_docker(docker)).await.unwrap_err();
    assert!(error.to_string().contains("scratch-of-nobody:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_the_error_is_typed_and_names_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let local = config(LocalConfig::new(folder.path().join("data")));
    let docker = local.docker.clone().with_host("unix:///nonexistent/docker.sock");
    let error = open(&local.with_docker(docker)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("install Docker"), "{error}");
}
