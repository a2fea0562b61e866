//! The SQLite store when programs die, race and are newer than this one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use metamcp_core::registry::sql::{SqlExecutor, SqlValue, Statement};
use metamcp_core::registry::{
    ApiKeyRecord, AuditEntry, AuditOutcome, ClientConnection, DeploymentId, DeploymentKind, DeploymentRecord,
    DeploymentStep, Expect, ListOptions, Registry, VersionRecord,
};
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
        let names: Vec<_> = applied.into_iter().map(|row| row[1].clone()).collect();
        let known = metamcp_core::registry::sql::MIGRATIONS.iter().map(|(name, _)| SqlValue::Text((*name).to_owned()));
        assert_eq!(names, known.collect::<Vec<_>>());
    }
}

/// Of a database of the first version, what stood behind the actions becomes outcomes.
#[tokio::test]
async fn audit_entries_of_the_first_version_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let executor = SqliteExecutor::open(&path).await.unwrap();
    let (name, text) = metamcp_core::registry::sql::MIGRATIONS[0];
    let mut batch: Vec<_> = text.split(";\n").filter(|sql| !sql.trim().is_empty()).map(str::to_owned).collect();
    batch
        .push("CREATE TABLE d1_migrations (id INTEGER PRIMARY KEY, name TEXT UNIQUE, applied_at TIMESTAMP)".to_owned());
    batch.push(format!("INSERT INTO d1_migrations (name) VALUES ('{name}')"));
    let actions = ["init_mcp_server", "rollback begun", "deploy_mcp_server failed", "set_secret refused"];
    batch.extend(actions.iter().enumerate().map(|(number, action)| {
        let at = "'2026-01-01T00:00:00.000000000Z'";
        format!(
            "INSERT INTO mcp_audit (id, at, actor, action, created_at, updated_at)
             VALUES ('{number}', {at}, 'test', '{action}', {at}, {at})"
        )
    }));
    executor.execute(batch.into_iter().map(|sql| Statement::new(sql, [])).collect()).await.unwrap();
    drop(executor);

    let entries = open(&path).await.list_audit(10).await.unwrap();
    let read: Vec<_> = entries.iter().rev().map(|entry| (entry.action.as_str(), entry.outcome)).collect();
    let expected = [
        ("init_mcp_server", AuditOutcome::Done),
        ("rollback", AuditOutcome::Begun),
        ("deploy_mcp_server", AuditOutcome::Failed),
        ("set_secret", AuditOutcome::Refused),
    ];
    assert_eq!(read, expected);
    assert!(entries.iter().all(|entry| entry.subject.is_none()));
}

#[tokio::test]
async fn the_oldest_audit_entries_make_way() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let entry = |action: &str| AuditEntry {
        at: time::OffsetDateTime::UNIX_EPOCH,
        actor: "test".to_owned(),
        action: action.to_owned(),
        outcome: AuditOutcome::Done,
        subject: None,
        server: None,
        before: None,
        after: None,
    };
    for action in ["first", "second"] {
        registry.append_audit(&entry(action)).await.unwrap();
    }
    // As after many others.
    let most = metamcp_core::registry::AUDIT_ENTRIES;
    query(&registry, &format!("UPDATE sqlite_sequence SET seq = {most} WHERE name = 'mcp_audit'")).await;
    registry.append_audit(&entry("third")).await.unwrap();
    let kept: Vec<_> = registry.list_audit(10).await.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(kept, ["third", "second"]);
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

async fn query(registry: &SqliteRegistry, sql: &str) -> Vec<Vec<SqlValue>> {
    registry.executor().execute(vec![Statement::new(sql.to_owned(), [])]).await.unwrap().remove(0)
}

/// Texts that a statement, a line or a JSON text could end at, long ones, and rows of every table.
async fn fill(registry: &SqliteRegistry) {
    let long = format!("{}'\\n", "€".repeat(70)).repeat(1_200);
    let hostile = "it's;\n-- 'a' || \"b\" \u{2028} \\n ;\n日本語";
    let mut definition: ServerDefinition = serde_json::from_value(serde_json::json!({
        "name": "whole", "description": hostile, "vars": { "TEXT": hostile, "NUMBER": 1.5 },
        "tools": [
            { "name": "long", "description": "x", "implementation": format!("return `{long}`;") },
            { "name": "short", "description": hostile, "implementation": "return 1;\n// ;\n" }
        ],
        "resources": [{ "uri": "a://b", "name": "r", "implementation": "return '';" }],
        "prompts": [{ "name": "p", "description": "x", "template": "a;\nb" }]
    }))
    .unwrap();
    for number in 0..5 {
        let mut again = definition.tools[0].clone();
        again.name = format!("long_{number}");
        definition.tools.push(again);
    }
    let server = registry.put_server(&validate(&definition).unwrap(), Expect::Absent).await.unwrap();
    registry.put_server(&numbered(1), Expect::Absent).await.unwrap();
    let (record, lease) = registry.lease_server(&server.id.into(), "test", Duration::from_secs(60)).await.unwrap();
    let now = time::OffsetDateTime::now_utc();
    let version = VersionRecord {
        server_id: record.id,
        version: "v1".parse().unwrap(),
        revision: record.revision,
        artifact: metamcp_core::Digest::of("v1"),
        definition: record.definition.clone(),
        created_at: now,
    };
    let deployment = DeploymentRecord {
        id: DeploymentId(uuid::Uuid::new_v4()),
        server: record.reference(),
        kind: DeploymentKind::Deploy,
        step: DeploymentStep::Failed,
        revision: record.revision,
        version: Some(version.version.clone()),
        previous: None,
        error: Some(hostile.to_owned()),
        created_at: now,
    };
    registry.put_version(&version, &deployment, &lease).await.unwrap();
    registry.finish_deployment(&deployment, None, &lease).await.unwrap();
    let entry = AuditEntry {
        at: now,
        actor: hostile.to_owned(),
        action: "put".to_owned(),
        outcome: AuditOutcome::Done,
        subject: Some(hostile.to_owned()),
        server: None,
        before: None,
        after: Some(version.artifact),
    };
    registry.append_audit(&entry).await.unwrap();
    let connection = ClientConnection {
        id: uuid::Uuid::new_v4(),
        name: "elsewhere".to_owned(),
        server_id: record.id,
        config: serde_json::json!({ "url": hostile }),
        capabilities: serde_json::json!({}),
        tools_count: 1,
        resources_count: 0,
        prompts_count: 0,
        last_connected: Some(now),
    };
    registry.put_connection(&connection).await.unwrap();
    let key = ApiKeyRecord {
        id: uuid::Uuid::new_v4(),
        name: hostile.to_owned(),
        hash: version.artifact,
        scopes: Vec::new(),
        servers: Vec::new(),
        expires_at: None,
        revoked_at: None,
    };
    registry.put_api_key(&key).await.unwrap();
}

