//! How one version takes over from another.

use std::sync::Arc;

use metamcp_core::{Error, ErrorKind, Result, VersionId};

use super::super::bundle::Bundle;
use super::super::interruption::Interruption;
use super::super::launch::{Running, Storage};
use super::super::restarts::Restarts;
use super::super::secrets::Secrets;
use super::{GRACE, Live, Slot, Turn};

/// What is to go live.
#[derive(Debug)]
pub(in crate::workerd) struct Next {
    pub(in crate::workerd) version: VersionId,
    pub(in crate::workerd) bundle: Bundle,
    pub(in crate::workerd) change: Change,
}

/// What is written down as soon as a process runs with it.
#[derive(Debug)]
pub(in crate::workerd) enum Change {
    /// The version.
    Version,
    /// Other secrets of the version that is live already.
    Secrets(Secrets),
}

impl Live {
    /// Starts a version and lets it take over. A start of the one before is given up for it.
    pub(in crate::workerd) async fn switch(self: &Arc<Self>, next: Next) -> Result<()> {
        let live = Arc::clone(self);
        self.to_the_end(async move {
            if next.bundle.artifact.settings.has_durable_state() {
                live.switch_exclusively(&next).await
            } else {
                live.switch_seamlessly(&next).await
            }
        })
        .await
    }

    /// Lets a process take over that runs already, of a version without durable state.
    pub(in crate::workerd) async fn switch_to(self: &Arc<Self>, running: Arc<Running>) -> Result<()> {
        let live = Arc::clone(self);
        self.to_the_end(async move {
            let turn = live.take_over().await;
            live.put_active(&running.version).await?;
            live.replace(running, turn).await;
            Ok(())
        })
        .await
    }

    /// A task of its own: a caller that goes away does not leave the server between two versions.
    async fn to_the_end(&self, switch: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
        tokio::spawn(switch).await.map_err(|error| {
            self.error(ErrorKind::Unexpected, "was cut off in a switch of versions").with_source(error)
        })?
    }

    async fn switch_seamlessly(&self, next: &Next) -> Result<()> {
        let running = self.launch_next(next, self.interruption()).await?;
        let turn = self.take_over().await;
        self.commit(next).await?;
        self.replace(running, turn).await;
        Ok(())
    }

    /// Two processes must not have the durable state at once: calls wait while the old one ends and the new one
    /// starts. If that fails, the old one is started again.
    async fn switch_exclusively(&self, next: &Next) -> Result<()> {
        let turn = self.take_over().await;
        let old = self.slot.borrow().clone();
        if let Slot::Running(running) = &old {
            self.slot.send_replace(Slot::Asleep(running.version.clone()));
            retire(running, &turn.interruption).await;
        }
        match self.launch_and_commit(next, &turn).await {
            Ok(running) => {
                self.put(running);
                Ok(())
            }
            Err(error) => Err(self.return_to(&old, next, error, &turn).await),
        }
    }

    async fn launch_and_commit(&self, next: &Next, turn: &Turn<'_>) -> Result<Arc<Running>> {
        let running = self.launch_next(next, turn.interruption.clone()).await?;
        if let Err(error) = self.commit(next).await {
            running.process.stop("was stopped").await;
            return Err(error);
        }
        Ok(running)
    }

    /// Serves what was served before a switch that failed, and tells what came of it.
    async fn return_to(&self, old: &Slot, next: &Next, error: Error, turn: &Turn<'_>) -> Error {
        let Some(version) = old.version() else { return error };
        let outcome = if let Slot::Running(_) = old {
            self.slot.send_replace(Slot::Down(version.clone()));
            match self.start(version, turn).await {
                Ok(()) if self.running().is_some() => format!("version {version} is served again"),
                Ok(()) => format!("version {version} was stopped meanwhile"),
                Err(second) => format!(
                    "version {version} could not be started again either, so that nothing is served until it is \
                     ({second})"
                ),
            }
        } else {
            format!("version {version} stays the live one")
        };
        let target = match &next.change {
            Change::Version => format!("version {}", next.version),
            Change::Secrets(_) => "the changed secret".to_owned(),
        };
        let problem = format!("could not be switched to {target}; {outcome}");
        self.error(error.kind(), &problem).with_source(error)
    }

    /// Puts a process in place; the one before ends when its calls did.
    async fn replace(&self, running: Arc<Running>, turn: Turn<'_>) {
        let Some(old) = self.put(running) else { return };
        if old.settings.has_durable_state() {
            // Before another turn may come in which a process is started on the same state.
            retire(&old, &turn.interruption).await;
        } else {
            tokio::spawn(async move { old.process.retire(old.longest_timeout() + GRACE).await });
        }
    }

    /// Puts a process in place, and returns the one before.
    fn put(&self, running: Arc<Running>) -> Option<Arc<Running>> {
        *self.restarts() = Restarts::default();
        match self.slot.send_replace(Slot::Running(running)) {
            Slot::Running(old) => Some(old),
            Slot::Empty | Slot::Asleep(_) | Slot::Down(_) => None,
        }
    }

    async fn launch_next(&self, next: &Next, interruption: Interruption) -> Result<Arc<Running>> {
        let stored;
        let secrets = match &next.change {
            Change::Secrets(secrets) => secrets,
            Change::Version => {
                stored = self.kept_secrets().await?;
                &stored
            }
        };
        self.launch(&next.version, &next.bundle, secrets, Storage::Durable, interruption).await
    }

    async fn commit(&self, next: &Next) -> Result<()> {
        match &next.change {
            Change::Version => self.put_active(&next.version).await,
            Change::Secrets(secrets) => self.keep_secrets(secrets).await,
        }
    }

    async fn put_active(&self, version: &VersionId) -> Result<()> {
        let (id, version) = (self.reference.id, version.clone());
        self.launcher.on_disk(move |store| store.set_active(id, &version)).await
    }
}

/// Lets a process end with its calls, or at once if something else is wanted.
async fn retire(running: &Running, interruption: &Interruption) {
    tokio::select! {
        () = running.process.retire(running.longest_timeout() + GRACE) => {}
        () = interruption.arrived() => running.process.stop("was stopped").await,
    }
}
