//! A fault at each request of each step in turn. Afterwards, and after the next program that opens the account: what the
//! registry says is live is what answers, nothing else is there, and the step can be taken again.

use std::time::Duration;

use metamcp_cloudflare::{CloudflareConfig, D1Executor, D1Registry, RetryPolicy};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::registry::RecordStatus;
use metamcp_core::registry::sql::Statement;
use metamcp_core::{Deployment, ErrorKind, MetaMcp, ReconcileReport, Result, ServerKey};
use serde_json::json;

use crate::account::Account;
use crate::left::{column, left, scripts};
use crate::{ask, change, create_and_deploy, definition, key, placements};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    FirstDeploy,
    Update,
    BadUpdate,
    SetSecret,
    Rollback,
    Remove,
}

use Step::{BadUpdate, FirstDeploy, Remove, Rollback, SetSecret, Update};

/// The request never arrives.
const LOST: Effect = Effect::DropRequest;
/// Nothing is done.
const REFUSED: Effect = Effect::Refuse { status: 500, retry_after: None };
/// All is done, and nobody knows.
const UNKNOWN: Effect = Effect::TruncateAnswer;

const EFFECTS: [Effect; 3] = [LOST, REFUSED, UNKNOWN];

impl Step {
    /// What there is before the step.
    async fn prepare(self, meta: &MetaMcp, name: &str) -> Option<Deployment> {
        let one = definition(name, "one");
        if self == FirstDeploy {
            meta.servers().create(&one).await.unwrap();
            return None;
        }
        let first = create_and_deploy(meta, &one).await.unwrap();
        let mut two = definition(name, "two");
        if self == BadUpdate {
            two.tools[0].examples[0].expected = json!("three");
        }
        if matches!(self, Update | BadUpdate | Rollback) {
            change(meta, two).await;
        }
        if self == Rollback {
            meta.deployments().deploy(&key(name)).await.unwrap();
        }
        Some(first)
    }

    async fn take(self, meta: &MetaMcp, key: &ServerKey, first: Option<&Deployment>) -> Result<()> {
        let deployments = meta.deployments();
        match self {
            FirstDeploy | Update | BadUpdate => deployments.deploy(key).await.map(drop),
            SetSecret => meta.secrets().set(key, &"TOKEN".parse().unwrap(), "s3cret".into()).await,
            Rollback => deployments.rollback(key, &first.unwrap().version).await.map(drop),
            Remove => deployments.remove(key).await,
        }
    }

    /// What may be answered afterwards, whatever happened.
    fn answers(self) -> &'static [&'static str] {
        match self {
            FirstDeploy | BadUpdate | SetSecret | Remove => &["one"],
            Update | Rollback => &["one", "two"],
        }
    }
}

async fn hit_every_request(placement: usize, step: Step, effects: &[Effect]) {
    for effect in effects {
        let account = Account::start().await;
        let config = placements(&account)[placement].clone();
        let mut skip = 0;
        while hit(&account, &config, step, effect, skip).await {
            skip += 1;
        }
        assert!(skip >= 3, "{step:?}: {effect:?} hit {skip} requests only");
    }
}

