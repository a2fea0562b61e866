//! The local backends keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use metamcp_core::bundle::BundleBuilder;
use metamcp_core::contract::Subject;
use metamcp_core::contract::builder::BuilderCapabilities;
use metamcp_core::{
    Artifact, Builder, KvCache, Publisher, Registry, ServerDefinition, ServerName, SourceTree, WorkerSettings,
    generate, validate,
};
use metamcp_local::{LocalConfig, SqliteExecutor, SqliteKvCache, SqliteRegistry};
use serde_json::json;

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

mod kv_cache {
    metamcp_core::kv_cache_contract!(super::kv_cache());
}

mod publisher {
    metamcp_core::publisher_contract!(super::publisher(), super::artifact);
}

mod builder {
    metamcp_core::builder_contract!(super::builder(), super::project, super::BuilderCapabilities::default());
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

async fn publisher() -> Subject<dyn Publisher> {
    let folder = tempfile::tempdir().unwrap();
    let publisher = support::open(&LocalConfig::new(folder.path().join("data"))).await.unwrap();
    Subject::<dyn Publisher>::new(publisher).keeping(folder)
}

fn artifact(name: &ServerName, number: u32) -> Artifact {
    let server = support::server(name.as_str());
    support::artifact(&server, &format!("export default {{ fetch: () => new Response('{number}') }};"))
}

async fn builder() -> Subject<dyn Builder> {
    Subject::new(Arc::new(BundleBuilder::new(support::toolchain().await)))
}

fn project(number: u32) -> (SourceTree, WorkerSettings) {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "project", "description": "A project.",
        "tools": [{ "name": "number", "description": "A number.", "implementation": format!("return {number};") }]
    }))
    .unwrap();
    let valid = validate(&definition).unwrap();
    (generate(&valid).unwrap(), WorkerSettings::of(&valid))
}
