//! D1, Workers KV, the scripts of an account and of a dispatch namespace, as the emulator has them, keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::sync::Arc;

use account::Account;
use metamcp_cloudflare::{D1Executor, D1Registry, DispatchPublisher, WorkerPublisher, WorkersKvCache};
use metamcp_core::contract::Subject;
use metamcp_core::{KvCache, Publisher, Registry};

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

mod kv_cache {
    metamcp_core::kv_cache_contract!(super::kv_cache());
}

mod publisher {
    metamcp_core::publisher_contract!(super::publisher(), super::account::artifact);
}

mod dispatch_publisher {
    metamcp_core::publisher_contract!(super::dispatch_publisher(), super::account::artifact);
}

async fn registry() -> Subject<dyn Registry> {
    let account = Account::start().await;
    let executor = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    Subject::<dyn Registry>::new(Arc::new(D1Registry::open(executor).await.unwrap())).keeping(account)
}

async fn kv_cache() -> Subject<dyn KvCache> {
    let account = Account::start().await;
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    Subject::<dyn KvCache>::new(Arc::new(cache)).keeping(account)
}

async fn publisher() -> Subject<dyn Publisher> {
    let account = Account::start().await;
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let publisher = WorkerPublisher::open(account.client(), database).await.unwrap();
    Subject::<dyn Publisher>::new(Arc::new(publisher)).keeping(account)
}

async fn dispatch_publisher() -> Subject<dyn Publisher> {
    let account = Account::start().await;
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let publisher = DispatchPublisher::open(account.client(), database, "meta-mcp").await.unwrap();
    Subject::<dyn Publisher>::new(Arc::new(publisher)).keeping(account)
}
