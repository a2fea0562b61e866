//! The audit log: what was changed, how far it came, and that nothing goes on unwritten.

use std::sync::Arc;

use futures::FutureExt;
use metamcp_core::memory::{MemoryBuilder, MemoryRegistry};
use metamcp_core::registry::AuditOutcome::{Begun, Done, Failed};
use metamcp_core::registry::{AuditEntry, AuditOutcome};
use metamcp_core::{Error, ErrorKind, MetaMcp, MockRegistry, Registry, TrustedHosts};
use serde_json::json;

use super::{Client, everything, memory};

/// The newest entry that is about this.
async fn last(meta: &MetaMcp, action: &str) -> AuditEntry {
    let entries = meta.audit(100).await.unwrap();
    entries.into_iter().find(|entry| entry.action == action).unwrap_or_else(|| panic!("{action} is not written down"))
}

async fn subject(meta: &MetaMcp, action: &str) -> (AuditOutcome, String) {
    let entry = last(meta, action).await;
    (entry.outcome, entry.subject.unwrap_or_default())
}

#[tokio::test]
async fn entries_say_what_was_changed() {
    let meta = memory::meta().await.with_trusted_hosts(TrustedHosts::new(["127.0.0.1"]).unwrap());
    let client = Client::connect(&meta, everything()).await;
    let of = |change: serde_json::Value| {
        let mut arguments = json!({ "serverId": "vault" });
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        arguments
    };
    client.data("init_mcp_server", json!({ "name": "vault", "description": "Has a secret." })).await;
    client.data("update_mcp_server", of(json!({ "settings": { "secrets": ["TOKEN"], "egress": [] } }))).await;
    assert_eq!(subject(&meta, "update_mcp_server").await, (Done, "egress,secrets".to_owned()));
    client.data("set_secret", of(json!({ "name": "TOKEN", "value": "s3cret-value" }))).await;
    assert_eq!(subject(&meta, "set_secret").await, (Done, "TOKEN".to_owned()));
    let tool = json!({ "toolName": "echo", "description": "Echoes.", "implementation": "return 1;" });
    client.data("add_mcp_tool", of(tool)).await;
    assert_eq!(subject(&meta, "add_mcp_tool").await, (Done, "echo".to_owned()));
    client.call("test_mcp_tool", of(json!({ "toolName": "echo" }))).await;
    assert_eq!(subject(&meta, "test_mcp_tool").await, (Done, "echo".to_owned()));

    let deployed = client.data("deploy_mcp_server", of(json!({}))).await;
    let version = deployed["versionId"].as_str().unwrap().to_owned();
    assert_eq!(subject(&meta, "deploy_mcp_server").await, (Done, version.clone()));
    client.data("rollback", of(json!({ "versionId": version }))).await;
    assert_eq!(subject(&meta, "rollback").await, (Done, version));
    client.data("verify_deployment", of(json!({}))).await;
    assert_eq!(last(&meta, "verify_deployment").await.outcome, Done);
    client.data("connect_external_mcp", of(json!({ "serverUrl": deployed["url"], "serverName": "them" }))).await;
    assert_eq!(subject(&meta, "connect_external_mcp").await, (Done, "them".to_owned()));
    let write = json!({ "containerId": "c1", "path": "src/a.js", "content": "s3cret-value" });
    client.failure("write_file", write).await;
    let written = meta.audit(1).await.unwrap().remove(0);
    assert_eq!((written.action.as_str(), written.subject.as_deref()), ("write_file", Some("c1 src/a.js")));

    let for_none = json!({ "name": "agent", "scopes": ["read"], "servers": [] });
    let said = client.failure("create_api_key", for_none).await;
    assert!(said.starts_with("invalid_definition: servers is empty"), "{said}");
    let new = json!({ "name": "agent", "scopes": ["read", "call"], "servers": ["team-*"] });
    let id = client.data("create_api_key", new).await["id"].as_str().unwrap().to_owned();
    let named = format!("{id} agent read,call team-*");
    assert_eq!(subject(&meta, "create_api_key").await, (Done, named.clone()));
    client.data("revoke_api_key", json!({ "id": id })).await;
    assert_eq!(subject(&meta, "revoke_api_key").await, (Done, named));

    let everything = format!("{:?}", meta.audit(100).await.unwrap());
    assert!(!everything.contains("s3cret-value") && !everything.contains("mmk_"), "{everything}");
    assert!(!everything.contains("call_mcp_tool"));
}

#[tokio::test]
async fn code_that_ran_and_failed_is_written_down_as_failed() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let definition = json!({
        "name": "broken", "description": "Throws.",
        "tools": [{ "name": "fail", "description": "Throws.", "implementation": "throw 1;" }]
    });
    client.data("import_server", json!({ "definition": definition })).await;
    client.failure("test_mcp_tool", json!({ "serverId": "broken", "toolName": "fail" })).await;
    let entries = meta.audit(2).await.unwrap();
    let outcomes: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.outcome)).collect();
    assert_eq!(outcomes, [("test_mcp_tool", Failed), ("test_mcp_tool", Begun)]);
    let shown = client.data("list_audit_log", json!({ "limit": 2 })).await;
    assert_eq!(
        (&shown["entries"][0]["outcome"], &shown["entries"][1]["action"]),
        (&json!("failed"), &json!("import_server"))
    );
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_begun() {
    let (memory, mut mock) = (Arc::new(MemoryRegistry::new()), MockRegistry::new());
    let written = Arc::clone(&memory);
    mock.expect_list_api_keys().returning(move || written.list_api_keys().now_or_never().unwrap());
    mock.expect_append_audit().returning(|_| Err(Error::new(ErrorKind::Unavailable, "the registry does not answer")));
    let meta = memory::meta_on(Arc::new(mock), Arc::new(MemoryBuilder::new())).await;
    let client = Client::connect(&meta, everything()).await;
    // Making the key would be a call of the registry that nothing here expects.
    let said = client.failure("create_api_key", json!({ "name": "agent", "scopes": ["admin"] })).await;
    assert!(said.starts_with("unavailable: create_api_key was not begun"), "{said}");
    assert_eq!(meta.api_keys().list().await.unwrap(), []);
}

#[tokio::test]
async fn the_oldest_entries_make_way() {
    let registry = MemoryRegistry::new();
    let entry = |number: u32| AuditEntry {
        at: time::OffsetDateTime::UNIX_EPOCH,
        actor: "test".to_owned(),
        action: number.to_string(),
        outcome: Done,
        subject: None,
        server: None,
        before: None,
        after: None,
    };
    let all = metamcp_core::registry::AUDIT_ENTRIES;
    for number in 0..all + 2 {
        registry.append_audit(&entry(number)).await.unwrap();
    }
    let kept = registry.list_audit(u32::MAX).await.unwrap();
    assert_eq!((kept.len(), &kept[0], kept.last()), (all as usize, &entry(all + 1), Some(&entry(2))));
}
