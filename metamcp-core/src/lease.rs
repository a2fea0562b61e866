//! A server's lease, renewed in the background for as long as it is held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::event::{DeployEvent, EventSink};
use crate::name::ServerKey;
use crate::registry::{Lease, Registry, ServerRecord, lease_lost};
use crate::{Error, ErrorKind, Result};

/// How long a holder of a server's lease may be silent before another may take over.
pub const LEASE_TIME: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long a lease is waited for that somebody else holds: longer than one lasts that nobody renews.
const PATIENCE: Duration = Duration::from_secs(LEASE_TIME.as_secs() + 5);
/// Until it is asked for again: the first pause and the longest; each is twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// What a step begins with at least: time for the request that takes it.
const MARGIN: Duration = Duration::from_secs(5);

/// A held lease. Dropped without [`HeldLease::release`] it ends by itself after 30 seconds, if the registry has not
/// ended it with the deployment.
#[derive(Debug)]
pub(crate) struct HeldLease {
    registry: Arc<dyn Registry>,
    lease: Arc<Mutex<Term>>,
    renewal: AbortOnDropHandle<()>,
}

impl HeldLease {
    /// Takes the lease of one server and reads the server under it; [`ErrorKind::Conflict`] names who holds it. Does not
    /// wait.
    pub(crate) async fn of_server_now(
        registry: Arc<dyn Registry>,
        key: &ServerKey,
        holder: &str,
    ) -> Result<(ServerRecord, Self)> {
        let since = Moment::now();
        let (record, lease) = registry.lease_server(key, holder, LEASE_TIME).await?;
        let lease = Arc::new(Mutex::new(Term { lease, since }));
        let renewal = AbortOnDropHandle::new(tokio::spawn(renew(registry.clone(), lease.clone())));
        Ok((record, Self { registry, lease, renewal }))
    }

    /// The same once nobody else holds it, for up to 35 seconds; whether it has to be waited for is told once.
    pub(crate) async fn of_server(
        registry: Arc<dyn Registry>,
        key: &ServerKey,
        holder: &str,
        events: &EventSink,
    ) -> Result<(ServerRecord, Self)> {
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSES.0;
        loop {
            match Self::of_server_now(registry.clone(), key, holder).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                Err(error) if Instant::now() >= until => return Err(still_taken(error)),
                Err(_) => {}
                taken => return taken,
            }
            if pause == PAUSES.0 {
                events.send(DeployEvent::Waiting);
            }
            sleep(pause).await;
            pause = PAUSES.1.min(pause * 2);
        }
    }

    /// The lease as last renewed: what the registry checks writes against.
    pub(crate) fn current(&self) -> Lease {
        term(&self.lease).lease.clone()
    }

    /// Whether it is still held for certain, without asking the registry: it was asked for less than its time ago.
    pub(crate) fn check(&self) -> Result<()> {
        let term = term(&self.lease);
        if Moment::now().after(term.since) + MARGIN < LEASE_TIME { Ok(()) } else { Err(lease_lost(&term.lease, None)) }
    }

    /// Gives the lease back. A failure only means that the next holder waits for its end.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.registry.release_lease(&self.current()).await {
            tracing::warn!(%error, "the lease could not be released and runs out by itself");
        }
    }
}

fn still_taken(error: Error) -> Error {
    let waited = PATIENCE.as_secs();
    error.with_help(format!("something else deploys, tests, changes or removes it, and did not end within {waited} s"))
}

/// The lease as last renewed.
#[derive(Debug)]
struct Term {
    lease: Lease,
    /// From before it was asked for, so that it ends at the registry no sooner than here.
    since: Moment,
}

/// A moment by two clocks: one stands still while the machine is suspended, the other one can be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long after `earlier`, by the clock that saw more time pass.
    fn after(self, earlier: Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        wall.max(self.steady.saturating_duration_since(earlier.steady))
    }
}

fn term(lease: &Mutex<Term>) -> MutexGuard<'_, Term> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn renew(registry: Arc<dyn Registry>, lease: Arc<Mutex<Term>>) {
    loop {
        sleep(RENEW_EVERY).await;
        let (current, since) = (term(&lease).lease.clone(), Moment::now());
        match registry.renew_lease(&current, LEASE_TIME).await {
            Ok(renewed) => *term(&lease) = Term { lease: renewed, since },
            // Every step begins with a check, so a lost one stops the holder there.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_suspend_counts() {
        let before = Moment::now();
        let after = Moment { wall: before.wall + LEASE_TIME, ..before };
        assert_eq!(after.after(before), LEASE_TIME);
    }

    #[test]
    fn a_clock_that_was_set_back_lengthens_nothing() {
        let before = Moment::now();
        let after = Moment { steady: before.steady + LEASE_TIME, wall: before.wall - LEASE_TIME };
        assert_eq!(after.after(before), LEASE_TIME);
    }
}
