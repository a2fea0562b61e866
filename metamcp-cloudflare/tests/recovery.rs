//! What is lost on the way, and what others do to the account meanwhile: the next deployment makes it good.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::time::{Duration, Instant};

use account::{Account, artifact};
use metamcp_cloudflare::{D1Executor, RetryPolicy, WorkerPublisher};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::{
    Artifact, Deployment, DurableObjectClass, ErrorKind, MetaMcp, Publisher, ServerDefinition, ServerId, ServerKey,
    ServerRef,
};
use serde_json::json;

/// So long a condition may take to come true.
const LIMIT: Duration = Duration::from_secs(60);

fn definition(template: &str, answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": "story", "description": "Says which version it is.", "template": template, "secrets": ["TOKEN"],
        "tools": [{
            "name": "version", "description": "Its version.",
            "implementation": format!("return '{answer} ' + (env.TOKEN ?? 'none');")
        }]
    }))
    .unwrap()
}

fn plain(answer: &str) -> ServerDefinition {
    definition("remote-mcp-authless", answer)
}

fn key() -> ServerKey {
    "story".parse().unwrap()
}

async fn open(account: &Account) -> MetaMcp {
    metamcp_cloudflare::open(account.config()).await.unwrap()
}

async fn create_and_deploy(meta: &MetaMcp, definition: &ServerDefinition) -> metamcp_core::Result<Deployment> {
    meta.servers().create(definition).await?;
    meta.deployments().deploy(&key()).await
}

async fn change_and_deploy(meta: &MetaMcp, to: ServerDefinition) -> metamcp_core::Result<Deployment> {
    meta.servers().edit(&key(), |_| Ok(to.clone())).await?;
    meta.deployments().deploy(&key()).await
}

async fn ask(meta: &MetaMcp) -> String {
    let answer = meta.deployments().call_tool(&key(), "version", serde_json::Map::new()).await.unwrap();
    answer.content[0]["text"].as_str().unwrap().to_owned()
}

fn fault(method: &str, path: &str, times: u32, effect: Effect) -> Fault {
    Fault { method: Some(method.to_owned()), path: path.to_owned(), skip: 0, times, effect }
}

async fn account_publisher(account: &Account) -> WorkerPublisher {
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    WorkerPublisher::open(account.client(), database).await.unwrap()
}

fn server() -> ServerRef {
    ServerRef { id: ServerId::random(), name: "story".parse().unwrap() }
}

async fn publish(publisher: &dyn Publisher, server: &ServerRef, artifact: &Artifact) -> metamcp_core::Result<String> {
    let staged = publisher.stage(server, artifact).await?;
    let endpoint = publisher.activate(server, &staged.version).await?;
    Ok(reqwest::get(endpoint.url).await.unwrap().text().await.unwrap())
}

