//! Servers in a dispatch namespace, as the emulator has it: their whole life, and what stands in their way out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod outside;

use account::Account;
use metamcp_cloudflare::{D1Executor, DispatchPublisher};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::{Deployment, ErrorKind, MetaMcp, ServerDefinition, ServerKey};
use outside::Outside;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

const NAMESPACE: &str = "meta-mcp";
const DISPATCHER: &str = "meta-mcp-dispatcher";
const OUTBOUND: &str = "meta-mcp-outbound";

fn definition(name: &str, answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": name, "description": "Says which version it is.", "secrets": ["TOKEN"],
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

/// A server that asks the internet.
fn fetcher(egress: Option<&[&str]>) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": "fetcher", "description": "Fetches.", "egress": egress,
        "tools": [{
            "name": "fetch", "description": "Fetches a URL.", "parameters": { "url": { "type": "string", "required": true } },
            "implementation": "const answer = await fetch(parameters.url); return `${answer.status} ${await answer.text()}`;"
        }]
    }))
    .unwrap()
}

fn key(name: &str) -> ServerKey {
    name.parse().unwrap()
}

async fn open(account: &Account) -> MetaMcp {
    let config = account.config().with_dispatch_namespace(NAMESPACE).unwrap();
    metamcp_cloudflare::open(config).await.unwrap()
}

async fn create_and_deploy(meta: &MetaMcp, definition: &ServerDefinition) -> metamcp_core::Result<Deployment> {
    let record = meta.servers().create(definition).await?;
    meta.deployments().deploy(&record.id.into()).await
}

async fn change_and_deploy(meta: &MetaMcp, to: ServerDefinition) -> metamcp_core::Result<Deployment> {
    let key = key(&to.name);
    meta.servers().edit(&key, |_| Ok(to.clone())).await?;
    meta.deployments().deploy(&key).await
}

