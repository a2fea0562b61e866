//! An edge that does not know of a deployment yet: a version is live when it is what answers.

use std::time::Duration;

use metamcp_cloudflare_emulator::Options;
use metamcp_core::registry::RecordStatus;
use metamcp_core::{ErrorKind, ReconcileReport, ServerDefinition};
use serde_json::json;

use crate::account::Account;
use crate::{ask, change, create_and_deploy, definition, key, placements};

/// One whose answers nothing checks.
fn unchecked(name: &str, answer: &str) -> ServerDefinition {
    let mut definition = definition(name, answer);
    definition.tools[0].examples.clear();
    definition
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_body_is_live_once_it_is_what_answers() {
    let account = Account::start_with(Options { stale_answers: 8, ..Options::default() }).await;
    for config in placements(&account) {
        let meta = metamcp_cloudflare::open(config).await.unwrap();
        let first = create_and_deploy(&meta, &unchecked("edge", "one")).await.unwrap();
        assert_eq!(ask(first.url.as_str(), "version").await, "one");
        meta.secrets().set(&key("edge"), &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
        change(&meta, unchecked("edge", "two")).await;
        meta.deployments().deploy(&key("edge")).await.unwrap();
        assert_eq!(ask(first.url.as_str(), "version").await, "two");

        let mut bad = definition("edge", "three");
        bad.tools[0].examples[0].expected = json!("four");
        change(&meta, bad).await;
        let error = meta.deployments().deploy(&key("edge")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VerificationFailed, "{error}");
        assert_eq!(ask(first.url.as_str(), "version").await, "two");

        meta.deployments().rollback(&key("edge"), &first.version).await.unwrap();
        assert_eq!(ask(first.url.as_str(), "version").await, "one");
        // With another secret it still goes by its name.
        assert_eq!(ask(first.url.as_str(), "token").await, "s3cret");
        meta.deployments().remove(&key("edge")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_arrive_is_not_said_to_be_live() {
    let account = Account::start().await;
    for config in placements(&account) {
        let meta = metamcp_cloudflare::open(config.with_settle_time(Duration::from_secs(1))).await.unwrap();
        account.emulator.set_stale_answers(u32::MAX);
        let error = create_and_deploy(&meta, &unchecked("edge", "one")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let live = meta.servers().get(&key("edge")).await.unwrap().live.unwrap();
        assert_eq!(live.status, RecordStatus::Failed);

        account.emulator.set_stale_answers(0);
        let first = meta.deployments().deploy(&key("edge")).await.unwrap();
        assert_eq!(ask(first.url.as_str(), "version").await, "one");
        account.emulator.set_stale_answers(u32::MAX);
        change(&meta, unchecked("edge", "two")).await;
        let error = meta.deployments().deploy(&key("edge")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.message().contains(first.version.as_str()), "{error}");
        assert_eq!(meta.deployments().reconcile().await.unwrap(), ReconcileReport::default());

        // What was live is live again, whenever that arrives.
        account.emulator.set_stale_answers(0);
        assert_eq!(meta.servers().get(&key("edge")).await.unwrap().live.unwrap().version, first.version);
        assert_eq!(ask(first.url.as_str(), "version").await, "one");
        meta.deployments().deploy(&key("edge")).await.unwrap();
        assert_eq!(ask(first.url.as_str(), "version").await, "two");
        meta.deployments().remove(&key("edge")).await.unwrap();
    }
}