/// What an export has to bring over.
async fn everything(registry: &SqliteRegistry) -> String {
    let mut all = Vec::new();
    for server in registry.list_servers(&ListOptions::default()).await.unwrap().items {
        let id = server.id;
        all.push(serde_json::to_value(registry.get_server(&id.into()).await.unwrap()).unwrap());
        all.push(serde_json::to_value(registry.list_versions(id).await.unwrap()).unwrap());
        all.push(serde_json::to_value(registry.list_deployments(id, 10).await.unwrap()).unwrap());
        all.push(serde_json::to_value(registry.list_connections(id).await.unwrap()).unwrap());
    }
    let (keys, audit) = (registry.list_api_keys().await.unwrap(), registry.list_audit(10).await.unwrap());
    format!("{all:?} {keys:?} {audit:?}")
}

#[tokio::test]
async fn an_export_read_into_an_empty_database_is_the_same_registry() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("old.db")).await;
    fill(&registry).await;
    let export = registry.export().await.unwrap();
    let new = SqliteExecutor::open(&folder.path().join("new.db")).await.unwrap();
    let copy = SqliteRegistry::import(new, &export).await.unwrap();
    assert_eq!(everything(&copy).await, everything(&registry).await);
    assert_eq!(copy.export().await.unwrap(), export);

    let occupied = SqliteExecutor::open(&folder.path().join("new.db")).await.unwrap();
    let refused = SqliteRegistry::import(occupied, &export).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
}

/// A part of an export is no registry.
#[tokio::test]
async fn an_import_that_failed_in_the_middle_opens_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("old.db")).await;
    fill(&registry).await;
    // It is longer than one batch, so a part of it arrives.
    let broken = registry.export().await.unwrap().replace("INSERT INTO mcp_audit", "INSERT INTO absent");
    let path = folder.path().join("new.db");
    let error = SqliteRegistry::import(SqliteExecutor::open(&path).await.unwrap(), &broken).await.unwrap_err();
    assert!(error.to_string().contains("remove it"), "{error}");
    assert!(SqliteRegistry::open(SqliteExecutor::open(&path).await.unwrap()).await.is_err());
}

/// Every table and column but the leases: what a migration adds is not forgotten.
#[tokio::test]
async fn an_export_has_every_column() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("old.db")).await;
    fill(&registry).await;
    let export = registry.export().await.unwrap();
    let columns = "SELECT m.name, c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
         WHERE m.type = 'table' AND m.name LIKE 'mcp%' AND m.name <> 'mcp_leases'";
    let rows = registry.executor().execute(vec![Statement::new(columns, [])]).await.unwrap().remove(0);
    assert!(rows.len() > 80, "{rows:?}");
    for row in rows {
        let [SqlValue::Text(table), SqlValue::Text(column)] = row.as_slice() else { panic!("{row:?}") };
        let insert = export.lines().find(|line| line.starts_with(&format!("INSERT INTO {table} ("))).unwrap();
        let listed = insert.split_once('(').unwrap().1.split_once(')').unwrap().0;
        assert!(listed.split(", ").any(|listed| listed == column), "{table} lacks {column}: {listed}");
    }
}

#[tokio::test]
async fn a_lease_that_was_given_back_is_free_also_once_the_clock_is_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    let lease = registry.acquire_lease("server:x", "holder", Duration::from_secs(30)).await.unwrap();
    registry.release_lease(&lease).await.unwrap();
    // What a clock of the year 2000 would still take for held.
    let held = Statement::new("SELECT count(*) FROM mcp_leases WHERE expires_at > '2000-01-01'", []);
    let rows = SqliteExecutor::open(&path).await.unwrap().execute(vec![held]).await.unwrap();
    assert_eq!(rows[0][0], [SqlValue::Integer(0)]);
}
