use serde_json::json;
use uuid::Uuid;

use super::fixture::{moment, some_server, unique_name};
use crate::ErrorKind;
use crate::name::ServerId;
use crate::registry::{ApiKeyRecord, AuditEntry, AuditOutcome, ClientConnection, Registry, ServerRecord};
use crate::source_tree::Digest;

fn connection(server: &ServerRecord, name: &str) -> ClientConnection {
    ClientConnection {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        server_id: server.id,
        config: json!({ "url": "https://example.com/mcp?a='b'", "pinned": [1.5, null, { "a": "\u{2028}\u{0}" }] }),
        capabilities: json!({ "tools": {} }),
        tools_count: 3,
        resources_count: 0,
        prompts_count: u32::MAX,
        last_connected: Some(moment(3)),
    }
}

/// Written, overwritten by id, listed by name, removed.
pub async fn connections_are_listed_by_name(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let prefix = unique_name();
    let mut second = connection(&server, &format!("{prefix} b"));
    let first = connection(&server, &format!("{prefix} a"));
    for connection in [&second, &first, &first] {
        registry.put_connection(connection).await.unwrap();
    }
    assert_eq!(registry.list_connections(server.id).await.unwrap(), [first.clone(), second.clone()]);
    second.tools_count = 4;
    second.last_connected = None;
    registry.put_connection(&second).await.unwrap();
    assert_eq!(registry.list_connections(server.id).await.unwrap(), [first.clone(), second.clone()]);
    registry.remove_connection(first.id).await.unwrap();
    registry.remove_connection(first.id).await.unwrap();
    assert_eq!(registry.list_connections(server.id).await.unwrap(), [second]);
    assert!(registry.list_connections(ServerId::random()).await.unwrap().is_empty());
    let stranger = ClientConnection { server_id: ServerId::random(), ..first };
    assert_eq!(registry.put_connection(&stranger).await.unwrap_err().kind(), ErrorKind::NotFound);
    registry.remove_server(server.id).await.unwrap();
}

/// Neither a new connection nor a renamed one takes a name over.
pub async fn a_connection_name_belongs_to_one_connection(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let first = connection(&server, unique_name().as_str());
    let mut second = connection(&server, &first.name);
    registry.put_connection(&first).await.unwrap();
    assert_eq!(registry.put_connection(&second).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    second.name = unique_name().to_string();
    registry.put_connection(&second).await.unwrap();
    let renamed = ClientConnection { name: first.name.clone(), ..second.clone() };
    assert_eq!(registry.put_connection(&renamed).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut expected = [first, second];
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(registry.list_connections(server.id).await.unwrap(), expected);
    registry.remove_server(server.id).await.unwrap();
}

/// Revoked keys stay findable, so that a refusal can say why.
pub async fn api_keys_are_found_by_hash(registry: &dyn Registry) {
    let key = |name: &str| ApiKeyRecord {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        hash: Digest::of(Uuid::new_v4().as_bytes()),
        scopes: vec!["tools:call".to_owned(), "a'b".to_owned()],
        servers: Vec::new(),
        expires_at: Some(moment(5)),
        revoked_at: None,
    };
    let (mut first, second) = (key("first"), key("second"));
    assert_eq!(registry.find_api_key(&first.hash).await.unwrap(), None);
    for key in [&first, &second, &first] {
        registry.put_api_key(key).await.unwrap();
    }
    first.revoked_at = Some(moment(1));
    first.servers = vec!["weather-*".to_owned()];
    registry.put_api_key(&first).await.unwrap();
    assert_eq!(registry.find_api_key(&first.hash).await.unwrap(), Some(first.clone()));
    let listed = registry.list_api_keys().await.unwrap();
    let ours: Vec<_> = listed.into_iter().filter(|key| [first.id, second.id].contains(&key.id)).collect();
    assert_eq!(ours, [first, second.clone()]);
    let same_hash = ApiKeyRecord { hash: second.hash, ..key("third") };
    assert_eq!(registry.put_api_key(&same_hash).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

/// Entries stay, equal ones too.
pub async fn audit_entries_come_newest_first(registry: &dyn Registry) {
    let actor = unique_name().to_string();
    let entry = |action: &str| AuditEntry {
        at: moment(0),
        actor: actor.clone(),
        action: action.to_owned(),
        outcome: AuditOutcome::Done,
        subject: Some("a version".to_owned()),
        server: Some("weather".to_owned()),
        before: None,
        after: Some(Digest::of(action)),
    };
    let outcomes = [AuditOutcome::Begun, AuditOutcome::Failed, AuditOutcome::Refused];
    let others = outcomes.map(|outcome| AuditEntry { outcome, subject: None, ..entry("remove") });
    for entry in &others {
        registry.append_audit(entry).await.unwrap();
    }
    for action in ["put", "deploy", "deploy"] {
        registry.append_audit(&entry(action)).await.unwrap();
    }
    let listed = registry.list_audit(1_000).await.unwrap();
    let ours: Vec<_> = listed.into_iter().filter(|entry| entry.actor == actor).collect();
    assert_eq!(ours[..3], [entry("deploy"), entry("deploy"), entry("put")]);
    assert_eq!(ours[3..].iter().rev().collect::<Vec<_>>(), others.iter().collect::<Vec<_>>());
    assert_eq!(registry.list_audit(1).await.unwrap().len(), 1);
    assert!(registry.list_audit(0).await.unwrap().is_empty());
}
