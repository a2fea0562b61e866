//! generate → build → stage → verify the preview → activate → verify live → record.

use super::{Deployment, Deployments, KEPT_VERSIONS, verify_limit};
use crate::artifact::Artifact;
use crate::codegen::generate;
use crate::connection::{check_routes, effective};
use crate::event::{DeployEvent, EventSink};
use crate::kv_cache::{MAX_VALUE_BYTES, Ttl};
use crate::name::{ServerKey, VersionId};
use crate::publisher::Staged;
use crate::registry::{DeploymentKind, DeploymentStep, LiveState, RecordStatus, ServerRecord, VersionRecord};
use crate::saga::Saga;
use crate::settings::WorkerSettings;
use crate::source_tree::{Digest, SourceTree};
use crate::trace::{traced_now, verb};
use crate::validate::ValidDefinition;
use crate::verify::{Depth, Verification, verify};
use crate::{Error, Result};

pub(super) async fn deploy(deployments: &Deployments, key: &ServerKey, events: EventSink) -> Result<Deployment> {
    let backends = deployments.backends.clone();
    let (id, _) = backends.registry.get_revision(key).await?;
    let lease = deployments.lease(id).await.map_err(|error| error.with_operation("deploy"))?;
    // Read under the lease, so that no other deployment changes what is live in between.
    let record = match backends.registry.get_server(&id.into()).await {
        Ok(record) => record,
        Err(error) => {
            lease.release().await;
            return Err(error);
        }
    };
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Deploy, record.revision, events);
    saga.record.previous = record.live.as_ref().map(|live| live.version.clone());
    saga.events.send(DeployEvent::Started { revision: record.revision });
    match attempt(&mut saga, &record).await {
        Ok(Outcome::Unchanged(deployment)) => {
            saga.abandon().await;
            Ok(deployment)
        }
        Ok(Outcome::Live(deployment)) => {
            prune(&saga).await;
            saga.succeed(live_state(&deployment)).await?;
            Ok(deployment)
        }
        Err(error) => {
            let live = undo(&saga, &record).await;
            saga.fail(&error, live).await;
            Err(error.with_operation("deploy"))
        }
    }
}

enum Outcome {
    Unchanged(Deployment),
    Live(Deployment),
}

async fn attempt(saga: &mut Saga, record: &ServerRecord) -> Result<Outcome> {
    let definition = effective(&saga.backends, record).await?;
    check_routes(&definition)?;
    let artifact = build(saga, &definition).await?;
    let digest = artifact.digest();
    if let Some(deployment) = unchanged(saga, record, &definition, digest).await? {
        return Ok(Outcome::Unchanged(deployment));
    }

    saga.enter(DeploymentStep::Staging).await?;
    let staged = saga.backends.publisher.stage(saga.server(), &artifact).await?;
    saga.record.version = Some(staged.version.clone());
    saga.events.send(DeployEvent::Staged { version: staged.version.clone() });
    let version = VersionRecord {
        server_id: record.id,
        version: staged.version.clone(),
        revision: record.revision,
        artifact: digest,
        definition: definition.written().clone(),
        created_at: time::OffsetDateTime::now_utc(),
    };
    saga.backends.registry.put_version(&version).await?;

    saga.enter(DeploymentStep::Verifying).await?;
    let verified = verify_preview(saga, &staged, &definition).await?;
    saga.enter(DeploymentStep::Activating).await?;
    let deployment = activate(saga, record, &staged.version, &definition, verified).await?;
    Ok(Outcome::Live(deployment))
}

/// The artifact of a definition, from the build cache where the builder is slow enough to have one.
pub(super) async fn build(saga: &Saga, definition: &ValidDefinition) -> Result<Artifact> {
    let source = traced_now(&verb!(INFO, "generate", server = %definition.name()), || generate(definition))?;
    let source_digest = source.digest();
    saga.events.send(DeployEvent::Generated { files: source.iter().count(), digest: source_digest });
    let settings = WorkerSettings::of(definition);
    let Some(fingerprint) = saga.backends.builder.fingerprint() else {
        let artifact = saga.backends.builder.build(&source, &settings).await?;
        saga.events.send(DeployEvent::Built { artifact: artifact.digest(), cached: false });
        return Ok(artifact);
    };
    let hash = Digest::of_parts([source_digest.to_string().as_bytes(), fingerprint.as_bytes()]);
    let key = format!("build:{}:{hash}", saga.server().id);
    if let Some(artifact) = cached(saga, &key).await {
        saga.events.send(DeployEvent::Built { artifact: artifact.digest(), cached: true });
        return Ok(artifact);
    }
    build_and_cache(saga, &key, &source, &settings).await
}

async fn build_and_cache(saga: &Saga, key: &str, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
    let artifact = saga.backends.builder.build(source, settings).await?;
    let bytes = artifact.to_bytes();
    if bytes.len() <= MAX_VALUE_BYTES
        && let Err(error) = saga.backends.cache.put(key, bytes, Ttl::DAY).await
    {
        tracing::debug!(%error, "the build cache did not take an artifact");
    }
    saga.events.send(DeployEvent::Built { artifact: artifact.digest(), cached: false });
    Ok(artifact)
}

