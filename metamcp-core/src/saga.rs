//! One deployment's steps: each is written before it is taken, so that
//! [`reconcile`](crate::Deployments::reconcile) can finish or undo it after a crash at any point.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::Result;
use crate::event::{DeployEvent, EventSink};
use crate::lease::HeldLease;
use crate::meta_mcp::Backends;
use crate::name::VersionId;
use crate::publisher::ServerRef;
use crate::registry::{
    DeploymentId, DeploymentKind, DeploymentRecord, DeploymentStep, LiveState, Revision, VersionRecord,
};

/// The next step where a version became live and that could not be recorded.
const UNRECORDED: &str = "the version was live when this was to be recorded: `reconcile`, which opening the target does, \
                          finishes the deployment or undoes it";

/// A deployment in progress: its record, its lease and who listens.
#[derive(Debug)]
pub(crate) struct Saga {
    pub(crate) backends: Arc<Backends>,
    pub(crate) record: DeploymentRecord,
    pub(crate) events: EventSink,
    lease: HeldLease,
}

impl Saga {
    /// Begins a deployment under a lease that was just taken; nothing is written yet.
    pub(crate) fn new(
        backends: Arc<Backends>,
        lease: HeldLease,
        server: ServerRef,
        kind: DeploymentKind,
        revision: Revision,
        events: EventSink,
    ) -> Self {
        let record = DeploymentRecord {
            id: DeploymentId(Uuid::new_v4()),
            server,
            kind,
            step: DeploymentStep::Building,
            revision,
            version: None,
            previous: None,
            error: None,
            created_at: OffsetDateTime::now_utc(),
        };
        Self { backends, record, events, lease }
    }

    /// Takes up a deployment that a crash left.
    pub(crate) fn resume(backends: Arc<Backends>, lease: HeldLease, record: DeploymentRecord) -> Self {
        Self { backends, record, events: EventSink::default(), lease }
    }

    /// The server it is about.
    pub(crate) fn server(&self) -> &ServerRef {
        &self.record.server
    }

    /// Writes the step that is about to be taken. After a refusal it is not: there is nothing of it to undo.
    pub(crate) async fn enter(&mut self, step: DeploymentStep) -> Result<()> {
        let entered = DeploymentRecord { step, ..self.record.clone() };
        self.backends.registry.put_deployment(&entered, &self.lease.current()).await?;
        self.record = entered;
        Ok(())
    }

    /// Refuses what is about to be changed at the target, unless the lease is still held for certain: the target knows
    /// no leases.
    pub(crate) fn check_lease(&self) -> Result<()> {
        self.lease.check()
    }

    /// Writes the version that was staged, and that it is about to be checked. Returns how many versions there are.
    pub(crate) async fn record_version(&mut self, version: &VersionRecord) -> Result<u32> {
        self.record.step = DeploymentStep::Verifying;
        self.backends.registry.put_version(version, &self.record, &self.lease.current()).await
    }

    /// Goes on to make live the version that was checked. What was written with the version covers this step as well, so
    /// only the lease is checked.
    pub(crate) fn begin_activating(&mut self) -> Result<()> {
        self.check_lease()?;
        self.record.step = DeploymentStep::Activating;
        Ok(())
    }

    /// Ends well, with what is live now, and gives the lease back. What cannot be written stays pending, and live.
    pub(crate) async fn succeed(mut self, live: LiveState) -> Result<DeploymentRecord> {
        self.record.step = DeploymentStep::Live;
        self.record.error = None;
        if let Err(error) = self.finish(Some(live)).await {
            self.lease.release().await;
            return Err(error.with_help(UNRECORDED));
        }
        Ok(self.record)
    }

    /// Ends badly, after the undoing, and gives the lease back. What cannot be written stays pending and is
    /// taken up by reconciliation.
    pub(crate) async fn fail(mut self, error: &crate::Error, live: Option<LiveState>) {
        self.record.step = DeploymentStep::Failed;
        self.note(error);
        if let Err(error) = self.finish(live).await {
            tracing::warn!(%error, "a failed deployment could not be recorded and stays pending");
            self.lease.release().await;
        }
    }

    /// Ends badly, with something left to undo: its record stays pending, for reconciliation.
    pub(crate) async fn leave_pending(mut self, error: &crate::Error) {
        self.note(error);
        let recorded = self.backends.registry.put_deployment(&self.record, &self.lease.current()).await;
        if let Err(error) = recorded {
            tracing::warn!(%error, "why a deployment failed could not be recorded");
        }
        self.lease.release().await;
    }

    /// The first error counts: those of undoing come after it.
    fn note(&mut self, error: &crate::Error) {
        self.record.error.get_or_insert_with(|| error.to_string().chars().take(4_000).collect());
    }

    /// Writes the end, with which the registry ends the lease.
    async fn finish(&self, live: Option<LiveState>) -> Result<()> {
        self.backends.registry.finish_deployment(&self.record, live, &self.lease.current()).await
    }

    /// Ends without a record of its own: nothing was begun, or the server is gone.
    pub(crate) async fn abandon(self) {
        self.lease.release().await;
    }

    /// Removes a staged version, here and there; says whether it is gone.
    pub(crate) async fn discard(&self, version: &VersionId) -> bool {
        if let Err(error) = self.try_discard(version).await {
            tracing::warn!(%error, %version, "a version could not be discarded");
            return false;
        }
        self.events.send(DeployEvent::Discarded { version: version.clone() });
        true
    }

    async fn try_discard(&self, version: &VersionId) -> Result<()> {
        self.check_lease()?;
        self.backends.publisher.discard(self.server(), version).await?;
        self.backends.registry.remove_version(self.server().id, version).await
    }
}
