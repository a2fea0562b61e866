//! The memory backends keep every promise of the traits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use metamcp_core::contract::Subject;
use metamcp_core::contract::builder::BuilderCapabilities;
use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryPublisher, MemoryRegistry};
use metamcp_core::{
    Artifact, Builder, KvCache, Module, ModuleKind, Publisher, Registry, ServerDefinition, ServerName, SourceTree,
    WorkerSettings, validate,
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

mod builder {
    metamcp_core::builder_contract!(super::builder(), super::project, super::BuilderCapabilities::default());
}

fn registry() -> Subject<dyn Registry> {
    Subject::new(Arc::new(MemoryRegistry::new()))
}

fn kv_cache() -> Subject<dyn KvCache> {
    Subject::new(Arc::new(MemoryKvCache::new()))
}

fn publisher() -> Subject<dyn Publisher> {
    Subject::new(Arc::new(MemoryPublisher::new()))
}

fn builder() -> Subject<dyn Builder> {
    Subject::new(Arc::new(MemoryBuilder::new()))
}

fn settings(name: &str) -> WorkerSettings {
    let definition: ServerDefinition =
        serde_json::from_value(serde_json::json!({ "name": name, "description": "A server" })).unwrap();
    WorkerSettings::of(&validate(&definition).unwrap())
}

fn script(number: u32) -> String {
    format!("export default {{ fetch: () => new Response('{number}') }};")
}

fn artifact(name: &ServerName, number: u32) -> Artifact {
    let module = Module { kind: ModuleKind::EsModule, content: script(number).into() };
    Artifact {
        modules: [("index.js".to_owned(), module)].into(),
        main_module: "index.js".to_owned(),
        settings: settings(name.as_str()),
    }
}

fn project(number: u32) -> (SourceTree, WorkerSettings) {
    let mut source = SourceTree::new();
    source.insert("src/index.js", script(number)).unwrap();
    source.insert("src/definition.json", "{}").unwrap();
    source.insert("README.md", "not a module").unwrap();
    (source, settings("project"))
}
