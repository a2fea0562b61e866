//! generate → build → stage → verify the preview → activate → verify live → record.

use super::activate::{Return, activate, return_to, verify_preview};
use super::{Deployment, Deployments, KEPT_VERSIONS, verify_limit};
use crate::artifact::Artifact;
use crate::builder::with_queue_report;
use crate::codegen::generate;
use crate::connection::{check_routes, effective};
use crate::event::{DeployEvent, EventSink};
use crate::kv_cache::{MAX_VALUE_BYTES, Ttl};
use crate::name::{ServerId, ServerKey, VersionId};
use crate::registry::{DeploymentKind, DeploymentStep, LiveState, RecordStatus, ServerRecord, VersionRecord};
use crate::saga::Saga;
use crate::settings::WorkerSettings;
use crate::source_tree::{Digest, SourceTree};
use crate::trace::{traced_now, verb};
use crate::validate::ValidDefinition;
use crate::verify::{Depth, verify};
use crate::{Error, Result};

pub(super) async fn deploy(deployments: &Deployments, key: &ServerKey, events: EventSink) -> Result<Deployment> {
    let backends = deployments.backends.clone();
    let (record, lease) = deployments.lease(key, &events).await.map_err(|error| error.with_operation("deploy"))?;
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Deploy, record.revision, events);
    saga.record.previous = record.live.as_ref().map(|live| live.version.clone());
    saga.events.send(DeployEvent::Started { revision: record.revision });
    match attempt(&mut saga, &record).await {
        Ok(Outcome::Unchanged(deployment)) => {
            saga.abandon().await;
            Ok(deployment)
        }
        Ok(Outcome::Live(deployment, versions)) => {
            if versions > KEPT_VERSIONS {
                prune(&saga).await;
            }
            saga.succeed(deployment.live_state()).await.map_err(|error| error.with_operation("deploy"))?;
            Ok(deployment)
        }
        Err(error) => {
            match undo(&saga, &record).await {
                Undone::Wholly(live) => saga.fail(&error, live).await,
                Undone::Partly => saga.leave_pending(&error).await,
            }
            Err(error.with_operation("deploy"))
        }
    }
}

enum Outcome {
    Unchanged(Deployment),
    /// With the number of versions that there are now.
    Live(Deployment, usize),
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
    let versions = saga.record_version(&version).await? as usize;

    let verified = match &staged.preview {
        Some(preview) => {
            let verification = verify_preview(saga, preview, &definition).await?;
            saga.events.send(DeployEvent::Verified(verification.clone()));
            Some(verification)
        }
        None => None,
    };
    saga.begin_activating()?;
    let deployment = activate(saga, record, &staged.version, &definition, verified).await?;
    Ok(Outcome::Live(deployment, versions))
}

/// The artifact of a definition, from the build cache where the builder is slow enough to have one.
pub(super) async fn build(saga: &Saga, definition: &ValidDefinition) -> Result<Artifact> {
    let source = traced_now(&verb!(INFO, "generate", server = %definition.name()), || generate(definition))?;
    let source_digest = source.digest();
    saga.events.send(DeployEvent::Generated { files: source.iter().count(), digest: source_digest });
    let settings = WorkerSettings::of(definition);
    let Some(fingerprint) = saga.backends.builder.fingerprint() else {
        let artifact = build_in_turn(saga, &source, &settings).await?;
        saga.events.send(DeployEvent::Built { artifact: artifact.digest(), cached: false });
        return Ok(artifact);
    };
    let hash = Digest::of_parts([source_digest.to_string().as_bytes(), fingerprint.as_bytes()]);
    let key = format!("{}{hash}", cached_builds(saga.server().id));
    if let Some(artifact) = cached(saga, &key).await {
        saga.events.send(DeployEvent::Built { artifact: artifact.digest(), cached: true });
        return Ok(artifact);
    }
    build_and_cache(saga, &key, &source, &settings).await
}

/// How the keys of a server's cached builds begin.
pub(super) fn cached_builds(server: ServerId) -> String {
    format!("build:{server}:")
}

async fn build_in_turn(saga: &Saga, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
    let events = saga.events.clone();
    let report = move |place| events.send(DeployEvent::Queued { place });
    with_queue_report(report, saga.backends.builder.build(source, settings)).await
}

async fn build_and_cache(saga: &Saga, key: &str, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
    let artifact = build_in_turn(saga, source, settings).await?;
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
    let present = |live: &&LiveState| live.status == RecordStatus::Deployed && live.revision == record.revision;
    let Some(live) = record.live.as_ref().filter(present) else { return Ok(None) };
    // Where a removal did not end, only another version says that the server is to stay.
    let pending = saga.backends.registry.pending_deployments().await?;
    if pending.iter().any(|begun| begun.server.id == record.id && begun.kind == DeploymentKind::Remove) {
        return Ok(None);
    }
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    if !published.iter().any(|seen| seen.active && seen.artifact == artifact && seen.version == live.version) {
        return Ok(None);
    }
    // What cannot be asked any more is deployed anew.
    let Ok(endpoint) = saga.backends.publisher.endpoint(saga.server()).await else { return Ok(None) };
    let Ok(verification) = verify(&endpoint, definition, Depth::Lists, verify_limit(definition)).await else {
        return Ok(None);
    };
    saga.events.send(DeployEvent::Unchanged { version: live.version.clone() });
    Ok(Some(Deployment::new(record, live.url.clone(), &live.version, live.revision, verification)))
}

enum Undone {
    /// With the live state where it is no longer what the registry says.
    Wholly(Option<LiveState>),
    /// The new version is still there, or half of it; it may even be live.
    Partly,
}

/// After a failure: what was live before is live again, and the new version is gone.
async fn undo(saga: &Saga, record: &ServerRecord) -> Undone {
    let Some(version) = &saga.record.version else { return Undone::Wholly(None) };
    let left = match &record.live {
        _ if saga.record.step != DeploymentStep::Activating => None,
        Some(live) => match return_to(saga, live).await {
            Return::Done => None,
            Return::Pending => return Undone::Partly,
            Return::Refused(live) => Some(live),
        },
        None => first_version(saga, record, version).await,
    };
    if left.is_some() || saga.discard(version).await { Undone::Wholly(left) } else { Undone::Partly }
}

/// A first version cannot be undone by activating an older one: where it is live it stays, and is recorded as failed.
async fn first_version(saga: &Saga, record: &ServerRecord, version: &VersionId) -> Option<LiveState> {
    let endpoint = saga.backends.publisher.endpoint(saga.server()).await.ok()?;
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