/// Says whether there was a request to hit.
async fn hit(account: &Account, config: &CloudflareConfig, step: Step, effect: &Effect, skip: u32) -> bool {
    let name = format!("story-{skip}");
    let key = key(&name);
    // One attempt at each call, so that the fault is felt.
    let impatient = config.clone().with_retry(RetryPolicy::new(1, Duration::from_secs(60)));
    let meta = metamcp_cloudflare::open(impatient).await.unwrap();
    let first = step.prepare(&meta, &name).await;
    let before = account.emulator.faults().seen().len();
    account.emulator.faults().add(Fault { method: None, path: String::new(), skip, times: 1, effect: effect.clone() });
    let taken = step.take(&meta, &key, first.as_ref()).await;
    let requests = account.emulator.faults().seen().len() - before;
    account.emulator.faults().clear();
    let is_hit = requests > skip as usize;
    let context = format!("{step:?} with {effect:?} at request {skip}: {taken:?}");
    if step == BadUpdate {
        assert!(taken.is_err(), "{context}");
    } else if !is_hit {
        taken.as_ref().unwrap();
    }

    // A lease whose release was hit holds others up for its time only.
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    D1Registry::open(database.clone()).await.unwrap().expire_leases().await.unwrap();
    let meta = metamcp_cloudflare::open(config.clone()).await.unwrap();
    assert_eq!(meta.deployments().reconcile().await.unwrap(), ReconcileReport::default(), "{context}");
    check(&meta, account, &database, step, &key, taken.is_ok(), &context).await;
    assert_eq!(left(account).await, Vec::<String>::new(), "{context}");
    is_hit
}

/// Checks rows against scripts and scripts against rows, takes the step again and removes the server.
async fn check(
    meta: &MetaMcp,
    account: &Account,
    database: &D1Executor,
    step: Step,
    key: &ServerKey,
    was_taken: bool,
    context: &str,
) {
    let record = match meta.servers().get(key).await {
        Ok(record) => record,
        Err(error) => {
            assert!(step == Remove && error.kind() == ErrorKind::NotFound, "{error}; {context}");
            return;
        }
    };
    assert!(!(step == Remove && was_taken), "{context}");
    let select = Statement::new("SELECT version FROM worker_versions ORDER BY version", []);
    let mut recorded: Vec<_> = meta.deployments().versions(key).await.unwrap().into_iter().collect();
    recorded.sort_by(|a, b| a.version.cmp(&b.version));
    let recorded: Vec<_> = recorded.into_iter().map(|version| version.version.to_string()).collect();
    assert_eq!(column(database, select).await, recorded, "{context}");

    if step == FirstDeploy && record.status != RecordStatus::Deployed {
        // Nothing older could take its place.
        assert!(!was_taken, "{context}");
        meta.deployments().deploy(key).await.unwrap_or_else(|error| panic!("{error}; {context}"));
    } else {
        assert_eq!(record.status, RecordStatus::Deployed, "{context}");
    }
    let live = meta.servers().get(key).await.unwrap().live.unwrap_or_else(|| panic!("nothing is live; {context}"));
    let answer = ask(live.url.as_str(), "version").await;
    assert!(step.answers().contains(&answer.as_str()), "{answer}; {context}");
    assert_eq!(answer, if live.revision.0 == 1 { "one" } else { "two" }, "{context}");
    assert!(scripts(account).await.contains(&record.name.to_string()), "{context}");

    if step == SetSecret {
        let token = ask(live.url.as_str(), "token").await;
        assert!(token == "s3cret" || !was_taken, "{token}; {context}");
        step.take(meta, key, None).await.unwrap_or_else(|error| panic!("{error}; {context}"));
        assert_eq!(ask(live.url.as_str(), "token").await, "s3cret", "{context}");
    }
    meta.deployments().remove(key).await.unwrap_or_else(|error| panic!("{error}; {context}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_update_that_is_interrupted_leaves_the_old_version() {
    hit_every_request(0, BadUpdate, &[UNKNOWN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_is_finished() {
    hit_every_request(1, Remove, &[UNKNOWN]).await;
}

/// Every step with every effect, in the account and in a dispatch namespace.
macro_rules! every_step {
    ($($name:ident: $step:ident,)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs minutes"]
            async fn in_an_account() {
                hit_every_request(0, $step, &EFFECTS).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs minutes"]
            async fn in_a_dispatch_namespace() {
                hit_every_request(1, $step, &EFFECTS).await;
            }
        }
    )*};
}

every_step! {
    a_first_deploy: FirstDeploy,
    an_update: Update,
    a_bad_update: BadUpdate,
    a_secret: SetSecret,
    a_rollback: Rollback,
    a_removal: Remove,
}
