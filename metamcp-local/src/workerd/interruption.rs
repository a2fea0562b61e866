//! Telling whoever starts a process that it is not wanted any more.

use tokio::sync::watch;

/// The side that tells.
#[derive(Debug, Default)]
pub(super) struct Interrupter(watch::Sender<()>);

/// The side that listens, from a moment on.
#[derive(Debug, Clone)]
pub(super) struct Interruption(watch::Receiver<()>);

impl Interrupter {
    /// Interrupts what was begun until now.
    pub(super) fn interrupt(&self) {
        self.0.send_replace(());
    }

    /// What begins now listens to this.
    pub(super) fn interruption(&self) -> Interruption {
        Interruption(self.0.subscribe())
    }
}

impl Interruption {
    /// Whether it has come; so it has where nobody is left to tell.
    pub(super) fn is_here(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// Waits for it.
    pub(super) async fn arrived(&self) {
        // An error is the end of the other side.
        self.0.clone().changed().await.ok();
    }
}
