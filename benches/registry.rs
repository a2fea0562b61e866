//! The registry at 1,000 and at 100,000 servers: every call should take about the same.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use metamcp_core::registry::{Expect, ListOptions, Registry, Revision};
use metamcp_core::{ServerDefinition, ServerKey, ValidDefinition, validate};
use metamcp_local::{SqliteExecutor, SqliteRegistry};
use tokio::runtime::Runtime;

const SIZES: [usize; 2] = [1_000, 100_000];

fn definition(name: &str, text: &str) -> ValidDefinition {
    let tools: Vec<_> = (0..5)
        .map(|n| {
            serde_json::json!({
                "name": format!("tool_{n}"),
                "description": "Looks something up",
                "parameters": { "query": { "type": "string", "required": true } },
                "implementation": format!("return parameters.query + {text:?};")
            })
        })
        .collect();
    let definition: ServerDefinition =
        serde_json::from_value(serde_json::json!({ "name": name, "description": "A server", "tools": tools }))
            .expect("a definition");
    validate(&definition).expect("a valid definition")
}

/// A registry of `size` servers: one that was put, and copies of its rows.
async fn filled(path: std::path::PathBuf, size: usize) -> SqliteRegistry {
    let executor = SqliteExecutor::open(path).await.expect("a file");
    let registry = SqliteRegistry::open(executor).await.expect("a registry");
    registry.put_server(&definition("original", "x"), Expect::Absent).await.expect("a server");
    let servers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < CAST(? AS INTEGER))
         INSERT INTO mcp_servers (id, name, description, version, created_at, updated_at, status, details)
         SELECT printf('%08x-0000-4000-8000-000000000000', i), printf('server-%06d', i), description, version,
         strftime('%Y-%m-%dT%H:%M:%fZ', created_at, printf('-%d seconds', i)),
         strftime('%Y-%m-%dT%H:%M:%fZ', updated_at, printf('-%d seconds', i)), status, details
         FROM mcp_servers CROSS JOIN n WHERE name = 'original'";
    let tools = "INSERT INTO mcp_tools
         (server_id, name, description, parameters, implementation, created_at, updated_at, details)
         SELECT s.id, t.name, t.description, t.parameters, t.implementation, t.created_at, t.updated_at, t.details
         FROM mcp_servers AS s CROSS JOIN mcp_tools AS t WHERE s.name <> 'original'";
    let batch = vec![Statement::new(servers, [(size - 1).to_string()]), Statement::new(tools, [])];
    registry.executor().execute(batch).await.expect("copies");
    registry
}

fn registry(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let registries = SIZES.map(|size| (size, runtime.block_on(filled(folder.path().join(format!("{size}.db")), size))));
    for (size, registry) in &registries {
        reads(criterion, &runtime, *size, registry);
    }
    for (size, registry) in &registries {
        writes(criterion, &runtime, *size, registry);
    }
}

fn reads(criterion: &mut Criterion, runtime: &Runtime, size: usize, registry: &SqliteRegistry) {
    let middle = format!("server-{:06}", size / 2);
    let name: ServerKey = middle.parse().expect("a name");
    let id: ServerKey = format!("{:08x}-0000-4000-8000-000000000000", size / 2).parse().expect("an id");
    let newest = runtime.block_on(registry.get_server(&"original".parse().expect("a name"))).expect("a server");
    let old = |seconds: usize| {
        let age = std::time::Duration::from_secs(seconds as u64);
        let mut old = ListOptions::default();
        old.not_updated_since = Some(newest.updated_at - age);
        old
    };
    let mut page = ListOptions::default();
    page.after = Some(middle.parse().expect("a name"));
    let mut drafts = page.clone();
    drafts.status = Some(metamcp_core::registry::RecordStatus::Draft);
    let lists =
        [("list", page), ("list_status", drafts), ("list_few_old", old(size - 200)), ("list_many_old", old(10))];
    for (label, key) in [("get_by_name", &name), ("get_by_id", &id)] {
        criterion.bench_with_input(BenchmarkId::new(label, size), key, |bencher, key| {
            bencher.to_async(runtime).iter(async || black_box(registry.get_server(key).await.expect("a server")));
        });
    }
    criterion.bench_with_input(BenchmarkId::new("get_revision", size), &name, |bencher, key| {
        bencher.to_async(runtime).iter(async || black_box(registry.get_revision(key).await.expect("a revision")));
    });
    for (label, options) in lists {
        criterion.bench_with_input(BenchmarkId::new(label, size), &options, |bencher, options| {
            bencher.to_async(runtime).iter(async || {
                let page = registry.list_servers(options).await.expect("a page");
                assert_eq!(page.items.len(), 100);
            });
        });
    }
}

fn writes(criterion: &mut Criterion, runtime: &Runtime, size: usize, registry: &SqliteRegistry) {
    let name = format!("server-{:06}", size / 2);
    let versions = [definition(&name, "a"), definition(&name, "b")];
    let key: ServerKey = name.parse().expect("a name");
    let mut revision = runtime.block_on(registry.get_revision(&key)).expect("a revision").1;
    criterion.bench_function(&format!("update/{size}"), |bencher| {
        bencher.iter(|| {
            let definition = &versions[usize::from(revision.0.is_multiple_of(2))];
            let put = runtime.block_on(registry.put_server(definition, Expect::Revision(revision)));
            revision = put.expect("an update").revision;
            assert!(revision > Revision(0));
        });
    });
    let new = definition("new", "x");
    criterion.bench_function(&format!("put_and_remove/{size}"), |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let put = registry.put_server(&new, Expect::Absent).await.expect("a server");
                registry.remove_server(put.id).await.expect("removed");
            });
        });
    });
}

criterion_group!(benches, registry);
criterion_main!(benches);
