//! What a deployment and a rollback have in common: a version becomes live and is checked, or what was live is again.

use super::{Deployment, snapshot, verify_limit};
use crate::Result;
use crate::event::DeployEvent;
use crate::name::VersionId;
use crate::publisher::Endpoint;
use crate::registry::{LiveState, RecordStatus, ServerRecord};
use crate::saga::Saga;
use crate::validate::ValidDefinition;
use crate::verify::{Before, Depth, Settling, Verification, verify_settling};

/// Makes the version live and checks the live endpoint: the lists only, if the calls were already made.
pub(super) async fn activate(
    saga: &Saga,
    record: &ServerRecord,
    version: &VersionId,
    definition: &ValidDefinition,
    verified: Option<Verification>,
) -> Result<Deployment> {
    let endpoint = saga.backends.publisher.activate(saga.server(), version).await?;
    saga.events.send(DeployEvent::Activated { version: version.clone(), url: endpoint.url.clone() });
    let depth = if verified.is_some() { Depth::Lists } else { Depth::Calls };
    let mut verification = verify_live(saga, &endpoint, definition, depth, record.live.as_ref()).await?;
    verification.calls += verified.map_or(0, |preview| preview.calls);
    saga.events.send(DeployEvent::Confirmed(verification.clone()));
    Ok(Deployment::new(record, endpoint.url, version, saga.record.revision, verification))
}

/// Checks what became live, if so in the place of another version, whose answers may still be seen.
pub(super) async fn verify_live(
    saga: &Saga,
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    replaced: Option<&LiveState>,
) -> Result<Verification> {
    let time = saga.backends.publisher.settle_time();
    let checked = match replaced {
        Some(live) if depth == Depth::Calls && !time.is_zero() => checked_definition(saga, live).await,
        _ => None,
    };
    let before = match (replaced, &checked) {
        (None, _) => Before::Nothing,
        (Some(_), Some(definition)) => Before::Checked(definition),
        (Some(_), None) => Before::Unknown,
    };
    let settling = Settling { time, before };
    verify_settling(endpoint, definition, depth, verify_limit(definition), settling).await
}

/// What a version was made from that answered accordingly.
async fn checked_definition(saga: &Saga, live: &LiveState) -> Option<ValidDefinition> {
    if live.status != RecordStatus::Deployed {
        return None;
    }
    let known = snapshot(&saga.backends, saga.server().id, &live.version).await;
    known.inspect_err(|error| tracing::debug!(%error, version = %live.version, "a definition is not known")).ok()
}

/// Checks a preview: nothing else answers there.
pub(super) async fn verify_preview(
    saga: &Saga,
    preview: &Endpoint,
    definition: &ValidDefinition,
) -> Result<Verification> {
    let settling = Settling { time: saga.backends.publisher.settle_time(), before: Before::Nothing };
    verify_settling(preview, definition, Depth::Calls, verify_limit(definition), settling).await
}

/// How a version that was live before is live again.
pub(super) enum Return {
    Done,
    /// Not yet; the target may do it later.
    Pending,
    /// It will not be: what the registry has to say of it.
    Refused(LiveState),
}

/// Activates the version that was live before, unless somebody else may have changed what is live meanwhile.
pub(super) async fn return_to(saga: &Saga, live: &LiveState) -> Return {
    if let Err(error) = saga.check_lease() {
        tracing::warn!(%error, version = %live.version, "the version that was live before is not activated");
        return Return::Pending;
    }
    let Err(error) = saga.backends.publisher.activate(saga.server(), &live.version).await else {
        saga.events.send(DeployEvent::Returned { version: live.version.clone() });
        return Return::Done;
    };
    tracing::error!(%error, version = %live.version, "the version that was live before could not be activated");
    if error.is_retryable() {
        return Return::Pending;
    }
    Return::Refused(LiveState { status: RecordStatus::Failed, ..live.clone() })
}
