//! Taking servers down: one by name, or all that nobody changed for a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Deployments;
use super::pipeline::cached_builds;
use crate::event::EventSink;
use crate::name::{ServerKey, ServerName};
use crate::registry::{DeploymentKind, DeploymentStep, ListOptions, ServerRecord};
use crate::saga::Saga;
use crate::{Error, ErrorKind, Result};

/// The next step where a removal has begun and not ended.
const BEGUN: &str = "its removal has begun: remove it again, or deploy it to keep it; else `reconcile`, which opening the \
                     target does, removes it";

/// Which servers [`Deployments::cleanup_old_servers`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleanupOptions {
    /// Servers not changed for so long; default 30 days.
    pub older_than: Duration,
    /// Whether to remove them or only tell what would be removed; default [`CleanupMode::DryRun`].
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
#[non_exhaustive]
pub struct CleanupReport {
    /// Servers that are old enough.
    pub found: Vec<ServerName>,
    /// Those of `found` that were live: they may be in use, or call tools by the clock, however old their definition is.
    pub live: Vec<ServerName>,
    /// Those that were removed; none that was changed since it was found.
    pub removed: Vec<ServerName>,
    /// Those that could not be removed, and why.
    pub failed: Vec<(ServerName, String)>,
}

/// Removes a server, if it is wanted when nobody else changes what is live of it. Says whether it was.
pub(super) async fn remove_if(
    deployments: &Deployments,
    key: &ServerKey,
    events: EventSink,
    is_wanted: impl FnOnce(&ServerRecord) -> bool,
) -> Result<bool> {
    let backends = deployments.backends.clone();
    let (record, lease) = deployments.lease(key, &events).await.map_err(|error| error.with_operation("remove"))?;
    if !is_wanted(&record) {
        lease.release().await;
        return Ok(false);
    }
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Remove, record.revision, events);
    // By which reconciliation knows whether something was deployed since.
    saga.record.previous = record.live.as_ref().map(|live| live.version.clone());
    let removed = take_down(&mut saga).await;
    let has_begun = saga.record.step == DeploymentStep::Removing;
    saga.abandon().await;
    removed.map(|()| true).map_err(|error| {
        let error = if has_begun { begun(error) } else { error };
        error.with_operation("remove")
    })
}

fn begun(error: Error) -> Error {
    let help = error.help().map(|help| format!("{help}; ")).unwrap_or_default();
    error.with_help(format!("{help}{BEGUN}"))
}

/// First the target, then the record: a crash in between leaves a pending removal, never a live server
/// without a record.
pub(super) async fn take_down(saga: &mut Saga) -> Result<()> {
    saga.enter(DeploymentStep::Removing).await?;
    saga.backends.publisher.unpublish(saga.server()).await?;
    if let Err(error) = saga.backends.cache.delete_prefix(&cached_builds(saga.server().id)).await {
        tracing::debug!(%error, "the cached builds of a removed server stay until their time is over");
    }
    match saga.backends.registry.remove_server(saga.server().id).await {
        // Nobody else may have removed it: the registry was asked twice, since its first answer was lost.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

pub(super) async fn cleanup(deployments: &Deployments, options: CleanupOptions) -> Result<CleanupReport> {
    let mut report = CleanupReport::default();
    let Some(cutoff) = before_now(options.older_than) else { return Ok(report) };
    let mut list = ListOptions { not_updated_since: Some(cutoff), ..ListOptions::default() };
    loop {
        let page = deployments.backends.registry.list_servers(&list).await?;
        for server in page.items {
            report.found.push(server.name.clone());
            if server.live.is_some() {
                report.live.push(server.name.clone());
            }
            if options.mode == CleanupMode::Remove {
                let is_old = move |record: &ServerRecord| record.updated_at < cutoff;
                match deployments.remove_if(&server.id.into(), EventSink::default(), is_old).await {
                    Ok(true) => report.removed.push(server.name),
                    Ok(false) => {}
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

/// `None` before the calendar begins: nothing is that old.
fn before_now(age: Duration) -> Option<OffsetDateTime> {
    OffsetDateTime::now_utc().checked_sub(age.try_into().ok()?)
}
