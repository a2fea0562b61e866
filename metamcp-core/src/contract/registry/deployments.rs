use std::time::Duration;

use super::fixture::{
    MINUTE, deployment_of, lease, moment, put_version, some_server, unique_name, version_id, version_of, with_tools,
};
use crate::ErrorKind;
use crate::name::ServerId;
use crate::registry::{
    DeploymentRecord, DeploymentStep, Expect, LiveState, RecordStatus, Registry, Revision, ServerRecord,
};

fn live(server: &ServerRecord, version: &str) -> LiveState {
    LiveState {
        status: RecordStatus::Deployed,
        url: format!("http://127.0.0.1:8080/{}/mcp", server.name).parse().expect("a URL"),
        version: version_id(version),
        revision: server.revision,
    }
}

/// Each carries the definition it was made from, also when the working definition has moved on.
pub async fn versions_read_back_newest_first(registry: &dyn Registry) {
    let server = some_server(registry).await;
    assert!(registry.list_versions(server.id).await.unwrap().is_empty());
    let old = version_of(&server, "v1", moment(0));
    let newer = version_of(&server, "v2", moment(1));
    assert_eq!(put_version(registry, &server, &newer).await, 1);
    assert_eq!(put_version(registry, &server, &old).await, 2);
    let update = with_tools(&server.name, &["two"]);
    registry.put_server(&update, Expect::Revision(Revision(1))).await.unwrap();
    assert_eq!(registry.list_versions(server.id).await.unwrap(), [newer.clone(), old.clone()]);
    assert_eq!(registry.get_version(server.id, &old.version).await.unwrap(), old);

    registry.remove_version(server.id, &old.version).await.unwrap();
    registry.remove_version(server.id, &old.version).await.unwrap();
    let gone = registry.get_version(server.id, &old.version).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(registry.list_versions(server.id).await.unwrap(), [newer]);
    assert!(registry.list_versions(ServerId::random()).await.unwrap().is_empty());
    registry.remove_server(server.id).await.unwrap();
}

/// A version is known by server and version id; two servers may use the same one.
pub async fn putting_a_version_twice_keeps_one(registry: &dyn Registry) {
    let (server, other) = (some_server(registry).await, some_server(registry).await);
    let version = version_of(&server, "v1", moment(0));
    let same_id = version_of(&other, "v1", moment(0));
    for _ in 0..2 {
        assert_eq!(put_version(registry, &server, &version).await, 1);
    }
    assert_eq!(put_version(registry, &other, &same_id).await, 1);
    assert_eq!(registry.list_versions(server.id).await.unwrap(), [version]);
    assert_eq!(registry.list_versions(other.id).await.unwrap(), [same_id]);
    registry.remove_server(server.id).await.unwrap();
    registry.remove_server(other.id).await.unwrap();
}

