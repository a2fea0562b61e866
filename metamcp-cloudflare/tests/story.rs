//! A server's whole life on Cloudflare, as the emulator has it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use account::Account;
use metamcp_cloudflare::{D1Executor, D1Registry, RetryPolicy};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::registry::RecordStatus;
use metamcp_core::{Deployment, ErrorKind, MetaMcp, ServerDefinition, ServerKey};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

fn definition(name: &str, answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": name, "description": "Says which version it is.",
        "secrets": ["TOKEN"],
        "tools": [
            {
                "name": "version", "description": "Its version.", "implementation": format!("return '{answer}';"),
                "examples": [{ "expected": answer }]
            },
            { "name": "token", "description": "Its secret.", "implementation": "return env.TOKEN ?? 'none';" }
        ]
    }))
    .unwrap()
}

fn key(name: &str) -> ServerKey {
    name.parse().unwrap()
}

async fn create_and_deploy(meta: &MetaMcp, definition: &ServerDefinition) -> metamcp_core::Result<Deployment> {
    let record = meta.servers().create(definition).await?;
    meta.deployments().deploy(&record.id.into()).await
}

async fn change(meta: &MetaMcp, to: ServerDefinition) {
    meta.servers().edit(&key(&to.name.clone()), |_| Ok(to)).await.unwrap();
}

async fn ask(url: &str, tool: &'static str) -> String {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap();
    let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
    client.cancel().await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

/// What is in the account, without the registry's own database and namespace.
async fn scripts(account: &Account) -> Vec<String> {
    let url = format!("{}/accounts/{}/workers/scripts", account.emulator.base_url(), account::ID);
    let listed = reqwest::Client::new().get(url).bearer_auth(account::TOKEN).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    let names = listed["result"].as_array().unwrap().iter().map(|script| script["id"].as_str().unwrap().to_owned());
    names.collect()
}

/// A Worker that somebody else has in the account.
async fn put_foreign_script(account: &Account, name: &str) {
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-11-01" });
    let form = reqwest::multipart::Form::new().text("metadata", metadata.to_string()).part(
        "index.js",
        reqwest::multipart::Part::text("export default { fetch: () => new Response('foreign') };")
            .file_name("index.js")
            .mime_str("application/javascript+module")
            .unwrap(),
    );
    let url = format!("{}/accounts/{}/workers/scripts/{name}", account.emulator.base_url(), account::ID);
    let put = reqwest::Client::new().put(url).bearer_auth(account::TOKEN).multipart(form).send().await.unwrap();
    assert!(put.status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_definition_to_nothing_left() {
    let account = Account::start().await;
    put_foreign_script(&account, "foreign").await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();

    let first = create_and_deploy(&meta, &definition("story", "one")).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    meta.secrets().set(&key("story"), &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "token").await, "s3cret");

    let mut bad = definition("story", "two");
    bad.tools[0].examples[0].expected = json!("three");
    change(&meta, bad).await;
    let error = meta.deployments().deploy(&key("story")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(ask(first.url.as_str(), "version").await, "one");

    change(&meta, definition("story", "three")).await;
    let third = meta.deployments().deploy(&key("story")).await.unwrap();
    assert_eq!(third.url, first.url);
    assert_eq!(ask(first.url.as_str(), "version").await, "three");
    // Secrets are kept by new versions, and an older one gets those of now.
    meta.secrets().set(&key("story"), &"TOKEN".parse().unwrap(), "changed".into()).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "token").await, "changed");
    meta.deployments().rollback(&key("story"), &first.version).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    assert_eq!(ask(first.url.as_str(), "token").await, "changed");

    // Another program finds all of it.
    let other = metamcp_cloudflare::open(account.config()).await.unwrap();
    let record = other.servers().get(&key("story")).await.unwrap();
    assert_eq!((record.status, record.live.unwrap().version), (RecordStatus::Deployed, first.version.clone()));

    let error = create_and_deploy(&meta, &definition("foreign", "one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for name in ["story", "foreign"] {
        meta.deployments().remove(&key(name)).await.unwrap();
    }
    assert_eq!(scripts(&account).await, ["foreign"]);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_objects_come_with_the_version_that_brings_them() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let first = create_and_deploy(&meta, &definition("talks", "one")).await.unwrap();
    let mut sessions = definition("talks", "two");
    sessions.sessions = true;
    change(&meta, sessions.clone()).await;
    meta.deployments().deploy(&key("talks")).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "two");
    // No preview could tell that this one is bad: what was live is live again.
    sessions.tools[0].examples[0].expected = json!("three");
    change(&meta, sessions).await;
    let error = meta.deployments().deploy(&key("talks")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(ask(first.url.as_str(), "version").await, "two");
    meta.deployments().rollback(&key("talks"), &first.version).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_cannot_enforce_is_refused() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let mut closed = definition("closed", "one");
    closed.egress = Some(vec!["api.example.com".to_owned()]);
    let error = create_and_deploy(&meta, &closed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("egress"), "{error}");
    assert_eq!(scripts(&account).await, Vec::<String>::new());
}

/// After a fault at each request in turn: what the registry says is live is what answers, and nothing else is there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs minutes"]
async fn a_fault_at_any_request_leaves_no_worker_without_a_row_and_no_row_without_a_worker() {
    let refusal = Effect::Refuse { status: 500, retry_after: None };
    for effect in [refusal, Effect::DropAnswer] {
        let mut skip = 0;
        while interrupted_deploy(&effect, skip).await {
            skip += 1;
        }
        assert!(skip > 10, "{effect:?} hit {skip} requests only");
    }
}

/// Says whether there was a request to hit.
async fn interrupted_deploy(effect: &Effect, skip: u32) -> bool {
    let account = Account::start().await;
    // One attempt at each call, so that the fault is felt.
    let impatient = account.config().with_retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
    let meta = metamcp_cloudflare::open(impatient).await.unwrap();
    let first = create_and_deploy(&meta, &definition("story", "one")).await.unwrap();
    change(&meta, definition("story", "two")).await;
    let before = account.emulator.faults().seen().len();
    account.emulator.faults().add(Fault { method: None, path: String::new(), skip, times: 1, effect: effect.clone() });
    let deployed = meta.deployments().deploy(&key("story")).await;
    let requests = account.emulator.faults().seen().len() - before;
    account.emulator.faults().clear();
    if requests <= skip as usize {
        deployed.unwrap();
        return false;
    }
    // A lease whose release was hit holds others up for its time only.
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    D1Registry::open(database).await.unwrap().expire_leases().await.unwrap();
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let record = meta.servers().get(&key("story")).await.unwrap();
    let live = record.live.unwrap_or_else(|| panic!("{effect:?} at {skip}: nothing is live"));
    let answer = ask(live.url.as_str(), "version").await;
    let expected = if live.version == first.version { "one" } else { "two" };
    assert_eq!(answer, expected, "{effect:?} at {skip}: {deployed:?}");
    assert_eq!(record.status, RecordStatus::Deployed, "{effect:?} at {skip}: {deployed:?}");
    assert_eq!(scripts(&account).await, ["story"]);
    meta.deployments().remove(&key("story")).await.unwrap();
    assert_eq!(scripts(&account).await, Vec::<String>::new());
    true
}