/// One that answers with a number and brings a class.
fn artifact_with_class(server: &ServerRef, number: u32) -> Artifact {
    let mut artifact = artifact(&server.name, number);
    let class = "import { DurableObject } from 'cloudflare:workers'; export class Clock extends DurableObject {}";
    let index = artifact.modules.get_mut("index.js").unwrap();
    index.content = format!("{class}\n{}", String::from_utf8_lossy(&index.content)).into();
    artifact.settings.durable_objects = vec![DurableObjectClass::new("CLOCK", "Clock")];
    artifact
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_set_meanwhile_brings_no_old_version_back() {
    let account = Account::start().await;
    let (meta, other) = (open(&account).await, open(&account).await);
    create_and_deploy(&meta, &plain("one")).await.unwrap();
    other.servers().edit(&key(), |_| Ok(plain("two"))).await.unwrap();

    let seen = account.emulator.faults().seen().len();
    account.emulator.faults().add(fault("POST", "scripts/story/versions", 1, Effect::Delay(3_000)));
    let setting = tokio::spawn({
        let meta = meta.clone();
        async move { meta.secrets().set(&key(), &"TOKEN".parse().unwrap(), "s3cret".into()).await }
    });
    let begun = Instant::now();
    let is_uploading = || {
        let seen = account.emulator.faults().seen().split_off(seen);
        seen.iter().any(|seen| seen.method == "POST" && seen.path.ends_with("scripts/story/versions"))
    };
    while !is_uploading() {
        assert!(begun.elapsed() < LIMIT, "the secret is not uploaded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deployment = other.deployments().deploy(&key()).await.unwrap();
    setting.await.unwrap().unwrap();
    assert_eq!(ask(&meta).await, "two s3cret");
    let live = meta.servers().get(&key()).await.unwrap().live.unwrap();
    assert_eq!(live.version, deployment.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_was_not_switched_on_is_with_the_next_deployment() {
    let refusal = Effect::Refuse { status: 500, retry_after: None };
    for (path, namespace) in [("scripts/story/subdomain", None), ("dispatcher/subdomain", Some("meta-mcp"))] {
        for effect in [refusal.clone(), Effect::DropRequest] {
            let account = Account::start().await;
            let open = async || {
                // One attempt at each call, so that the fault is felt.
                let config = account.config().with_retry(RetryPolicy::new(1, Duration::from_secs(60)));
                let config = match namespace {
                    Some(namespace) => config.with_dispatch_namespace(namespace).unwrap(),
                    None => config,
                };
                metamcp_cloudflare::open(config).await.unwrap()
            };
            let meta = open().await;
            account.emulator.faults().add(fault("POST", path, 100, effect.clone()));
            // As if the program ended there: nobody takes the script away.
            account.emulator.faults().add(fault("DELETE", "scripts/story", 100, effect.clone()));
            create_and_deploy(&meta, &plain("one")).await.unwrap_err();
            account.emulator.faults().clear();
            let other = open().await;
            other.deployments().deploy(&key()).await.unwrap_or_else(|error| panic!("{path} {effect:?}: {error}"));
            assert_eq!(ask(&meta).await, "one none");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_was_removed_by_hand_comes_back_at_its_url() {
    let account = Account::start().await;
    let (publisher, server) = (account_publisher(&account).await, server());
    assert_eq!(publish(&publisher, &server, &artifact(&server.name, 1)).await.unwrap(), "1");
    account.remove_script("scripts/story").await;
    assert_eq!(publish(&publisher, &server, &artifact(&server.name, 2)).await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_said_to_be_set_while_something_else_answers() {
    let account = Account::start().await;
    let meta = open(&account).await;
    create_and_deploy(&meta, &plain("one")).await.unwrap();
    account.put_secret("story", "EXTRA").await;
    let token = "TOKEN".parse().unwrap();
    let error = meta.secrets().set(&key(), &token, "new".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let error = meta.deployments().call_tool(&key(), "version", serde_json::Map::new()).await.unwrap_err();
    assert!(error.message().contains("outside"), "{error}");
    meta.deployments().deploy(&key()).await.unwrap();
    meta.secrets().set(&key(), &token, "new".into()).await.unwrap();
    assert_eq!(ask(&meta).await, "one new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_brought_back_by_hand_is_noticed() {
    let account = Account::start().await;
    let meta = open(&account).await;
    let first = create_and_deploy(&meta, &plain("one")).await.unwrap().version;
    let second = change_and_deploy(&meta, plain("two")).await.unwrap().version;
    account.deploy_upload("story", 1).await;
    let error = meta.deployments().verify(&key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains(first.as_str()) && error.message().contains(second.as_str()), "{error}");
    assert_eq!(meta.deployments().deploy(&key()).await.unwrap().revision.0, 2);
    meta.deployments().verify(&key()).await.unwrap();
    assert_eq!(ask(&meta).await, "two none");
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_objects_are_not_left_without_their_class() {
    let account = Account::start().await;
    let (publisher, server) = (account_publisher(&account).await, server());
    let first = publisher.stage(&server, &artifact(&server.name, 1)).await.unwrap().version;
    publisher.activate(&server, &first).await.unwrap();
    assert_eq!(publish(&publisher, &server, &artifact_with_class(&server, 2)).await.unwrap(), "2");
    let listed = publisher.list_versions(&server).await.unwrap();
    let uploads = account.emulator.uploads().len();
    for publisher in [&publisher, &account_publisher(&account).await] {
        let staged = publisher.stage(&server, &artifact(&server.name, 3)).await.map(|staged| staged.version);
        let activated = publisher.activate(&server, &first).await.map(|endpoint| endpoint.url);
        for error in [staged.unwrap_err(), activated.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("Clock"), "{error}");
        }
    }
    assert_eq!(account.emulator.uploads().len(), uploads);
    assert_eq!(publisher.list_versions(&server).await.unwrap(), listed);
    assert_eq!(publish(&publisher, &server, &artifact_with_class(&server, 4)).await.unwrap(), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_keeps_state_is_not_swapped_for_one_without() {
    let account = Account::start().await;
    let meta = open(&account).await;
    create_and_deploy(&meta, &definition("agent-scheduler", "one")).await.unwrap();
    let error = change_and_deploy(&meta, plain("two")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(ask(&meta).await, "one none");
    // Whoever gives that state up gets there.
    meta.deployments().remove(&key()).await.unwrap();
    create_and_deploy(&meta, &plain("two")).await.unwrap();
    assert_eq!(ask(&meta).await, "two none");
}
