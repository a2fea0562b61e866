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
use crate::registry::{DeploymentId, DeploymentKind, DeploymentRecord, DeploymentStep, LiveState, Revision};

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

    /// Writes the step that is about to be taken.
    pub(crate) async fn enter(&mut self, step: DeploymentStep) -> Result<()> {
        self.record.step = step;
        self.backends.registry.put_deployment(&self.record, &self.lease.current()).await
    }

    /// Ends well, with what is live now, and gives the lease back.
    pub(crate) async fn succeed(mut self, live: LiveState) -> Result<DeploymentRecord> {
        self.record.step = DeploymentStep::Live;
        let lease = self.lease.current();
        let written = self.backends.registry.finish_deployment(&self.record, Some(live), &lease).await;
        self.lease.release().await;
        written.map(|()| self.record)
    }

    /// Ends badly, after the undoing, and gives the lease back. What cannot be written stays pending and is
    /// taken up by reconciliation.
    pub(crate) async fn fail(mut self, error: &crate::Error, live: Option<LiveState>) {
        self.record.step = DeploymentStep::Failed;
        self.record.error = Some(error.to_string().chars().take(4_000).collect());
        let lease = self.lease.current();
        if let Err(error) = self.backends.registry.finish_deployment(&self.record, live, &lease).await {
            tracing::warn!(%error, "a failed deployment could not be recorded and stays pending");
        }
        self.lease.release().await;
    }

    /// Ends without a record of its own: nothing was begun, or the server is gone.
    pub(crate) async fn abandon(self) {
        self.lease.release().await;
    }

    /// Removes a staged version. What cannot be removed now is found again by reconciliation.
    pub(crate) async fn discard(&self, version: &VersionId) {
        let server = self.server();
        if let Err(error) = self.backends.publisher.discard(server, version).await {
            tracing::warn!(%error, %version, "a staged version could not be discarded");
            return;
        }
        if let Err(error) = self.backends.registry.remove_version(server.id, version).await {
            tracing::warn!(%error, %version, "a discarded version could not be removed from the registry");
        }
        self.events.send(DeployEvent::Discarded { version: version.clone() });
    }
}
