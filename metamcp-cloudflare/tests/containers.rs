//! Building and environments by the Container Manager, which runs in workerd, with the local Docker engine for containers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use account::{Account, docker_config, toolchain};
use metamcp_cloudflare::{
    ContainerBuilder, ContainerManagerConfig, ContainerManagerPlan, RetryPolicy, deploy_container_manager,
};
use metamcp_cloudflare_emulator::{DockerBuilder, Effect};
use metamcp_core::OutputStream::{Stderr, Stdout};
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::contract::Subject;
use metamcp_core::contract::builder::BuilderCapabilities;
use metamcp_core::{
    Builder, Command, Environment, ErrorKind, OutputChunk, Result, ServerDefinition, SourceTree, TemplateKind,
    WorkerSettings, generate, validate, with_queue_report,
};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const KEY: &str = "a-key-of-the-tests-that-is-long-enough";

mod contract {
    metamcp_core::builder_contract!(
        ignore = "needs a Docker engine and Node 22",
        super::subject(),
        super::numbered,
        super::BuilderCapabilities { dependencies: true, environments: true }
    );
}

/// An account with a Container Manager in it.
struct Manager {
    account: Account,
    builder: Arc<ContainerBuilder>,
    config: ContainerManagerConfig,
}

impl Manager {
    async fn deploy() -> Self {
        let account = Account::start().await;
        account.emulator.prepare_containers().await.unwrap();
        let setup = deploy_container_manager(&account.config(), &plan()).await.unwrap();
        let retry = RetryPolicy::new(4, Duration::from_secs(20));
        let config = ContainerManagerConfig::new(setup.url.as_str(), KEY.into()).unwrap().with_retry(retry);
        let builder = Arc::new(ContainerBuilder::open(config.clone(), bundle().await).await.unwrap());
        Self { account, builder, config }
    }

    async fn environment(&self) -> Arc<dyn Environment> {
        environment_of(&self.builder).await.unwrap()
    }

    /// Closes the builder and checks that none of its containers is left.
    async fn close(self) {
        self.builder.close().await.unwrap();
        let empty = async {
            while self.account.emulator.sandboxes() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), empty).await.expect("no container is left");
    }
}

async fn environment_of(builder: &ContainerBuilder) -> Result<Arc<dyn Environment>> {
    builder.create_environment(&"tested".parse().unwrap(), TemplateKind::RemoteMcpAuthless).await
}

/// An image that nobody pulls: containers are the emulator's business.
fn plan() -> ContainerManagerPlan {
    ContainerManagerPlan::new(KEY.into()).unwrap().with_image("docker.io/example/containers-manager:v1")
}

async fn bundle() -> Arc<BundleBuilder> {
    Arc::new(BundleBuilder::new(Toolchain::install(&toolchain()).await.unwrap()))
}

async fn subject() -> Subject<dyn Builder> {
    let Manager { account, builder, .. } = Manager::deploy().await;
    Subject::<dyn Builder>::new(builder).keeping(account)
}

fn definition(dependencies: &Value, body: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": "packaged", "description": "Uses npm.", "dependencies": dependencies,
        "tools": [{ "name": "tool", "description": "Uses it.", "implementation": body }]
    }))
    .unwrap()
}

fn project(dependencies: &Value, body: &str) -> (SourceTree, WorkerSettings) {
    let valid = validate(&definition(dependencies, body)).unwrap();
    (generate(&valid).unwrap(), WorkerSettings::of(&valid))
}

fn numbered(number: u32) -> (SourceTree, WorkerSettings) {
    project(&json!({}), &format!("return {number};"))
}

