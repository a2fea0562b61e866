//! How many containers are in use at once, and who waits for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The right to use one container.
pub(super) type Slot = OwnedSemaphorePermit;

/// A fixed number of slots; whoever finds none waits in order.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    limit: Duration,
    waiting: AtomicUsize,
}

impl Slots {
    pub(super) fn new(total: usize, limit: Duration) -> Self {
        let total = total.max(1);
        Self { free: Arc::new(Semaphore::new(total)), total, limit, waiting: AtomicUsize::new(0) }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Nobody gets a slot any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    /// A slot for `purpose`, as soon as one is free and everybody who came earlier has one.
    pub(super) async fn take(&self, purpose: &str) -> Result<Slot> {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(slot);
        }
        let place = Waiting::enter(&self.waiting);
        tracing::info!(purpose, place = place.number, "all {} containers are in use; waiting for one", self.total);
        match timeout(self.limit, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, format!("{purpose}: the builder is closed"))),
            Err(_) => {
                let message = format!(
                    "{purpose}: no container was free within {} s; all {} are in use, and it came as number {} in line",
                    self.limit.as_secs(),
                    self.total,
                    place.number
                );
                Err(Error::new(ErrorKind::TimedOut, message).with_help("destroy environments that are not used"))
            }
        }
    }
}

/// One who waits, until dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    number: usize,
}

impl<'a> Waiting<'a> {
    fn enter(all: &'a AtomicUsize) -> Self {
        Self { all, number: all.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
