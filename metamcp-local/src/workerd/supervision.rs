//! Keeps those servers running that do things nobody called for, such as the alarms of their Durable Objects.

use std::sync::{Arc, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::live::{Live, Slot};

/// Servers that are looked at and started at the same time: when a data directory is opened it may hold many.
pub(super) const STARTS_AT_ONCE: usize = 4;

/// Watches over a server as long as there is one: its live version is started when the data directory is opened and
/// whenever its process ended, if it [runs by itself](metamcp_core::WorkerSettings::runs_by_itself).
pub(super) fn keep_running(live: &Arc<Live>) {
    tokio::spawn(watch_over(Arc::downgrade(live), live.changes(), Arc::clone(&live.launcher.starts)));
}

/// Ends with the server, whose slot has no sender then.
async fn watch_over(live: Weak<Live>, mut slot: watch::Receiver<Slot>, starts: Arc<Semaphore>) {
    loop {
        let seen = slot.borrow_and_update().clone();
        let changed = match seen {
            Slot::Down(_) => None,
            Slot::Running(running) if running.settings.runs_by_itself() => tokio::select! {
                _ = running.process.exited() => None,
                changed = slot.changed() => Some(changed),
            },
            Slot::Empty | Slot::Asleep(_) | Slot::Running(_) => Some(slot.changed().await),
        };
        match changed {
            Some(Ok(())) => continue,
            Some(Err(_)) => return,
            None => {}
        }
        let Ok(permit) = starts.acquire().await else { return };
        let Some(server) = live.upgrade() else { return };
        let wait = server.revive().await;
        drop((permit, server));
        let Some(wait) = wait else { continue };
        tokio::select! {
            () = sleep(wait) => {}
            changed = slot.changed() => if changed.is_err() { return },
        }
    }
}