async fn sh(environment: &dyn Environment, line: &str) -> String {
    environment.exec(&Command::new(line, Duration::from_secs(120))).await.unwrap().stdout
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn a_server_with_npm_packages_is_built_like_on_this_machine_and_serves() {
    let manager = Manager::deploy().await;
    let dependencies = json!({ "semver": "7.7.2", "marked": "16.1.1" });
    let body = "const { maxSatisfying } = await import('semver');\nconst { marked } = await import('marked');\n\
                return marked.parseInline(`*${maxSatisfying(['1.2.0', '1.9.3', '2.0.0'], '^1.2')}*`);";
    let (source, settings) = project(&dependencies, body);
    let folder = tempfile::tempdir().unwrap();
    let local = DockerBuilder::open(folder.path(), docker_config().with_warm(0), bundle().await).await.unwrap();
    assert_eq!(
        manager.builder.build(&source, &settings).await.unwrap(),
        local.build(&source, &settings).await.unwrap()
    );
    local.close().await.unwrap();

    let config = manager.account.config().with_container_manager(manager.config.clone());
    let meta = metamcp_cloudflare::open(config).await.unwrap();
    let record = meta.servers().create(&definition(&dependencies, body)).await.unwrap();
    let deployment = meta.deployments().deploy(&record.id.into()).await.unwrap();
    let client = ().serve(StreamableHttpClientTransport::from_uri(deployment.url.as_str())).await.unwrap();
    let result = client.call_tool(CallToolRequestParams::new("tool")).await.unwrap();
    client.cancel().await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, "<em>1.9.3</em>");
    meta.close().await.unwrap();
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn a_package_that_does_not_exist_fails_the_build_in_npms_words() {
    let manager = Manager::deploy().await;
    let (source, settings) = project(&json!({ "metamcp-has-no-such-package": "1.0.0" }), "return 1;");
    let error = manager.builder.build(&source, &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BuildFailed);
    assert!(error.to_string().contains("metamcp-has-no-such-package"), "{error}");
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn commands_and_files_do_what_they_do_on_this_machine() {
    let manager = Manager::deploy().await;
    manager.builder.warm_up().await.unwrap();
    let environment = manager.environment().await;
    let info = environment.info().await.unwrap();
    assert!(info.available_templates.contains(&"remote-mcp-authless".to_owned()), "{info:?}");
    let files = environment.list_files("").await.unwrap();
    assert!(files.contains(&"package.json".to_owned()) && files.contains(&"src/".to_owned()), "{files:?}");

    environment.write_file("some folder/x", "".into()).await.unwrap();
    let mut command = Command::new("basename \"$PWD\"; echo \"$WORD\" >&2; exit 7", Duration::from_secs(60));
    command.working_directory = "some folder".to_owned();
    command.variables.insert("WORD".to_owned(), "a 'quoted' $word".to_owned());
    let output = environment.exec(&command).await.unwrap();
    let written = (output.stdout.as_str(), output.stderr.as_str(), output.exit_code);
    assert_eq!(written, ("some folder\n", "a 'quoted' $word\n", 7));

    let every_byte: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    environment.write_file("a/b/every byte.bin", every_byte.clone().into()).await.unwrap();
    assert_eq!(environment.read_file("a/b/every byte.bin").await.unwrap(), every_byte);
    environment.write_file("a/ü\nline", "x".into()).await.unwrap();
    environment.write_file("a/..hidden", "x".into()).await.unwrap();
    assert_eq!(environment.list_files("a").await.unwrap(), ["..hidden", "b/", "ü\nline"]);
    environment.delete_file("a").await.unwrap();
    environment.delete_file("a").await.unwrap();
    assert_eq!(environment.read_file("a/..hidden").await.unwrap_err().kind(), ErrorKind::NotFound);
    for path in ["", ".", "..", "../up", "/etc/passwd", "a/../../b", "a//b"] {
        let refused = environment.write_file(path, "x".into()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{path:?}");
    }
    command.working_directory = "..".to_owned();
    let refused = environment.exec(&command).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let long = Command::new("x".repeat(Command::MAX_LINE_BYTES + 1), Duration::from_secs(60));
    let refused = environment.exec(&long).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn output_is_streamed_in_order_while_the_command_runs() {
    let manager = Manager::deploy().await;
    let environment = manager.environment().await;
    // It goes on only after what it wrote was seen.
    let line = "echo one; until [ -e seen1 ]; do sleep 0.02; done; echo zwölf >&2; until [ -e seen2 ]; do sleep 0.02; \
                done; echo three";
    let (sender, mut receiver) = mpsc::channel(1);
    let watch = async {
        let mut seen = Vec::new();
        while let Some(OutputChunk { stream, content }) = receiver.recv().await {
            seen.push((stream, String::from_utf8(content.to_vec()).unwrap()));
            environment.write_file(&format!("seen{}", seen.len()), "".into()).await.unwrap();
        }
        seen
    };
    let command = Command::new(line, Duration::from_secs(60));
    let (output, seen) = tokio::join!(environment.exec_streaming(&command, sender), watch);
    let expected = [(Stdout, "one\n"), (Stderr, "zwölf\n"), (Stdout, "three\n")];
    assert_eq!(seen, expected.map(|(stream, text)| (stream, text.to_owned())));
    let output = output.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\nthree\n", "zwölf\n"));
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn a_command_ends_with_its_time_and_with_its_caller() {
    let manager = Manager::deploy().await;
    let environment = manager.environment().await;
    let line = "(setsid sleep 1000 &) ; echo begun; sleep 1000";
    let error = environment.exec(&Command::new(line, Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("begun"), "{error}");
    let count = "ps -o args | grep -c '[s]leep 1000'; true";
    assert_eq!(sh(&*environment, count).await.trim(), "0");

    let abandoned = Arc::clone(&environment);
    let running = tokio::spawn(async move {
        abandoned.exec(&Command::new("touch begun; sleep 1000", Duration::from_secs(600))).await.map(drop)
    });
    while environment.read_file("begun").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.abort();
    // The next command waits until the abandoned one is gone.
    assert_eq!(sh(&*environment, count).await.trim(), "0");
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn who_finds_all_containers_in_use_waits_and_hears_its_place() {
    let manager = Manager::deploy().await;
    let mut in_use = Vec::new();
    for _ in 0..3 {
        in_use.push(manager.environment().await);
    }
    let heard: [Arc<Mutex<Vec<usize>>>; 2] = Default::default();
    let wait = |index: usize| {
        let (ears, builder) = (Arc::clone(&heard[index]), Arc::clone(&manager.builder));
        let report = move |place| ears.lock().unwrap().push(place);
        tokio::spawn(async move { with_queue_report(report, environment_of(&builder)).await })
    };
    let has_heard = async |index: usize, place: usize| {
        let waiting = async {
            while heard[index].lock().unwrap().last() != Some(&place) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it hears its place");
    };
    let fourth = wait(0);
    has_heard(0, 1).await;
    let fifth = wait(1);
    has_heard(1, 2).await;
    in_use[0].destroy().await.unwrap();
    let fourth = tokio::time::timeout(Duration::from_secs(60), fourth).await.expect("its turn comes").unwrap().unwrap();
    assert_eq!(sh(&*fourth, "echo here").await, "here\n");
    has_heard(1, 1).await;
    assert_eq!(manager.account.emulator.sandboxes(), 3);
    // Who waits no more takes no place.
    fifth.abort();
    fifth.await.unwrap_err();
    in_use[1].destroy().await.unwrap();
    assert_eq!(sh(&*manager.environment().await, "echo here").await, "here\n");

    let impatient = manager.config.clone().with_queue_timeout(Duration::from_secs(1));
    let impatient = ContainerBuilder::open(impatient, bundle().await).await.unwrap();
    let error = environment_of(&impatient).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("number 1 in line"), "{error}");
    manager.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine and Node 22"]
async fn a_fault_at_the_first_attempt_of_each_request_loses_nothing_and_does_nothing_twice() {
    let manager = Manager::deploy().await;
    let dropped = Effect::Refuse { status: 503, retry_after: None };
    for effect in [Effect::DropRequest, Effect::DropAnswer, Effect::TruncateAnswer, dropped] {
        let faults = manager.account.emulator.faults();
        faults.hit_first_attempts(effect.clone());
        let environment = manager.environment().await;
        assert_eq!(sh(&*environment, "echo once >>log; cat log").await, "once\n", "{effect:?}");
        environment.write_file("bytes", vec![0, 255, 10].into()).await.unwrap();
        assert_eq!(environment.read_file("bytes").await.unwrap(), vec![0, 255, 10]);
        let (sender, mut receiver) = mpsc::channel(8);
        let command = Command::new("echo streamed", Duration::from_secs(60));
        assert_eq!(environment.exec_streaming(&command, sender).await.unwrap().stdout, "streamed\n");
        assert_eq!(receiver.recv().await.unwrap().content, "streamed\n");
        assert_eq!(receiver.recv().await, None);
        environment.destroy().await.unwrap();
        let (source, settings) = project(&json!({ "is-odd": "3.0.1" }), "return (await import('is-odd')).default(1);");
        assert!(manager.builder.build(&source, &settings).await.unwrap().modules.contains_key("bodies/is-odd"));
        let hit = faults.clear();
        assert!(hit > 20, "{effect:?}: {hit} requests");
    }
    manager.close().await;
}
