//! The SQLite backends keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use metamcp_core::contract::Subject;
use metamcp_core::{KvCache, Registry};
use metamcp_local::{SqliteExecutor, SqliteKvCache, SqliteRegistry};

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

mod kv_cache {
    metamcp_core::kv_cache_contract!(super::kv_cache());
}

async fn registry() -> Subject<dyn Registry> {
    let folder = tempfile::tempdir().unwrap();
    let executor = SqliteExecutor::open(folder.path().join("registry.db")).await.unwrap();
    Subject::<dyn Registry>::new(Arc::new(SqliteRegistry::open(executor).await.unwrap())).keeping(folder)
}

async fn kv_cache() -> Subject<dyn KvCache> {
    let folder = tempfile::tempdir().unwrap();
    let cache = SqliteKvCache::open(folder.path().join("cache.db")).await.unwrap();
    Subject::<dyn KvCache>::new(Arc::new(cache)).keeping(folder)
}
