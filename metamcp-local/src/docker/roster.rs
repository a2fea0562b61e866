//! Which containers somebody has a handle on, and the removal of those that were lost.
//!
//! An engine that hangs may do late what it was asked for: make a container although its maker heard of a failure, or
//! not remove one. Nobody else would ever do so while this program lives.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::engine::Engine;
use super::reap;

/// Seconds between tries, while the engine is unwell; the last one is kept to.
const WAITS: [u64; 5] = [1, 2, 5, 15, 60];
/// How much later an engine that is well again may still do what it was asked for.
const AFTERMATH: Duration = Duration::from_secs(30);

/// Names of containers, and whether some may exist beside them.
#[derive(Debug, Default)]
pub(super) struct Roster {
    names: Mutex<HashSet<String>>,
    lost: Notify,
}

impl Roster {
    /// A container of this name is about to be made.
    pub(super) fn enter(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Nobody has a handle on it any more.
    pub(super) fn leave(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Something without a handle may be there, or come to be.
    pub(super) fn suspect(&self) {
        self.lost.notify_one();
    }

    /// Whether somebody has a handle on it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Removes lost containers as long as it lives.
#[derive(Debug)]
pub(super) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// For the containers of the owner of `folder`.
    pub(super) fn start(engine: &Engine, folder: PathBuf) -> Self {
        let engine = engine.clone();
        Self(tokio::spawn(async move {
            loop {
                engine.roster().lost.notified().await;
                sweep(&engine, &folder).await;
                sleep(AFTERMATH).await;
                sweep(&engine, &folder).await;
            }
        }))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until it succeeds.
async fn sweep(engine: &Engine, folder: &std::path::Path) {
    for seconds in WAITS.into_iter().chain(std::iter::repeat(WAITS[WAITS.len() - 1])) {
        let wait = Duration::from_secs(seconds);
        match reap::remove_lost(engine, folder).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, ?wait, "lost containers could not be removed yet"),
        }
        sleep(wait).await;
    }
}