/// A cached artifact; whatever is wrong with the cache counts as a miss.
async fn cached(saga: &Saga, key: &str) -> Option<Artifact> {
    let bytes = saga.backends.cache.get(key).await.ok()??;
    Artifact::from_bytes(&bytes).ok()
}

/// The present deployment, if the live version already is this artifact and answers.
async fn unchanged(
    saga: &Saga,
    record: &ServerRecord,
    definition: &ValidDefinition,
    artifact: Digest,
) -> Result<Option<Deployment>> {
    let Some(live) = record.live.as_ref().filter(|live| live.status == RecordStatus::Deployed) else {
        return Ok(None);
    };
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    let same = published.iter().any(|seen| seen.active && seen.artifact == artifact && seen.version == live.version);
    if !same || live.revision != record.revision {
        return Ok(None);
    }
    let endpoint = saga.backends.publisher.endpoint(saga.server()).await?;
    let Ok(verification) = verify(&endpoint, definition, Depth::Lists, verify_limit(definition)).await else {
        return Ok(None);
    };
    saga.events.send(DeployEvent::Unchanged { version: live.version.clone() });
    Ok(Some(Deployment {
        server_id: record.id,
        name: record.name.clone(),
        url: live.url.clone(),
        version: live.version.clone(),
        revision: live.revision,
        verification,
    }))
}

/// Checks the preview; `None` where the target has none.
async fn verify_preview(saga: &Saga, staged: &Staged, definition: &ValidDefinition) -> Result<Option<Verification>> {
    let Some(preview) = &staged.preview else { return Ok(None) };
    let verification = verify(preview, definition, Depth::Calls, verify_limit(definition)).await?;
    saga.events.send(DeployEvent::Verified(verification.clone()));
    Ok(Some(verification))
}

/// Makes the version live and checks the live endpoint: the lists only, if the calls were already made.
async fn activate(
    saga: &mut Saga,
    record: &ServerRecord,
    version: &VersionId,
    definition: &ValidDefinition,
    verified: Option<Verification>,
) -> Result<Deployment> {
    let endpoint = saga.backends.publisher.activate(saga.server(), version).await?;
    saga.events.send(DeployEvent::Activated { version: version.clone(), url: endpoint.url.clone() });
    saga.enter(DeploymentStep::Confirming).await?;
    let depth = if verified.is_some() { Depth::Lists } else { Depth::Calls };
    let mut verification = verify(&endpoint, definition, depth, verify_limit(definition)).await?;
    verification.calls += verified.map_or(0, |preview| preview.calls);
    saga.events.send(DeployEvent::Confirmed(verification.clone()));
    Ok(Deployment {
        server_id: record.id,
        name: record.name.clone(),
        url: endpoint.url,
        version: version.clone(),
        revision: record.revision,
        verification,
    })
}

fn live_state(deployment: &Deployment) -> LiveState {
    LiveState {
        status: RecordStatus::Deployed,
        url: deployment.url.clone(),
        version: deployment.version.clone(),
        revision: deployment.revision,
    }
}

/// After a failure: what was live before is live again, and the new version is gone. Returns the live state
/// where it is no longer what the registry says.
async fn undo(saga: &Saga, record: &ServerRecord) -> Option<LiveState> {
    let version = saga.record.version.as_ref()?;
    let activated = matches!(saga.record.step, DeploymentStep::Activating | DeploymentStep::Confirming);
    if !activated {
        saga.discard(version).await;
        return None;
    }
    match &record.live {
        Some(live) => return_to(saga, live, version).await,
        None => first_version(saga, record, version).await,
    }
}

/// Activates the version that was live before; `None` if that went well and the registry is right.
async fn return_to(saga: &Saga, live: &LiveState, failed: &VersionId) -> Option<LiveState> {
    if let Err(error) = saga.backends.publisher.activate(saga.server(), &live.version).await {
        tracing::error!(%error, version = %live.version, "the version that was live before could not be activated");
        return Some(LiveState { status: RecordStatus::Failed, ..live.clone() });
    }
    saga.events.send(DeployEvent::Returned { version: live.version.clone() });
    saga.discard(failed).await;
    None
}

/// A first version cannot be undone by activating an older one: it stays, and is recorded as failed.
async fn first_version(saga: &Saga, record: &ServerRecord, version: &VersionId) -> Option<LiveState> {
    let Ok(endpoint) = saga.backends.publisher.endpoint(saga.server()).await else {
        saga.discard(version).await;
        return None;
    };
    Some(LiveState {
        status: RecordStatus::Failed,
        url: endpoint.url,
        version: version.clone(),
        revision: record.revision,
    })
}

/// Drops versions beyond the newest hundred; what fails is tried again after the next deployment.
async fn prune(saga: &Saga) {
    let listed = saga.backends.registry.list_versions(saga.server().id).await;
    let pruned = match listed {
        Ok(versions) => versions.into_iter().skip(KEPT_VERSIONS),
        Err(error) => {
            tracing::warn!(%error, "old versions could not be listed");
            return;
        }
    };
    for old in pruned {
        let kept = [&saga.record.version, &saga.record.previous];
        if !kept.contains(&&Some(old.version.clone())) {
            saga.discard(&old.version).await;
        }
    }
}

/// The error of a version that did not become live, for the record.
pub(super) fn interrupted() -> Error {
    Error::new(crate::ErrorKind::Unavailable, "the program ended during the deployment").with_help("deploy again")
}
