//! An older version, live again: check, activate, verify.

use super::{Deployment, Deployments, verify_limit};
use crate::event::EventSink;
use crate::name::{ServerKey, VersionId};
use crate::registry::{DeploymentKind, DeploymentStep, LiveState, RecordStatus, ServerRecord};
use crate::saga::Saga;
use crate::verify::{Depth, verify};
use crate::{Error, ErrorKind, Result};

pub(super) async fn rollback(deployments: &Deployments, key: &ServerKey, version: &VersionId) -> Result<Deployment> {
    let backends = deployments.backends.clone();
    let (id, _) = backends.registry.get_revision(key).await?;
    let lease = deployments.lease(id).await.map_err(|error| error.with_operation("rollback"))?;
    let read = async {
        let record = backends.registry.get_server(&id.into()).await?;
        let target = backends.registry.get_version(id, version).await?;
        Ok((record, target))
    };
    let (record, target) = match read.await {
        Ok(read) => read,
        Err(error) => {
            lease.release().await;
            let error: Error = error;
            return Err(error.with_operation("rollback").with_help("list the versions to see those that are kept"));
        }
    };
    let server = record.reference();
    let events = EventSink::default();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Rollback, target.revision, events);
    saga.record.version = Some(version.clone());
    saga.record.previous = record.live.as_ref().map(|live| live.version.clone());
    match attempt(deployments, &mut saga, &record, version).await {
        Ok(deployment) => {
            let live = LiveState {
                status: RecordStatus::Deployed,
                url: deployment.url.clone(),
                version: version.clone(),
                revision: target.revision,
            };
            saga.succeed(live).await?;
            Ok(deployment)
        }
        Err(error) => {
            let live = return_to_previous(&saga, &record).await;
            saga.fail(&error, live).await;
            Err(error.with_operation("rollback"))
        }
    }
}

async fn attempt(
    deployments: &Deployments,
    saga: &mut Saga,
    record: &ServerRecord,
    version: &VersionId,
) -> Result<Deployment> {
    let definition = deployments.snapshot(record.id, version).await?;
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    if !published.iter().any(|seen| seen.version == *version) {
        let message = format!("version {version} of server {} is no longer kept by the target", record.name);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    saga.enter(DeploymentStep::Activating).await?;
    let endpoint = saga.backends.publisher.activate(saga.server(), version).await?;
    saga.enter(DeploymentStep::Confirming).await?;
    let verification = verify(&endpoint, &definition, Depth::Calls, verify_limit(&definition)).await?;
    Ok(Deployment {
        server_id: record.id,
        name: record.name.clone(),
        url: endpoint.url,
        version: version.clone(),
        revision: saga.record.revision,
        verification,
    })
}

/// Activates what was live before; returns the live state where the registry's is no longer true.
async fn return_to_previous(saga: &Saga, record: &ServerRecord) -> Option<LiveState> {
    let live = record.live.as_ref()?;
    if !matches!(saga.record.step, DeploymentStep::Activating | DeploymentStep::Confirming) {
        return None;
    }
    match saga.backends.publisher.activate(saga.server(), &live.version).await {
        Ok(_) => None,
        Err(error) => {
            tracing::error!(%error, version = %live.version, "the version that was live before could not be activated");
            Some(LiveState { status: RecordStatus::Failed, ..live.clone() })
        }
    }
}
