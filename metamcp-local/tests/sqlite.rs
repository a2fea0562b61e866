//! The SQLite store when programs die, race and are newer than this one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use metamcp_core::registry::sql::{SqlExecutor, SqlValue, Statement};
use metamcp_core::registry::{Expect, ListOptions, Registry};
use metamcp_core::{ErrorKind, ServerDefinition, ValidDefinition, validate};
use metamcp_local::{SqliteExecutor, SqliteRegistry};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

async fn open(path: &Path) -> SqliteRegistry {
    SqliteRegistry::open(SqliteExecutor::open(path).await.unwrap()).await.unwrap()
}

/// A definition whose tools, resources and prompts all carry the same number.
fn numbered(number: usize) -> ValidDefinition {
    let text = format!("return {number};");
    let items = |kind: &str| (0..20).map(|n| format!("{kind}_{number}_{n}")).collect::<Vec<_>>();
    let definition = serde_json::json!({
        "name": "counter",
        "description": format!("{number}"),
        "tools": items("tool").iter()
            .map(|name| serde_json::json!({ "name": name, "description": "x", "implementation": text })).collect::<Vec<_>>(),
        "resources": items("resource").iter()
            .map(|name| serde_json::json!({ "uri": format!("count://{name}"), "name": name, "implementation": text }))
            .collect::<Vec<_>>(),
        "prompts": items("prompt").iter()
            .map(|name| serde_json::json!({ "name": name, "description": "x", "template": text })).collect::<Vec<_>>(),
    });
    let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
    validate(&definition).unwrap()
}

const WRITER: &str = "METAMCP_TEST_WRITES_TO";

/// Runs itself again as the writer, and kills that somewhere in its loop.
#[tokio::test]
async fn a_writer_killed_at_any_moment_leaves_only_whole_definitions() {
    if let Some(path) = std::env::var_os(WRITER) {
        write_until_killed(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    for round in 1..=20 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_writer_killed_at_any_moment_leaves_only_whole_definitions", "--nocapture"])
            .env(WRITER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let written = lines.map(Result::unwrap).filter_map(|line| line.strip_prefix("wrote ")?.parse::<usize>().ok());
        let acknowledged = written.take(round % 4 + 1).last().expect("the writer wrote");
        writer.kill().unwrap();
        writer.wait().unwrap();

        let record = open(&path).await.get_server(&"counter".parse().unwrap()).await.unwrap();
        let number: usize = record.definition.description.parse().unwrap();
        assert!(number >= acknowledged, "an acknowledged write is lost");
        assert_eq!(record.definition, *numbered(number).written());
        assert_eq!(record.revision.0, u64::try_from(number).unwrap() + 1);
    }
}

#[expect(clippy::print_stdout, reason = "the parent test reads it")]
async fn write_until_killed(path: &Path) -> ! {
    let registry = open(path).await;
    let mut record = match registry.get_server(&"counter".parse().unwrap()).await {
        Ok(record) => record,
        Err(_) => registry.put_server(&numbered(0), Expect::Absent).await.unwrap(),
    };
    loop {
        let next = usize::try_from(record.revision.0).unwrap();
        record = registry.put_server(&numbered(next), Expect::Revision(record.revision)).await.unwrap();
        println!("\nwrote {next}");
    }
}

#[tokio::test]
async fn programs_that_open_a_new_file_at_once_migrate_it_once() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        let openings = (0..8).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { open(&path).await })
        });
        let registries = futures::future::join_all(openings).await;
        registries[0].as_ref().unwrap().put_server(&numbered(1), Expect::Absent).await.unwrap();
        for registry in &registries {
            let page = registry.as_ref().unwrap().list_servers(&ListOptions::default()).await.unwrap();
            assert_eq!(page.items.len(), 1);
        }
        let applied = query(registries[0].as_ref().unwrap(), "SELECT id, name FROM d1_migrations").await;
        assert_eq!(applied, [[SqlValue::Integer(1), SqlValue::Text("0001_initial.sql".to_owned())]]);
    }
}

