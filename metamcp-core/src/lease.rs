//! A server's lease, renewed in the background for as long as it is held.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Result;
use crate::name::ServerId;
use crate::registry::{Lease, Registry, server_lease};

/// How long a holder may be silent before another may take over.
const TTL: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// A held lease. Dropped without [`HeldLease::release`] it ends by itself after 30 seconds.
#[derive(Debug)]
pub(crate) struct HeldLease {
    registry: Arc<dyn Registry>,
    lease: Arc<Mutex<Lease>>,
    renewal: JoinHandle<()>,
}

impl HeldLease {
    /// Takes the lease of one server; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) names who holds it.
    pub(crate) async fn acquire(registry: Arc<dyn Registry>, server: ServerId, holder: &str) -> Result<Self> {
        let lease = registry.acquire_lease(&server_lease(server), holder, TTL).await?;
        let lease = Arc::new(Mutex::new(lease));
        let renewal = tokio::spawn(renew(registry.clone(), lease.clone()));
        Ok(Self { registry, lease, renewal })
    }

    /// The lease as last renewed: what the registry checks writes against.
    pub(crate) fn current(&self) -> Lease {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the lease back. A failure only means that the next holder waits for its end.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.registry.release_lease(&self.current()).await {
            tracing::warn!(%error, "the lease could not be released and runs out by itself");
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(registry: Arc<dyn Registry>, lease: Arc<Mutex<Lease>>) {
    loop {
        sleep(RENEW_EVERY).await;
        let current = lease.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match registry.renew_lease(&current, TTL).await {
            Ok(renewed) => *lease.lock().unwrap_or_else(PoisonError::into_inner) = renewed,
            // Every write is checked against the lease, so a lost one stops the holder at its next step.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}
