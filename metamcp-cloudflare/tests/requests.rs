//! How many requests publishing takes, and that what is remembered between them misleads nobody.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use account::{Account, artifact};
use metamcp_cloudflare::{D1Executor, DispatchPublisher, WorkerPublisher};
use metamcp_core::{ErrorKind, Publisher, ServerDefinition, ServerId, ServerKey, ServerRef};

/// Of the publisher alone; the rest are the registry's, each before or after a step.
const MOST: usize = 5;
/// wrangler's `deploy` of an existing Worker takes 9 to 14.
const MOST_IN_ALL: usize = 8;

fn server() -> ServerRef {
    ServerRef { id: ServerId::random(), name: "counted".parse().unwrap() }
}

async fn account_publisher(account: &Account) -> WorkerPublisher {
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    WorkerPublisher::open(account.client(), database).await.unwrap()
}

async fn publish(publisher: &dyn Publisher, server: &ServerRef, number: u32) {
    let staged = publisher.stage(server, &artifact(&server.name, number)).await.unwrap();
    publisher.activate(server, &staged.version).await.unwrap();
}

async fn check_update(account: &Account, publisher: &dyn Publisher) {
    let server = server();
    publish(publisher, &server, 1).await;
    let before = account.emulator.faults().seen().len();
    publish(publisher, &server, 2).await;
    let seen = account.emulator.faults().seen().split_off(before);
    assert!(seen.len() <= MOST, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_few_requests() {
    let account = Account::start().await;
    check_update(&account, &account_publisher(&account).await).await;
}

/// Cloudflare ignores it in a version's upload.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_version_holds_is_sent_with_the_script_only() {
    let account = Account::start().await;
    publish(&account_publisher(&account).await, &server(), 1).await;
    let uploads = account.emulator.uploads();
    let sent: Vec<_> = uploads.iter().map(|upload| upload.metadata["observability"]["enabled"] == true).collect();
    assert_eq!(sent, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_in_a_dispatch_namespace_takes_few_requests() {
    let account = Account::start().await;
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let publisher = DispatchPublisher::open(account.client(), database, "meta-mcp").await.unwrap();
    check_update(&account, &publisher).await;
}

/// The whole saga: lease, steps, upload, checks, record. Changing the definition before takes two more.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_takes_fewer_requests_than_wranglers() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let key: ServerKey = "counted".parse().unwrap();
    let mut definition: ServerDefinition = serde_json::from_value(serde_json::json!({
        "name": "counted", "description": "Counts.",
        "tools": [{ "name": "one", "description": "1", "implementation": "return 1;" }]
    }))
    .unwrap();
    meta.servers().create(&definition).await.unwrap();
    meta.deployments().deploy(&key).await.unwrap();
    definition.tools[0].implementation = "return 2;".to_owned();
    let before = account.emulator.faults().seen().len();
    meta.servers().edit(&key, |_| Ok(definition.clone())).await.unwrap();
    let edited = account.emulator.faults().seen().len();
    meta.deployments().deploy(&key).await.unwrap();
    let seen = account.emulator.faults().seen();
    assert_eq!(edited - before, 2, "{:#?}", &seen[before..edited]);
    assert!(seen.len() - edited <= MOST_IN_ALL, "{:#?}", &seen[edited..]);
    meta.close().await.unwrap();
}

/// Beside one more of the registry's for each thousand.
#[tokio::test(flavor = "multi_thread")]
async fn opening_an_account_takes_one_request_for_each_live_server() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let mut opened = Vec::new();
    for number in 1..=4 {
        let definition = serde_json::json!({ "name": format!("counted-{number}"), "description": "Counts." });
        let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
        let record = meta.servers().create(&definition).await.unwrap();
        meta.deployments().deploy(&record.id.into()).await.unwrap();
        let before = account.emulator.faults().seen().len();
        metamcp_cloudflare::open(account.config()).await.unwrap();
        opened.push(account.emulator.faults().seen().split_off(before));
    }
    let (first, last) = (&opened[0], &opened[3]);
    assert_eq!(last.len() - first.len(), 3, "{last:#?}");
    let servers = last.iter().filter(|seen| seen.path.ends_with("/deployments")).count();
    assert_eq!(servers, 4, "{last:#?}");
}

/// By wrangler or in the dashboard.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deployed_by_hand_is_seen() {
    let account = Account::start().await;
    let (publisher, server) = (account_publisher(&account).await, server());
    publish(&publisher, &server, 1).await;
    let scripts = format!("{}/accounts/{}/workers/scripts/counted", account.emulator.base_url(), account::ID);
    let http = reqwest::Client::new();
    let uploads = http.get(format!("{scripts}/versions")).bearer_auth(account::TOKEN).send().await.unwrap();
    let uploads: serde_json::Value = serde_json::from_slice(&uploads.bytes().await.unwrap()).unwrap();
    let placeholder = uploads["result"]["items"].as_array().unwrap().last().unwrap()["id"].clone();
    let versions = serde_json::json!([{ "version_id": placeholder, "percentage": 100 }]);
    let deployment = serde_json::json!({ "strategy": "percentage", "versions": versions });
    let deployed = http.post(format!("{scripts}/deployments")).bearer_auth(account::TOKEN).json(&deployment);
    assert!(deployed.send().await.unwrap().status().is_success());
    assert_eq!(publisher.list_servers().await.unwrap()[0].active, None);
    assert!(publisher.list_versions(&server).await.unwrap().iter().all(|version| !version.active));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_somebody_put_in_the_place_of_ours_is_left_alone() {
    let account = Account::start().await;
    let (publisher, server) = (account_publisher(&account).await, server());
    publish(&publisher, &server, 1).await;
    account.remove_script("scripts/counted").await;
    account.put_script("scripts/counted").await;
    let uploads = account.emulator.uploads().len();
    let error = publisher.stage(&server, &artifact(&server.name, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    publisher.unpublish(&server).await.unwrap();
    assert_eq!(account.emulator.uploads().len(), uploads);
    account.remove_script("scripts/counted").await;
}

/// Another program changed a secret since the version was uploaded: what goes live has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_set_elsewhere_is_in_what_goes_live() {
    let account = Account::start().await;
    let (publisher, other, server) = (account_publisher(&account).await, account_publisher(&account).await, server());
    publish(&publisher, &server, 1).await;
    let staged = publisher.stage(&server, &artifact(&server.name, 2)).await.unwrap();
    other.set_secret(&server, &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
    publisher.activate(&server, &staged.version).await.unwrap();
    let live = account.emulator.uploads().pop().unwrap();
    assert_eq!(live.metadata["annotations"]["workers/tag"], staged.version.as_str());
    assert_eq!(publisher.list_secret_names(&server).await.unwrap(), ["TOKEN".parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_that_another_program_removed_are_sent_again() {
    let account = Account::start().await;
    let (publisher, server) = (account_publisher(&account).await, server());
    publish(&publisher, &server, 1).await;
    account.sql("DELETE FROM worker_modules").await;
    let staged = publisher.stage(&server, &artifact(&server.name, 2)).await.unwrap();
    // Read back by a program that remembers nothing.
    account_publisher(&account).await.activate(&server, &staged.version).await.unwrap();
}
