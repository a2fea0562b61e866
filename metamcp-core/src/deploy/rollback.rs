//! An older version, live again: check, activate, verify.

use super::activate::{Return, activate, return_to};
use super::{Deployment, Deployments, snapshot};
use crate::event::{DeployEvent, EventSink};
use crate::name::{ServerKey, VersionId};
use crate::registry::{DeploymentKind, DeploymentStep, ServerRecord};
use crate::saga::Saga;
use crate::{Error, ErrorKind, Result};

pub(super) async fn rollback(
    deployments: &Deployments,
    key: &ServerKey,
    version: &VersionId,
    events: EventSink,
) -> Result<Deployment> {
    let backends = deployments.backends.clone();
    let (record, lease) = deployments.lease(key, &events).await.map_err(|error| error.with_operation("rollback"))?;
    let target = match backends.registry.get_version(record.id, version).await {
        Ok(target) => target,
        Err(error) => {
            lease.release().await;
            return Err(error.with_operation("rollback").with_help("list the versions to see those that are kept"));
        }
    };
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Rollback, target.revision, events);
    saga.record.version = Some(version.clone());
    saga.record.previous = record.live.as_ref().map(|live| live.version.clone());
    saga.events.send(DeployEvent::Started { revision: target.revision });
    match attempt(deployments, &mut saga, &record, version).await {
        Ok(deployment) => {
            saga.succeed(deployment.live_state()).await.map_err(|error| error.with_operation("rollback"))?;
            Ok(deployment)
        }
        Err(error) => {
            let returned = match &record.live {
                Some(live) if saga.record.step == DeploymentStep::Activating => return_to(&saga, live).await,
                _ => Return::Done,
            };
            match returned {
                Return::Done => saga.fail(&error, None).await,
                Return::Pending => saga.leave_pending(&error).await,
                Return::Refused(live) => saga.fail(&error, Some(live)).await,
            }
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
    let definition = snapshot(&deployments.backends, record.id, version).await?;
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    if !published.iter().any(|seen| seen.version == *version) {
        let message = format!("version {version} of server {} is no longer kept by the target", record.name);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    saga.enter(DeploymentStep::Activating).await?;
    activate(saga, record, version, &definition, None).await
}