async fn call(url: &str, tool: &'static str, arguments: Value) -> String {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap();
    let request = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    let result = client.call_tool(request).await.unwrap();
    client.cancel().await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

async fn ask(url: &str, tool: &'static str) -> String {
    call(url, tool, json!({})).await
}

/// Names of what is in the account at this path.
async fn listed(account: &Account, path: &str) -> Vec<String> {
    let url = format!("{}/accounts/{}/workers/{path}", account.emulator.base_url(), account::ID);
    let listed = reqwest::Client::new().get(url).bearer_auth(account::TOKEN).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    listed["result"].as_array().unwrap().iter().map(|script| script["id"].as_str().unwrap().to_owned()).collect()
}

async fn scripts(account: &Account) -> Vec<String> {
    listed(account, "scripts").await
}

async fn dispatched(account: &Account) -> Vec<String> {
    listed(account, &format!("dispatch/namespaces/{NAMESPACE}/scripts")).await
}

/// More scripts than are listed at once, all of them before the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_among_many_scripts() {
    let account = Account::start().await;
    let meta = open(&account).await;
    create_and_deploy(&meta, &definition("story", "one")).await.unwrap();
    for number in 0..45 {
        account.put_script(&format!("dispatch/namespaces/{NAMESPACE}/scripts/another-{number}")).await;
    }
    let report = meta.deployments().reconcile().await.unwrap();
    assert!(report.reactivated.is_empty() && report.pending.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_definition_to_nothing_left() {
    let account = Account::start().await;
    let meta = open(&account).await;
    account.put_script(&format!("dispatch/namespaces/{NAMESPACE}/scripts/foreign")).await;

    let first = create_and_deploy(&meta, &definition("story", "one")).await.unwrap();
    assert!(first.url.path().ends_with(&format!("{DISPATCHER}.emulator.workers.dev/story/mcp")), "{}", first.url);
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    meta.secrets().set(&key("story"), &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "token").await, "s3cret");

    let mut bad = definition("story", "two");
    bad.tools[0].examples[0].expected = json!("three");
    let error = change_and_deploy(&meta, bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(ask(first.url.as_str(), "version").await, "one");

    let third = change_and_deploy(&meta, definition("story", "three")).await.unwrap();
    assert_eq!(third.url, first.url);
    assert_eq!(ask(first.url.as_str(), "version").await, "three");
    assert_eq!(ask(first.url.as_str(), "token").await, "s3cret");

    // Another program finds all of it, and the bundle of the old version.
    let other = open(&account).await;
    other.deployments().rollback(&key("story"), &first.version).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");

    let error = create_and_deploy(&meta, &definition("foreign", "one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(scripts(&account).await, [DISPATCHER, OUTBOUND]);
    for name in ["story", "foreign"] {
        meta.deployments().remove(&key(name)).await.unwrap();
    }
    assert_eq!(dispatched(&account).await, ["foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_is_there_as_long_as_a_server_is() {
    let account = Account::start().await;
    let meta = open(&account).await;
    let one = create_and_deploy(&meta, &definition("one", "1")).await.unwrap();
    let two = create_and_deploy(&meta, &definition("two", "2")).await.unwrap();
    meta.deployments().remove(&key("one")).await.unwrap();
    assert_eq!(ask(two.url.as_str(), "version").await, "2");
    let gone = reqwest::get(one.url.clone()).await.unwrap();
    assert_eq!(gone.status(), 404);
    assert_eq!(gone.text().await.unwrap(), r#"{"error":"there is no server \"one\" here"}"#);
    meta.deployments().remove(&key("two")).await.unwrap();
    assert_eq!(scripts(&account).await, Vec::<String>::new());
    let again = create_and_deploy(&meta, &definition("one", "1")).await.unwrap();
    assert_eq!(ask(again.url.as_str(), "version").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_stay_where_they_were_published() {
    let outside = Outside::start().await;
    let account = Account::start_with(outside.as_hosts(&["one.example.com"])).await;
    let meta = open(&account).await;
    create_and_deploy(&meta, &fetcher(Some(&["one.example.com"]))).await.unwrap();

    let error = metamcp_cloudflare::open(account.config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.message().contains(NAMESPACE) && error.help().unwrap().contains(NAMESPACE), "{error}");
    assert!(!scripts(&account).await.contains(&"fetcher".to_owned()));

    meta.deployments().remove(&key("fetcher")).await.unwrap();
    let elsewhere = metamcp_cloudflare::open(account.config()).await.unwrap();
    create_and_deploy(&elsewhere, &definition("plain", "one")).await.unwrap();
    // Who had it open before puts nothing into the namespace any more.
    let error = create_and_deploy(&meta, &definition("late", "one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(!dispatched(&account).await.contains(&"late".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_of_somebody_else_is_left_alone() {
    let account = Account::start().await;
    account.put_script(&format!("scripts/{OUTBOUND}")).await;
    let meta = open(&account).await;
    let error = create_and_deploy(&meta, &definition("story", "one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().contains(OUTBOUND), "{error}");
    meta.deployments().remove(&key("story")).await.unwrap();
    assert_eq!(scripts(&account).await, [OUTBOUND]);
}

/// How often something was uploaded that dispatches.
fn dispatchers(account: &Account) -> usize {
    let uploads = account.emulator.uploads();
    let dispatches = |binding: &Value| binding["type"] == "dispatch_namespace";
    uploads.iter().filter(|upload| upload.metadata["bindings"].as_array().unwrap().iter().any(dispatches)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_of_another_release_is_replaced() {
    let account = Account::start().await;
    let first = create_and_deploy(&open(&account).await, &definition("story", "one")).await.unwrap();
    let ours = account.emulator.uploads().into_iter().find_map(|upload| {
        let tags = upload.metadata["tags"].as_array()?.clone();
        tags.into_iter().find(|tag| tag.as_str().unwrap().contains(":front-"))
    });
    let meta = open(&account).await;
    change_and_deploy(&meta, definition("story", "two")).await.unwrap();
    assert_eq!(dispatchers(&account), 1);
    let url = format!(
        "{}/accounts/{}/workers/scripts/{DISPATCHER}/script-settings",
        account.emulator.base_url(),
        account::ID
    );
    let tags = json!({ "tags": [ours.unwrap(), "metamcp-release:older"] });
    let changed = reqwest::Client::new().patch(url).bearer_auth(account::TOKEN).json(&tags).send().await.unwrap();
    assert!(changed.status().is_success());
    let meta = open(&account).await;
    change_and_deploy(&meta, definition("story", "three")).await.unwrap();
    assert_eq!(dispatchers(&account), 2);
    assert_eq!(ask(first.url.as_str(), "version").await, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_no_outbound_worker_is_refused() {
    let account = Account::start().await;
    let meta = open(&account).await;
    let mut sessions = definition("talks", "one");
    sessions.sessions = true;
    let error = create_and_deploy(&meta, &sessions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("Durable Objects"), "{error}");
    let mut browser = fetcher(Some(&["api.example.com"]));
    browser.bindings = serde_json::from_value(json!({ "BROWSER": { "type": "browser" } })).unwrap();
    let error = create_and_deploy(&meta, &browser).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("BROWSER"), "{error}");
    assert_eq!(dispatched(&account).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_know_its_secret_are_let_in() {
    let account = Account::start().await;
    account::check_bearer(&open(&account).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_a_secret_outlive_the_api_token() {
    let account = Account::start_open().await;
    let with = async |token: &str| {
        let config = account.config_with(token).with_dispatch_namespace(NAMESPACE).unwrap();
        metamcp_cloudflare::open(config).await.unwrap()
    };
    account::check_new_token(with).await;
}

/// A server's attempts to reach something, each with what it saw.
async fn attempts(url: &str, targets: &[&str]) -> Vec<String> {
    let mut seen = Vec::new();
    for target in targets {
        seen.push(call(url, "fetch", json!({ "url": target })).await);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_hosts_are_reached() {
    let outside = Outside::start().await;
    let hosts = ["api.example.com", "a.example.org", "example.org", "evil.example.net", "notexample.org"];
    let account = Account::start_with(outside.as_hosts(&hosts)).await;
    let meta = open(&account).await;
    let egress = ["api.example.com", "*.example.org"];
    let deployment = create_and_deploy(&meta, &fetcher(Some(&egress))).await.unwrap();
    let url = deployment.url.as_str();

    let allowed = ["https://api.example.com/x", "http://API.example.com:8080/x", "https://a.example.org./x"];
    assert_eq!(attempts(url, &allowed).await, ["200 seen /x"; 3]);
    // A redirect within what is allowed is followed, by the server's own `fetch`.
    let within = "https://api.example.com/redirect?to=https://a.example.org/y";
    assert_eq!(attempts(url, &[within]).await, ["200 seen /y"]);
    let before = outside.requests();
    let forbidden = [
        "https://evil.example.net/x",
        "https://example.org/x",
        "https://notexample.org/x",
        "https://api.example.com@evil.example.net/x",
        "http://127.0.0.1:1/x",
        "http://2130706433/x",
        "http://[::1]/x",
        "http://8.8.8.8/x",
    ];
    for seen in attempts(url, &forbidden).await {
        assert!(seen.starts_with("403 ") && seen.contains("is not in this server's egress list"), "{seen}");
    }
    assert_eq!(outside.requests(), before);
    let away = "https://api.example.com/redirect?to=https://evil.example.net/x";
    assert!(attempts(url, &[away]).await[0].starts_with("403 host evil.example.net"));
    assert_eq!(outside.requests(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_those_of_the_live_version() {
    let outside = Outside::start().await;
    let account = Account::start_with(outside.as_hosts(&["one.example.com", "two.example.com"])).await;
    let meta = open(&account).await;
    let targets = ["https://one.example.com/x", "https://two.example.com/x"];
    let statuses = async |url: &str| {
        let seen = attempts(url, &targets).await;
        seen.iter().map(|seen| seen[..3].to_owned()).collect::<Vec<_>>()
    };
    let first = create_and_deploy(&meta, &fetcher(Some(&["one.example.com"]))).await.unwrap();
    let url = first.url.as_str();
    assert_eq!(statuses(url).await, ["200", "403"]);
    change_and_deploy(&meta, fetcher(Some(&["two.example.com"]))).await.unwrap();
    assert_eq!(statuses(url).await, ["403", "200"]);
    change_and_deploy(&meta, fetcher(Some(&[]))).await.unwrap();
    assert_eq!(statuses(url).await, ["403", "403"]);
    change_and_deploy(&meta, fetcher(None)).await.unwrap();
    assert_eq!(statuses(url).await, ["200", "200"]);
    meta.deployments().rollback(&key("fetcher"), &first.version).await.unwrap();
    assert_eq!(statuses(url).await, ["200", "403"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_private_addresses_are_out_of_reach() {
    let account = Account::start().await;
    let meta = open(&account).await;
    let deployment = create_and_deploy(&meta, &fetcher(None)).await.unwrap();
    let private = [
        "http://127.0.0.1:1/",
        "http://0x7f.1/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:a00:1::]/",
        "http://[2001:db8::1]/",
        "http://[3fff::1]/",
        "http://localhost/",
    ];
    for (target, seen) in private.iter().zip(attempts(deployment.url.as_str(), &private).await) {
        assert!(seen.starts_with("403 ") && seen.contains("private"), "{target}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_written_keep_the_old_version_live() {
    let outside = Outside::start().await;
    let account = Account::start_with(outside.as_hosts(&["one.example.com", "two.example.com"])).await;
    let meta = open(&account).await;
    let first = create_and_deploy(&meta, &fetcher(Some(&["one.example.com"]))).await.unwrap();
    let put = "scripts/fetcher".to_owned();
    let refusal = Effect::Refuse { status: 400, retry_after: None };
    account.emulator.faults().add(Fault { method: Some("PUT".into()), path: put, skip: 0, times: 1, effect: refusal });
    change_and_deploy(&meta, fetcher(Some(&["two.example.com"]))).await.unwrap_err();
    let seen = attempts(first.url.as_str(), &["https://one.example.com/x", "https://two.example.com/x"]).await;
    assert_eq!(seen[0], "200 seen /x");
    assert!(seen[1].starts_with("403 "), "{}", seen[1]);
}

#[tokio::test]
async fn a_namespace_is_made_once_though_the_answer_was_lost() {
    let account = Account::start().await;
    let path = "dispatch/namespaces".to_owned();
    account.emulator.faults().add(Fault {
        method: Some("POST".into()),
        path,
        skip: 0,
        times: 1,
        effect: Effect::DropAnswer,
    });
    for _ in 0..2 {
        let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
        DispatchPublisher::open(account.client(), database, NAMESPACE).await.unwrap();
    }
    assert_eq!(dispatched(&account).await, Vec::<String>::new());
}
