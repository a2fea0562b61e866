//! D1, Workers KV and the scripts of an account, as the emulator has them, keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::collections::BTreeMap;
use std::sync::Arc;

use account::Account;
use metamcp_cloudflare::{D1Executor, D1Registry, WorkerPublisher, WorkersKvCache};
use metamcp_core::contract::Subject;
use metamcp_core::{
    Artifact, COMPATIBILITY_DATE, EffectiveLimits, KvCache, Module, ModuleKind, Publisher, Registry, ServerName,
    WorkerSettings,
};

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

mod kv_cache {
    metamcp_core::kv_cache_contract!(super::kv_cache());
}

mod publisher {
    metamcp_core::publisher_contract!(super::publisher(), super::artifact);
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

fn artifact(name: &ServerName, number: u32) -> Artifact {
    let source = format!("export default {{ fetch: () => new Response('{number}') }};");
    let module = Module { kind: ModuleKind::EsModule, content: source.into() };
    Artifact {
        modules: BTreeMap::from([("index.js".to_owned(), module)]),
        main_module: "index.js".to_owned(),
        settings: WorkerSettings {
            name: name.clone(),
            compatibility_date: COMPATIBILITY_DATE.to_owned(),
            compatibility_flags: Vec::new(),
            vars: BTreeMap::new(),
            secrets: Vec::new(),
            bearer_secret: None,
            bindings: BTreeMap::new(),
            durable_objects: Vec::new(),
            crons: Vec::new(),
            egress: None,
            limits: EffectiveLimits::default(),
            tool_timeouts_ms: BTreeMap::new(),
            dependencies: BTreeMap::new(),
        },
    }
}
