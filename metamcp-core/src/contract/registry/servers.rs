use super::fixture::{
    MINUTE, deployment_of, full, lease, moment, some_server, unique_name, valid, version_of, with_tools,
};
use crate::ErrorKind;
use crate::name::{ServerId, ServerKey};
use crate::registry::{
    AuditEntry, AuditOutcome, ClientConnection, DeploymentStep, Expect, RecordStatus, Registry, Revision,
};

/// A new server is a draft of revision 1 and reads back by id and by name.
pub async fn a_new_server_reads_back_as_written(registry: &dyn Registry) {
    let definition = valid(full(&unique_name()));
    let put = registry.put_server(&definition, Expect::Absent).await.unwrap();
    assert_eq!((put.revision, put.status, &put.live), (Revision(1), RecordStatus::Draft, &None));
    assert_eq!(&put.definition, definition.written());
    assert_eq!(put.created_at, put.updated_at);
    assert_eq!(registry.get_server(&put.id.into()).await.unwrap(), put);
    assert_eq!(registry.get_server(&definition.name().into()).await.unwrap(), put);
    assert_eq!(registry.get_revision(&put.id.into()).await.unwrap(), (put.id, Revision(1)));
    assert_eq!(registry.get_revision(&definition.name().into()).await.unwrap(), (put.id, Revision(1)));
    registry.remove_server(put.id).await.unwrap();
}