#[tokio::test]
async fn two_registries_on_one_file_see_each_others_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let (first, second) = (open(&path).await, open(&path).await);
    let put = first.put_server(&numbered(1), Expect::Absent).await.unwrap();
    assert_eq!(second.get_server(&put.id.into()).await.unwrap(), put);
    let update = second.put_server(&numbered(2), Expect::Revision(put.revision)).await.unwrap();
    let stale = first.put_server(&numbered(3), Expect::Revision(put.revision)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(first.get_server(&put.id.into()).await.unwrap(), update);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    query(&registry, "INSERT INTO d1_migrations (name) VALUES ('9999_from_the_future.sql')").await;
    let error = SqliteRegistry::open(SqliteExecutor::open(&path).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("9999_from_the_future.sql"), "{error}");
}

#[tokio::test]
async fn a_batch_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let put = registry.put_server(&numbered(1), Expect::Absent).await.unwrap();
    let batch = ["DELETE FROM mcp_servers", "INSERT INTO mcp_tools (server_id) VALUES ('nobody')"];
    let batch = batch.map(|sql| Statement::new(sql, [])).into();
    assert_eq!(registry.executor().execute(batch).await.unwrap_err().kind(), ErrorKind::Unexpected);
    assert_eq!(registry.get_server(&put.id.into()).await.unwrap(), put);
}

#[tokio::test]
async fn the_tables_have_the_columns_that_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let put = registry.put_server(&numbered(1), Expect::Absent).await.unwrap();
    let sql = "SELECT s.status, t.name, t.parameters, t.implementation, r.uri, p.template, p.arguments
         FROM mcp_servers s JOIN mcp_tools t ON t.server_id = s.id JOIN mcp_resources r ON r.server_id = s.id
         JOIN mcp_prompts p ON p.server_id = s.id
         WHERE t.name = 'tool_1_3' AND r.name = 'resource_1_4' AND p.name = 'prompt_1_5'";
    let texts = ["draft", "tool_1_3", "{}", "return 1;", "count://resource_1_4", "return 1;", "[]"];
    assert_eq!(query(&registry, sql).await, [texts.map(|text| SqlValue::Text(text.to_owned()))]);

    registry.remove_server(put.id).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM mcp_tools) + (SELECT count(*) FROM mcp_resources)
         + (SELECT count(*) FROM mcp_prompts)";
    assert_eq!(query(&registry, left).await, [[SqlValue::Integer(0)]]);
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let registry = open(&path).await;
    registry.put_server(&numbered(1), Expect::Absent).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        seen += 1;
    }
    assert_eq!(seen, 3, "the database, its log and its index");
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_named() {
    let error = SqliteExecutor::open("/nonexistent/registry.db").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("/nonexistent/registry.db"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are notes and no database, whatever opens them").unwrap();
    assert_eq!(SqliteExecutor::open(&path).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
}

/// Any JSON, with the numbers and texts that are easily changed on the way.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        Just("\0\u{2028}'\"\\".into()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn any_definition_reads_back_as_written() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = runtime.block_on(open(&folder.path().join("registry.db")));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    let inputs = (any_json(), prop::collection::vec(any::<String>(), 1..4));
    let checked = runner.run(&inputs, |(value, texts)| {
        let tools = texts.iter().enumerate().map(|(n, text)| {
            let body = format!("return {};", serde_json::Value::from(text.as_str()));
            serde_json::json!({ "name": format!("tool_{n}"), "description": "x", "implementation": body })
        });
        let definition = serde_json::json!({
            "name": "any",
            "description": "x",
            "vars": { "ANY": value },
            "tools": tools.collect::<Vec<_>>(),
        });
        let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
        let definition = validate(&definition).map_err(|refused| TestCaseError::reject(refused.to_string()))?;
        let put = runtime.block_on(registry.put_server(&definition, Expect::Absent)).unwrap();
        let read = runtime.block_on(registry.get_server(&put.id.into())).unwrap();
        runtime.block_on(registry.remove_server(put.id)).unwrap();
        prop_assert_eq!(&read.definition, definition.written());
        prop_assert_eq!(read, put);
        Ok(())
    });
    checked.unwrap();
}

async fn query(registry: &SqliteRegistry, sql: &'static str) -> Vec<Vec<SqlValue>> {
    registry.executor().execute(vec![Statement::new(sql, [])]).await.unwrap().remove(0)
}