/// It is pending until a final step, oldest first; a server's list is newest first and has a limit.
pub async fn a_deployment_is_recorded_step_by_step(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let held = lease(registry, &server).await;
    let mut first = deployment_of(&server, DeploymentStep::Building, moment(0));
    let second = deployment_of(&server, DeploymentStep::Removing, moment(1));
    registry.put_deployment(&second, &held).await.unwrap();
    registry.put_deployment(&first, &held).await.unwrap();
    assert_eq!(pending(registry, &server).await, [first.clone(), second.clone()]);

    first.step = DeploymentStep::Activating;
    first.version = Some(version_id("v2"));
    first.previous = Some(version_id("v1"));
    registry.put_deployment(&first, &held).await.unwrap();
    registry.put_deployment(&first, &held).await.unwrap();
    assert_eq!(registry.list_deployments(server.id, 10).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(registry.list_deployments(server.id, 1).await.unwrap(), std::slice::from_ref(&second));

    // The second step of the two comes with the version it is about.
    first.step = DeploymentStep::Verifying;
    let version = version_of(&server, "v2", moment(0));
    assert_eq!(registry.put_version(&version, &first, &held).await.unwrap(), 1);
    assert_eq!(registry.list_deployments(server.id, 10).await.unwrap()[1], first);
    assert_eq!(registry.list_versions(server.id).await.unwrap(), [version]);

    first.step = DeploymentStep::Failed;
    first.error = Some("it's \"broken\"\n100 %".to_owned());
    registry.finish_deployment(&first, None, &held).await.unwrap();
    assert_eq!(pending(registry, &server).await, [second]);
    assert_eq!(registry.list_deployments(server.id, 10).await.unwrap()[1], first);
    let untouched = registry.get_server(&server.id.into()).await.unwrap();
    assert_eq!((untouched.live, untouched.status), (None, RecordStatus::Draft));
    registry.remove_server(server.id).await.unwrap();
}

/// What is live survives changes of the definition, whose revision it does not change.
pub async fn finishing_a_deployment_sets_what_is_live(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let held = lease(registry, &server).await;
    let deployment = deployment_of(&server, DeploymentStep::Live, moment(0));
    let live = live(&server, "v1");
    registry.finish_deployment(&deployment, Some(live.clone()), &held).await.unwrap();
    let read = registry.get_server(&server.id.into()).await.unwrap();
    assert_eq!((read.status, read.live.as_ref(), read.revision), (RecordStatus::Deployed, Some(&live), Revision(1)));
    assert!(read.updated_at >= server.updated_at);
    assert_eq!(read.definition, server.definition);

    // The lease is over: the next deployment need not wait.
    assert_eq!(registry.put_deployment(&deployment, &held).await.unwrap_err().kind(), ErrorKind::Conflict);
    lease(registry, &server).await;

    let updated =
        registry.put_server(&with_tools(&server.name, &["two"]), Expect::Revision(Revision(1))).await.unwrap();
    assert_eq!((updated.status, updated.live.as_ref()), (RecordStatus::Deployed, Some(&live)));
    assert_eq!(registry.get_server(&server.id.into()).await.unwrap(), updated);
    registry.remove_server(server.id).await.unwrap();
}

/// Who lost the lease cannot undo what its new holder does.
pub async fn an_older_lease_may_not_write(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let name = format!("deploy:{}", server.id);
    let old = registry.acquire_lease(&name, "slow", Duration::ZERO).await.unwrap();
    let new = registry.acquire_lease(&name, "quick", MINUTE).await.unwrap();
    let deployment = deployment_of(&server, DeploymentStep::Building, moment(0));
    let error = registry.put_deployment(&deployment, &old).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("quick"), "{error}");
    let finish = registry.finish_deployment(&deployment, Some(live(&server, "v1")), &old).await;
    assert_eq!(finish.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(registry.list_deployments(server.id, 10).await.unwrap().is_empty());
    assert_eq!(registry.get_server(&server.id.into()).await.unwrap(), server);

    registry.put_deployment(&deployment, &new).await.unwrap();
    let later = DeploymentRecord { step: DeploymentStep::Failed, ..deployment.clone() };
    assert!(registry.finish_deployment(&later, Some(live(&server, "v1")), &old).await.is_err());
    assert_eq!(registry.list_deployments(server.id, 10).await.unwrap(), [deployment]);
    assert_eq!(registry.get_server(&server.id.into()).await.unwrap(), server);
    registry.remove_server(server.id).await.unwrap();
}

/// Also when nobody took it over: its holder may have been asleep for hours.
pub async fn a_lease_that_is_over_may_not_write(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let deployment = deployment_of(&server, DeploymentStep::Building, moment(0));
    let over = registry.acquire_lease(&unique_name().to_string(), "contract", Duration::ZERO).await.unwrap();
    assert_eq!(registry.put_deployment(&deployment, &over).await.unwrap_err().kind(), ErrorKind::Conflict);
    let released = lease(registry, &server).await;
    registry.release_lease(&released).await.unwrap();
    assert_eq!(registry.put_deployment(&deployment, &released).await.unwrap_err().kind(), ErrorKind::Conflict);
    let version = version_of(&server, "v1", moment(0));
    let refused = registry.put_version(&version, &deployment, &released).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(registry.list_versions(server.id).await.unwrap().is_empty());
    assert!(pending(registry, &server).await.is_empty());
    registry.remove_server(server.id).await.unwrap();
}

/// A lease is no server.
pub async fn a_deployment_of_an_unknown_server_is_not_found(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let held = lease(registry, &server).await;
    registry.remove_server(server.id).await.unwrap();
    let deployment = deployment_of(&server, DeploymentStep::Building, moment(0));
    assert_eq!(registry.put_deployment(&deployment, &held).await.unwrap_err().kind(), ErrorKind::NotFound);
    let version = version_of(&server, "v1", moment(0));
    let put = registry.put_version(&version, &deployment, &held).await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::NotFound);
    let finish = registry.finish_deployment(&deployment, Some(live(&server, "v1")), &held).await;
    assert_eq!(finish.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn pending(registry: &dyn Registry, server: &ServerRecord) -> Vec<DeploymentRecord> {
    let all = registry.pending_deployments().await.unwrap();
    all.into_iter().filter(|deployment| deployment.server.id == server.id).collect()
}
