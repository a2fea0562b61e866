//! Taking servers down: one by name, or all that nobody changed for a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Deployments;
use crate::event::EventSink;
use crate::name::{ServerKey, ServerName};
use crate::registry::{DeploymentKind, DeploymentStep, ListOptions};
use crate::saga::Saga;
use crate::{Error, Result};

/// Which servers [`Deployments::cleanup_old_servers`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupOptions {
    /// Servers not changed for so long; default 30 days.
    pub older_than: Duration,
    /// Only tell what would be removed; the default.
    pub mode: CleanupMode,
}

/// Whether a cleanup removes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupMode {
    /// Only tell what would be removed.
    DryRun,
    /// Remove.
    Remove,
}

impl Default for CleanupOptions {
    fn default() -> Self {
        Self { older_than: Duration::from_secs(30 * 86_400), mode: CleanupMode::DryRun }
    }
}

/// What a cleanup found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupReport {
    /// Servers that are old enough.
    pub found: Vec<ServerName>,
    /// Those that were removed.
    pub removed: Vec<ServerName>,
    /// Those that could not be removed, and why.
    pub failed: Vec<(ServerName, String)>,
}

pub(super) async fn remove(deployments: &Deployments, key: &ServerKey) -> Result<()> {
    let backends = deployments.backends.clone();
    let (id, revision) = backends.registry.get_revision(key).await?;
    let lease = deployments.lease(id).await.map_err(|error| error.with_operation("remove"))?;
    let record = match backends.registry.get_server(&id.into()).await {
        Ok(record) => record,
        Err(error) => {
            lease.release().await;
            return Err(error.with_operation("remove"));
        }
    };
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Remove, revision, EventSink::default());
    let removed = take_down(&mut saga).await;
    saga.abandon().await;
    removed.map_err(|error| error.with_operation("remove"))
}

/// First the target, then the record: a crash in between leaves a pending removal, never a live server
/// without a record.
pub(super) async fn take_down(saga: &mut Saga) -> Result<()> {
    saga.enter(DeploymentStep::Removing).await?;
    saga.backends.publisher.unpublish(saga.server()).await?;
    saga.backends.registry.remove_server(saga.server().id).await
}

pub(super) async fn cleanup(deployments: &Deployments, options: CleanupOptions) -> Result<CleanupReport> {
    let cutoff = OffsetDateTime::now_utc() - options.older_than;
    let mut report = CleanupReport::default();
    let mut list = ListOptions { not_updated_since: Some(cutoff), ..ListOptions::default() };
    loop {
        let page = deployments.backends.registry.list_servers(&list).await?;
        for server in page.items {
            report.found.push(server.name.clone());
            if options.mode == CleanupMode::Remove {
                let removed: Result<(), Error> = deployments.remove(&server.id.into()).await;
                match removed {
                    Ok(()) => report.removed.push(server.name),
                    Err(error) => report.failed.push((server.name, error.to_string())),
                }
            }
        }
        match page.next {
            Some(next) => list.after = Some(next),
            None => return Ok(report),
        }
    }
}
