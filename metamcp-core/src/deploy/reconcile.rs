//! After a crash: finish or undo what was begun, then compare registry and target.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::pipeline::interrupted;
use super::remove::take_down;
use super::{Deployments, verify_limit};
use crate::lease::HeldLease;
use crate::name::{ServerId, ServerName, VersionId};
use crate::publisher::PublishedServer;
use crate::registry::{
    DeploymentKind, DeploymentRecord, DeploymentStep, ListOptions, LiveState, RecordStatus, ServerRecord,
};
use crate::saga::Saga;
use crate::verify::{Depth, verify};
use crate::{ErrorKind, Result};

/// What a reconciliation did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileReport {
    /// Deployments and removals that were interrupted and are now finished.
    pub finished: Vec<ServerName>,
    /// Deployments that were interrupted and are now undone.
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
        match settle(deployments, record).await {
            Ok(Settled::Finished) => report.finished.push(name),
            Ok(Settled::Undone) => report.undone.push(name),
            Err(error) => report.pending.push((name, error.to_string())),
        }
    }
    let published = deployments.backends.publisher.list_servers().await?;
    remove_orphans(deployments, &published, &mut report).await?;
    revive(deployments, &published, &mut report).await?;
    Ok(report)
}

enum Settled {
    Finished,
    Undone,
}

async fn settle(deployments: &Deployments, record: DeploymentRecord) -> Result<Settled> {
    let lease = deployments.lease(record.server.id).await?;
    let server = match deployments.backends.registry.get_server(&record.server.id.into()).await {
        Ok(server) => server,
        Err(error) => {
            lease.release().await;
            return Err(error);
        }
    };
    let mut saga = Saga::resume(deployments.backends.clone(), lease, record);
    if saga.record.kind == DeploymentKind::Remove {
        let removed = take_down(&mut saga).await;
        saga.abandon().await;
        return removed.map(|()| Settled::Finished);
    }
    if let Some(live) = confirmed(deployments, &saga, &server).await {
        saga.succeed(live).await?;
        return Ok(Settled::Finished);
    }
    undo(saga, &server).await?;
    Ok(Settled::Undone)
}

/// The live state the deployment was about to record, if its version is live and answers.
async fn confirmed(deployments: &Deployments, saga: &Saga, server: &ServerRecord) -> Option<LiveState> {
    if !matches!(saga.record.step, DeploymentStep::Activating | DeploymentStep::Confirming) {
        return None;
    }
    let version = saga.record.version.clone()?;
    if active_version(saga).await.ok()? != Some(version.clone()) {
        return None;
    }
    let definition = deployments.snapshot(server.id, &version).await.ok()?;
    let endpoint = saga.backends.publisher.endpoint(saga.server()).await.ok()?;
    verify(&endpoint, &definition, Depth::Calls, verify_limit(&definition)).await.ok()?;
    Some(LiveState { status: RecordStatus::Deployed, url: endpoint.url, version, revision: saga.record.revision })
}

async fn active_version(saga: &Saga) -> Result<Option<VersionId>> {
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    Ok(published.into_iter().find(|seen| seen.active).map(|seen| seen.version))
}

/// Back to what the registry says is live, and no version that the registry does not know.
async fn undo(saga: Saga, server: &ServerRecord) -> Result<()> {
    let recorded = server.live.as_ref().map(|live| live.version.clone());
    if let Some(live) = &recorded
        && active_version(&saga).await?.as_ref() != Some(live)
    {
        saga.backends.publisher.activate(saga.server(), live).await?;
    }
    let known: HashSet<_> =
        saga.backends.registry.list_versions(server.id).await?.into_iter().map(|v| v.version).collect();
    let undone = saga.record.version.clone().filter(|_| saga.record.kind == DeploymentKind::Deploy);
    for version in saga.backends.publisher.list_versions(saga.server()).await? {
        let wanted = known.contains(&version.version) && undone.as_ref() != Some(&version.version);
        if !version.active && !wanted {
            saga.discard(&version.version).await;
        }
    }
    let left = match (&recorded, active_version(&saga).await?) {
        // A first version that became live and does not answer: nothing older can take its place.
        (None, Some(version)) => {
            let url = saga.backends.publisher.endpoint(saga.server()).await?.url;
            Some(LiveState { status: RecordStatus::Failed, url, version, revision: saga.record.revision })
        }
        _ => None,
    };
    saga.fail(&interrupted(), left).await;
    Ok(())
}

/// Takes down servers of ours that the registry does not know.
async fn remove_orphans(
    deployments: &Deployments,
    published: &[PublishedServer],
    report: &mut ReconcileReport,
) -> Result<()> {
    for orphan in published {
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
async fn revive(deployments: &Deployments, published: &[PublishedServer], report: &mut ReconcileReport) -> Result<()> {
    let served: HashSet<(ServerId, Option<&VersionId>)> =
        published.iter().map(|server| (server.server.id, server.active.as_ref())).collect();
    let mut list = ListOptions { status: Some(RecordStatus::Deployed), limit: 1_000, ..ListOptions::default() };
    loop {
        let page = deployments.backends.registry.list_servers(&list).await?;
        for server in page.items {
            let Some(live) = &server.live else { continue };
            if served.contains(&(server.id, Some(&live.version))) {
                continue;
            }
            match reactivate(deployments, server.id, live).await {
                Ok(()) => report.reactivated.push(server.name),
                Err(error) => report.pending.push((server.name, error.to_string())),
            }
        }
        match page.next {
            Some(next) => list.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn reactivate(deployments: &Deployments, id: ServerId, live: &LiveState) -> Result<()> {
    let lease: HeldLease = deployments.lease(id).await?;
    let activated = async {
        let record = deployments.backends.registry.get_server(&id.into()).await?;
        deployments.backends.publisher.activate(&record.reference(), &live.version).await
    };
    let activated = activated.await;
    lease.release().await;
    activated.map(|_| ())
}
