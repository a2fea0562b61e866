//! How many containers are in use at once, and who waits for one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result, report_queue_place};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// The right to use one container.
pub(super) type Slot = OwnedSemaphorePermit;

/// A fixed number of slots; whoever finds none waits in order.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    limit: Duration,
    line: watch::Sender<Line>,
}

/// Who waits, by a number that grows.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiting: BTreeSet<u64>,
}

impl Slots {
    pub(super) fn new(total: usize, limit: Duration) -> Self {
        let total = total.max(1);
        Self { free: Arc::new(Semaphore::new(total)), total, limit, line: watch::Sender::default() }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.borrow().waiting.len()
    }

    /// Nobody gets a slot any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    /// A slot for `purpose`, as soon as one is free and everybody who came earlier has one. Its place in line is
    /// reported to whoever waits.
    pub(super) async fn take(&self, purpose: &str) -> Result<Slot> {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(slot);
        }
        let place = Place::take(&self.line);
        let first = place.number().unwrap_or(1);
        tracing::info!(purpose, place = first, "all {} containers are in use; waiting for one", self.total);
        let turn = async {
            tokio::select! {
                slot = Arc::clone(&self.free).acquire_owned() => slot,
                never = place.report() => match never {},
            }
        };
        match timeout(self.limit, turn).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, format!("{purpose}: the builder is closed"))),
            Err(_) => {
                let message = format!(
                    "{purpose}: no container was free within {} s; all {} are in use, and it came as number {first} in \
                     line",
                    self.limit.as_secs(),
                    self.total,
                );
                Err(Error::new(ErrorKind::TimedOut, message).with_help("destroy environments that are not used"))
            }
        }
    }
}

/// A place in line, until dropped.
struct Place<'a> {
    line: &'a watch::Sender<Line>,
    ticket: u64,
}

impl<'a> Place<'a> {
    fn take(line: &'a watch::Sender<Line>) -> Self {
        let mut ticket = 0;
        line.send_modify(|line| {
            ticket = line.next;
            line.next += 1;
            line.waiting.insert(ticket);
        });
        Self { line, ticket }
    }

    /// 1 is the next.
    fn number(&self) -> Option<usize> {
        Some(self.line.borrow().waiting.iter().position(|ticket| *ticket == self.ticket)? + 1)
    }

    /// Tells the place, and every change of it.
    async fn report(&self) -> std::convert::Infallible {
        let (mut changes, mut told) = (self.line.subscribe(), None);
        loop {
            let number = self.number();
            if let Some(place) = number.filter(|_| number != told) {
                report_queue_place(place);
                told = number;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.send_modify(|line| {
            line.waiting.remove(&self.ticket);
        });
    }
}