/// Everything that needs a server says `NotFound` without one.
pub async fn an_absent_server_is_not_found(registry: &dyn Registry) {
    let (name, id) = (unique_name(), ServerId::random());
    for key in [ServerKey::from(&name), id.into()] {
        assert_eq!(registry.get_server(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(registry.get_revision(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(registry.remove_server(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let update = registry.put_server(&with_tools(&name, &["one"]), Expect::Revision(Revision(1))).await;
    assert_eq!(update.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(registry.get_server(&name.into()).await.is_err(), "a refused update made a server");
}

/// `Expect::Absent` never overwrites.
pub async fn another_server_of_the_same_name_already_exists(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let other = registry.put_server(&with_tools(&server.name, &["other"]), Expect::Absent).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(registry.get_server(&server.id.into()).await.unwrap(), server);
    registry.remove_server(server.id).await.unwrap();
}

/// Items may be changed, renamed, put in another order and left out; id and creation time stay.
pub async fn an_update_is_the_next_revision(registry: &dyn Registry) {
    let name = unique_name();
    let first = registry.put_server(&valid(full(&name)), Expect::Absent).await.unwrap();
    let mut changed = full(&name);
    changed["tools"].as_array_mut().expect("tools").reverse();
    changed["tools"][1]["name"] = "outlook".into();
    changed["resources"].as_array_mut().expect("resources").remove(0);
    changed["prompts"][0]["template"] = "Plan {{city}} again".into();
    changed["vars"] = serde_json::json!({});
    let changed = valid(changed);
    let second = registry.put_server(&changed, Expect::Revision(Revision(1))).await.unwrap();
    assert_eq!(second.revision, Revision(2));
    assert_eq!((second.id, second.created_at), (first.id, first.created_at));
    assert!(second.updated_at >= first.updated_at);
    let read = registry.get_server(&name.into()).await.unwrap();
    assert_eq!(&read.definition, changed.written());
    assert_eq!(read, second);
    registry.remove_server(first.id).await.unwrap();
}

/// The loser learns which revision there is and which one it had read.
pub async fn a_stale_revision_is_a_conflict_that_names_both(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let update = |tool| with_tools(&server.name, &[tool]);
    for (revision, tool) in [(1, "two"), (2, "three")] {
        registry.put_server(&update(tool), Expect::Revision(Revision(revision))).await.unwrap();
    }
    let error = registry.put_server(&update("four"), Expect::Revision(Revision(2))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains('3') && error.message().contains('2'), "{error}");
    let read = registry.get_server(&server.id.into()).await.unwrap();
    assert_eq!((read.revision, read.definition.tools[0].name.as_str()), (Revision(3), "three"));
    registry.remove_server(server.id).await.unwrap();
}

/// Whatever was expected: the wanted state is there.
pub async fn putting_the_same_twice_changes_nothing(registry: &dyn Registry) {
    let definition = valid(full(&unique_name()));
    let first = registry.put_server(&definition, Expect::Absent).await.unwrap();
    for expect in [Expect::Absent, Expect::Revision(Revision(1)), Expect::Revision(Revision(7))] {
        assert_eq!(registry.put_server(&definition, expect).await.unwrap(), first);
    }
    assert_eq!(registry.get_server(&first.id.into()).await.unwrap(), first);
    registry.remove_server(first.id).await.unwrap();
}

/// The others learn that the name is taken.
pub async fn of_racing_creators_one_wins(registry: &dyn Registry) {
    let name = unique_name();
    let definitions: Vec<_> = (0..8).map(|n| with_tools(&name, &[&format!("tool_{n}"), "same"])).collect();
    let puts = definitions.iter().map(|definition| registry.put_server(definition, Expect::Absent));
    let results = futures::future::join_all(puts).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|error| error.unwrap_err().kind() == ErrorKind::AlreadyExists));
    let read = registry.get_server(&name.into()).await.unwrap();
    assert_eq!(won.into_iter().next().unwrap().unwrap(), read);
    registry.remove_server(read.id).await.unwrap();
}

/// The definition afterwards is one writer's, whole.
pub async fn of_racing_writers_one_wins_and_nothing_is_mixed(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let definitions: Vec<_> = (0..8)
        .map(|n| {
            let names: Vec<String> = (0..=n).map(|item| format!("tool_{n}_{item}")).collect();
            with_tools(&server.name, &names.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let puts = definitions.iter().map(|definition| registry.put_server(definition, Expect::Revision(Revision(1))));
    let results = futures::future::join_all(puts).await;
    let won: Vec<_> = results.iter().zip(&definitions).filter(|(result, _)| result.is_ok()).collect();
    assert_eq!(won.len(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| error.kind() == ErrorKind::Conflict));
    let read = registry.get_server(&server.id.into()).await.unwrap();
    assert_eq!((&read.definition, read.revision), (won[0].1.written(), Revision(2)));
    registry.remove_server(server.id).await.unwrap();
}

/// It outlives writes of the definition, which it is no part of.
pub async fn the_container_of_a_server_is_noted_beside_its_definition(registry: &dyn Registry) {
    let server = some_server(registry).await;
    assert_eq!(server.container_id, None);
    registry.put_container(server.id, Some("c1".to_owned())).await.unwrap();
    let noted = registry.get_server(&server.id.into()).await.unwrap();
    assert_eq!((noted.container_id.as_deref(), noted.revision), (Some("c1"), server.revision));
    let changed = with_tools(&server.name, &["another"]);
    let changed = registry.put_server(&changed, Expect::Revision(server.revision)).await.unwrap();
    assert_eq!(changed.container_id.as_deref(), Some("c1"));
    registry.put_container(server.id, None).await.unwrap();
    assert_eq!(registry.get_server(&server.id.into()).await.unwrap().container_id, None);
    registry.remove_server(server.id).await.unwrap();
    let gone = registry.put_container(server.id, Some("c1".to_owned())).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

/// Versions, deployments and connections go with it, audit entries stay, and the name is free again.
pub async fn removing_a_server_removes_what_belongs_to_it(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let held = lease(registry, &server).await;
    let deployment = deployment_of(&server, DeploymentStep::Building, moment(0));
    registry.put_version(&version_of(&server, "v1", moment(0)), &deployment, &held).await.unwrap();
    registry.put_connection(&connection(&server)).await.unwrap();
    registry.append_audit(&audit(&server)).await.unwrap();
    registry.remove_server(server.id).await.unwrap();

    assert_eq!(registry.get_server(&server.id.into()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(registry.list_versions(server.id).await.unwrap().is_empty());
    assert!(registry.list_deployments(server.id, 10).await.unwrap().is_empty());
    assert!(registry.pending_deployments().await.unwrap().iter().all(|pending| pending.server.id != server.id));
    assert!(registry.list_connections(server.id).await.unwrap().is_empty());
    assert!(registry.list_audit(1_000).await.unwrap().contains(&audit(&server)));

    let again = registry.put_server(&with_tools(&server.name, &["one"]), Expect::Absent).await.unwrap();
    assert_ne!(again.id, server.id);
    assert_eq!(again.revision, Revision(1));
    registry.remove_server(again.id).await.unwrap();
    registry.renew_lease(&held, MINUTE).await.unwrap();
    registry.release_lease(&held).await.unwrap();
}

fn connection(server: &crate::registry::ServerRecord) -> ClientConnection {
    ClientConnection {
        id: uuid::Uuid::new_v4(),
        name: server.name.to_string(),
        server_id: server.id,
        config: serde_json::json!({}),
        capabilities: serde_json::json!({}),
        tools_count: 0,
        resources_count: 0,
        prompts_count: 0,
        last_connected: None,
    }
}

fn audit(server: &crate::registry::ServerRecord) -> AuditEntry {
    AuditEntry {
        at: moment(0),
        actor: "contract".to_owned(),
        action: "remove".to_owned(),
        outcome: AuditOutcome::Done,
        subject: None,
        server: Some(server.name.to_string()),
        before: None,
        after: None,
    }
}
