//! D1 and Workers KV, as the emulator has them, keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::sync::Arc;

use account::Account;
use metamcp_cloudflare::{D1Executor, D1Registry, WorkersKvCache};
use metamcp_core::contract::Subject;
use metamcp_core::{KvCache, Registry};

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

mod kv_cache {
    metamcp_core::kv_cache_contract!(super::kv_cache());
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
