//! What Cloudflare's trouble becomes: repeated where that is safe, otherwise an error that says what to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use account::Account;
use metamcp_cloudflare::{D1Executor, D1Registry, WorkersKvCache};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::registry::Expect;
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use metamcp_core::{ErrorKind, KvCache, Registry, ServerDefinition, Ttl, ValidDefinition, validate};

fn fault(method: &str, path: &str, times: u32, effect: Effect) -> Fault {
    Fault { method: Some(method.to_owned()), path: path.to_owned(), skip: 0, times, effect }
}

fn refusal(status: u16, retry_after: Option<u64>) -> Effect {
    Effect::Refuse { status, retry_after }
}

fn definition() -> ValidDefinition {
    let definition = serde_json::json!({ "name": "greeter", "description": "Says hello." });
    validate(&serde_json::from_value::<ServerDefinition>(definition).unwrap()).unwrap()
}

fn requests(account: &Account, path: &str) -> usize {
    account.emulator.faults().seen().iter().filter(|seen| seen.path.contains(path)).count()
}

#[tokio::test]
async fn a_lost_answer_changes_nothing_twice() {
    for effect in
        [refusal(503, None), refusal(429, Some(0)), Effect::DropRequest, Effect::DropAnswer, Effect::TruncateAnswer]
    {
        let account = Account::start().await;
        let executor = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
        let registry = D1Registry::open(executor).await.unwrap();
        account.emulator.faults().add(fault("POST", "/raw", 1, effect.clone()));
        let put = registry.put_server(&definition(), Expect::Absent).await;
        let record = put.unwrap_or_else(|error| panic!("{effect:?}: {error}"));
        let read = registry.get_server(&"greeter".parse().unwrap()).await.unwrap();
        assert_eq!((read.id, read.revision), (record.id, record.revision), "{effect:?}");
    }
}

#[tokio::test]
async fn trouble_that_does_not_end_is_an_error_that_counts_the_attempts() {
    let account = Account::start().await;
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    account.emulator.faults().add(fault("GET", "/values/", 100, refusal(503, None)));
    let error = cache.get("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("gave up after 4 attempts"), "{error}");
    assert_eq!(requests(&account, "/values/"), 4);
}

#[tokio::test]
async fn a_wait_longer_than_the_patience_is_told_and_not_taken() {
    let account = Account::start().await;
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    account.emulator.faults().add(fault("PUT", "/values/", 100, refusal(429, Some(300))));
    let error = cache.put("key", "value".into(), Ttl::HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(error.to_string().contains("try again in 300 s"), "{error}");
    assert_eq!(requests(&account, "/values/"), 1);
}

#[tokio::test]
async fn a_database_and_a_namespace_are_made_once_though_the_answer_was_lost() {
    let account = Account::start().await;
    account.emulator.faults().add(fault("POST", "/d1/database", 1, Effect::DropAnswer));
    account.emulator.faults().add(fault("POST", "/storage/kv/namespaces", 1, Effect::DropAnswer));
    let first = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let second = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    assert_eq!(first.database_id(), second.database_id());
    let first = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    let second = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    assert_eq!(first.namespace_id(), second.namespace_id());
}

#[tokio::test]
async fn a_wrong_token_is_not_tried_again_and_not_shown() {
    let account = Account::start().await;
    let error = D1Executor::open(account.client_with("wrong-token"), "meta-mcp-db").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let text = format!("{error:?} {error}");
    assert!(text.contains("CLOUDFLARE_API_TOKEN") && !text.contains("wrong-token"), "{text}");
    assert_eq!(requests(&account, "/d1/database"), 1);
}

#[tokio::test]
async fn what_exceeds_a_limit_of_d1_is_refused_before_it_is_sent() {
    let account = Account::start().await;
    let executor = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let parameters = vec![String::new(); 101];
    let too_many = Statement { sql: "SELECT 1".into(), params: parameters };
    let too_long = Statement { sql: format!("SELECT '{}'", "x".repeat(100_000)).into(), params: Vec::new() };
    let too_large = Statement { sql: "SELECT ?".into(), params: vec!["x".repeat(2_000_001)] };
    for statement in [too_many, too_long, too_large] {
        assert_eq!(executor.execute(vec![statement]).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
    assert_eq!(requests(&account, "/raw"), 0);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let account = Account::start().await;
    let executor = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let sql = |sql: &'static str| Statement::new(sql, []);
    executor.execute(vec![sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")]).await.unwrap();
    let insert = || sql("INSERT INTO t VALUES (1)");
    let error = executor.execute(vec![insert(), insert()]).await.unwrap_err();
    assert!(error.message().contains("UNIQUE constraint failed"), "{error}");
    assert!(executor.execute(vec![sql("SELECT * FROM t")]).await.unwrap()[0].is_empty());
}
