//! After a crash: finish or undo what was begun, then compare registry and target.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::activate::verify_live;
use super::pipeline::interrupted;
use super::remove::take_down;
use super::{Deployment, Deployments, snapshot};
use crate::name::{ServerId, ServerName, VersionId};
use crate::publisher::PublishedServer;
use crate::registry::{
    DeploymentKind, DeploymentRecord, DeploymentStep, ListOptions, LiveState, RecordStatus, ServerRecord, ServerSummary,
};
use crate::saga::Saga;
use crate::verify::Depth;
use crate::{Error, ErrorKind, Result};

/// What a reconciliation did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReconcileReport {
    /// Deployments and removals that were interrupted and are now finished.
    pub finished: Vec<ServerName>,
    /// Deployments that were interrupted and are now undone, and removals after which the server was deployed again.
    pub undone: Vec<ServerName>,
    /// Servers on the target that had no record, now gone.
    pub unpublished: Vec<ServerName>,
    /// Servers that were recorded as live and were not, now live again.
    pub reactivated: Vec<ServerName>,
    /// Differences that remain, and why: another program works on them, or the target refused.
    pub pending: Vec<(ServerName, String)>,
}

pub(super) async fn reconcile(deployments: &Deployments) -> Result<ReconcileReport> {
    let mut report = ReconcileReport::default();
    for record in deployments.backends.registry.pending_deployments().await? {
        let name = record.server.name.clone();
        match settle(deployments, &record).await {
            Ok(Settled::Finished) => report.finished.push(name),
            Ok(Settled::Undone) => report.undone.push(name),
            Ok(Settled::Meanwhile) => {}
            Err(error) => report.pending.push((name, error.to_string())),
        }
    }
    let published = deployments.backends.publisher.list_servers().await?;
    let differences = compare(deployments, &published).await?;
    remove_orphans(deployments, differences.unknown, &mut report).await?;
    revive(deployments, differences.unserved, &mut report).await;
    Ok(report)
}

enum Settled {
    Finished,
    Undone,
    /// By another program, since it was listed.
    Meanwhile,
}

async fn settle(deployments: &Deployments, listed: &DeploymentRecord) -> Result<Settled> {
    let (server, lease) = match deployments.lease_now(&listed.server.id.into()).await {
        Ok(leased) => leased,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Settled::Meanwhile),
        Err(error) => return Err(error),
    };
    let record = match still_pending(deployments, listed).await {
        Ok(Some(record)) => record,
        done_or_unknown => {
            lease.release().await;
            return done_or_unknown.map(|_| Settled::Meanwhile);
        }
    };
    let mut saga = Saga::resume(deployments.backends.clone(), lease, record);
    if saga.record.kind == DeploymentKind::Remove {
        if server.live.as_ref().map(|live| &live.version) != saga.record.previous.as_ref() {
            saga.fail(&deployed_since(), None).await;
            return Ok(Settled::Undone);
        }
        let removed = take_down(&mut saga).await;
        saga.abandon().await;
        return removed.map(|()| Settled::Finished);
    }
    if let Some(deployment) = confirmed(deployments, &saga, &server).await {
        saga.succeed(deployment.live_state()).await?;
        return Ok(Settled::Finished);
    }
    match undo(&saga, &server).await {
        Ok(left) => {
            saga.fail(&interrupted(), left).await;
            Ok(Settled::Undone)
        }
        Err(error) => {
            saga.abandon().await;
            Err(error)
        }
    }
}

/// Read again under the lease: whoever worked on it when it was listed may have gone on, or ended.
async fn still_pending(deployments: &Deployments, listed: &DeploymentRecord) -> Result<Option<DeploymentRecord>> {
    let pending = deployments.backends.registry.pending_deployments().await?;
    Ok(pending.into_iter().find(|record| record.id == listed.id))
}

/// Whoever deploys a server wants to keep it, though a removal of it did not end before.
fn deployed_since() -> Error {
    Error::new(ErrorKind::Conflict, "the server was deployed after its removal had begun")
}

/// The deployment that was about to be recorded, if its version is live and answers.
async fn confirmed(deployments: &Deployments, saga: &Saga, server: &ServerRecord) -> Option<Deployment> {
    if !matches!(saga.record.step, DeploymentStep::Verifying | DeploymentStep::Activating) {
        return None;
    }
    let version = saga.record.version.clone()?;
    if active_version(saga).await.ok()? != Some(version.clone()) {
        return None;
    }
    let definition = snapshot(&deployments.backends, server.id, &version).await.ok()?;
    let endpoint = saga.backends.publisher.endpoint(saga.server()).await.ok()?;
    let replaced = server.live.as_ref();
    let verification = verify_live(saga, &endpoint, &definition, Depth::Calls, replaced).await.ok()?;
    Some(Deployment::new(server, endpoint.url, &version, saga.record.revision, verification))
}

async fn active_version(saga: &Saga) -> Result<Option<VersionId>> {
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    Ok(published.into_iter().find(|seen| seen.active).map(|seen| seen.version))
}

/// Back to what the registry says is live, and no version that the registry does not know. Returns the live state where
/// it is no longer what the registry says.
async fn undo(saga: &Saga, server: &ServerRecord) -> Result<Option<LiveState>> {
    let recorded = server.live.as_ref().map(|live| live.version.clone());
    if let Some(live) = &recorded
        && active_version(saga).await?.as_ref() != Some(live)
    {
        saga.check_lease()?;
        saga.backends.publisher.activate(saga.server(), live).await?;
    }
    let known: HashSet<_> =
        saga.backends.registry.list_versions(server.id).await?.into_iter().map(|v| v.version).collect();
    let undone = saga.record.version.clone().filter(|_| saga.record.kind == DeploymentKind::Deploy);
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    for version in &published {
        let wanted = known.contains(&version.version) && undone.as_ref() != Some(&version.version);
        if !version.active && !wanted {
            saga.discard(&version.version).await;
        }
    }
    // Of one that was half discarded the registry still knows.
    if let Some(undone) = undone.filter(|undone| published.iter().all(|version| version.version != *undone)) {
        saga.discard(&undone).await;
    }
    match (&recorded, active_version(saga).await?) {
        // A first version that became live and does not answer: nothing older can take its place.
        (None, Some(version)) => {
            let url = saga.backends.publisher.endpoint(saga.server()).await?.url;
            Ok(Some(LiveState { status: RecordStatus::Failed, url, version, revision: saga.record.revision }))
        }
        _ => Ok(None),
    }
}

/// Where registry and target do not agree.
struct Differences<'a> {
    /// Published, and not listed.
    unknown: Vec<&'a PublishedServer>,
    /// Recorded as live, and not served.
    unserved: Vec<(ServerId, ServerName, LiveState)>,
}

/// Lists the registry once, a thousand servers with each request.
async fn compare<'a>(deployments: &Deployments, published: &'a [PublishedServer]) -> Result<Differences<'a>> {
    let mut unknown: BTreeMap<_, _> =
        published.iter().map(|found| ((found.server.name.clone(), found.server.id), found)).collect();
    let mut unserved = Vec::new();
    let mut list = ListOptions { limit: 1_000, ..ListOptions::default() };
    loop {
        let page = deployments.backends.registry.list_servers(&list).await?;
        for ServerSummary { id, name, status, live, .. } in page.items {
            let key = (name, id);
            let active = unknown.remove(&key).and_then(|found| found.active.as_ref());
            if let Some(live) = live.filter(|live| active != Some(&live.version))
                && status == RecordStatus::Deployed
            {
                unserved.push((id, key.0, live));
            }
        }
        match page.next {
            Some(next) => list.after = Some(next),
            None => return Ok(Differences { unknown: unknown.into_values().collect(), unserved }),
        }
    }
}

/// Takes down servers of ours that the registry does not know.
async fn remove_orphans(
    deployments: &Deployments,
    unknown: Vec<&PublishedServer>,
    report: &mut ReconcileReport,
) -> Result<()> {
    for orphan in unknown {
        // Asked again, since what was listed is gone for good.
        match deployments.backends.registry.get_revision(&orphan.server.id.into()).await {
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let name = orphan.server.name.clone();
        match deployments.backends.publisher.unpublish(&orphan.server).await {
            Ok(()) => report.unpublished.push(name),
            Err(error) => report.pending.push((name, error.to_string())),
        }
    }
    Ok(())
}

/// Activates again what is recorded as live and is not served.
async fn revive(
    deployments: &Deployments,
    unserved: Vec<(ServerId, ServerName, LiveState)>,
    report: &mut ReconcileReport,
) {
    for (id, name, live) in unserved {
        match reactivate(deployments, id, &live).await {
            Ok(true) => report.reactivated.push(name),
            Ok(false) => {}
            Err(error) => report.pending.push((name, error.to_string())),
        }
    }
}

/// Says whether it did: not if a deployment has ended since `listed` was read. What the target served then may have been
/// what that one has recorded now.
async fn reactivate(deployments: &Deployments, id: ServerId, listed: &LiveState) -> Result<bool> {
    let (record, lease) = deployments.lease_now(&id.into()).await?;
    let is_current = record.live.as_ref() == Some(listed);
    let activated = match lease.check() {
        Ok(()) if is_current => {
            deployments.backends.publisher.activate(&record.reference(), &listed.version).await.map(drop)
        }
        checked => checked,
    };
    lease.release().await;
    activated.map(|()| is_current)
}
