//! One server: the publisher's operations on its versions and secrets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metamcp_core::{Artifact, Endpoint, EnvName, ErrorKind, Result, ServerRef, VersionId};
use secrecy::SecretString;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, oneshot};
use uuid::Uuid;

use super::bundle::Bundle;
use super::call::Call;
use super::launch::{Launcher, Running, Storage};
use super::live::{Change, Live, Next};
use super::log::ServerLog;
use super::secrets::Secrets;
use super::store::Store;
use crate::blocking::blocking;

/// A server of the publisher.
#[derive(Debug)]
pub(crate) struct Server {
    live: Arc<Live>,
    launcher: Arc<Launcher>,
    /// One of the publisher's operations at a time.
    operation: AsyncMutex<()>,
    /// Set once its files are gone.
    removed: AtomicBool,
    staged: Mutex<HashMap<VersionId, Arc<Running>>>,
}

impl Server {
    /// A server with its active version, if it has one.
    pub(super) fn new(reference: ServerRef, launcher: Arc<Launcher>, active: Option<VersionId>) -> Self {
        let live = Live::new(reference, Arc::clone(&launcher), active);
        Self {
            live,
            launcher,
            operation: AsyncMutex::new(()),
            removed: AtomicBool::new(false),
            staged: Mutex::default(),
        }
    }

    /// Id and name.
    pub(crate) fn reference(&self) -> &ServerRef {
        &self.live.reference
    }

    /// Whether it was removed: of its name there is no server, or another one.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Its log.
    pub(super) fn log(&self) -> &ServerLog {
        &self.live.log
    }

    /// The live version.
    pub(super) fn active(&self) -> Option<VersionId> {
        self.live.active()
    }

    /// Begins a call on the live version, waking it if it sleeps. `allowed` says how long the call may take.
    pub(crate) async fn call(&self, allowed: impl Fn(&Running) -> Duration) -> Result<Call> {
        self.live.call(allowed).await
    }

    /// The staged version that has this label.
    pub(crate) fn labelled(&self, label: Uuid) -> Option<Arc<Running>> {
        self.staged().values().find(|running| running.label == label).cloned()
    }

    /// Keeps an artifact as a version and runs it for a preview: the process starts while the files are written.
    pub(super) async fn stage(&self, artifact: &Artifact) -> Result<Arc<Running>> {
        let _operation = self.operate().await?;
        // Without its secret it would answer nobody, not even the check of its preview.
        if artifact.settings.bearer_secret.is_some() {
            self.keep_and_read_secrets().await?.authorization(&artifact.settings)?;
        }
        let (launcher, reference, artifact) = (Arc::clone(&self.launcher), self.reference().clone(), artifact.clone());
        let bundle = Bundle::of(launcher.store.root(), artifact.clone());
        let (sender, startable) = oneshot::channel();
        let keeping = blocking(move || {
            // It is not awaited any more only if staging was given up.
            launcher.store.put_version(&reference, &artifact, |version| drop(sender.send(version.clone())))
        });
        let starting = async {
            match startable.await {
                Ok(version) => Some(self.preview(&version, &bundle).await),
                Err(_) => None,
            }
        };
        // A process whose version could not be kept ends as it is dropped.
        let (kept, started) = tokio::join!(keeping, starting);
        let version = kept?.version;
        match started.unwrap_or_else(|| Err(self.live.error(ErrorKind::Unexpected, "was kept without a version"))) {
            Ok(running) => {
                self.staged().insert(version, Arc::clone(&running));
                Ok(running)
            }
            Err(error) => {
                self.forget_version(&version).await?;
                Err(error)
            }
        }
    }

    /// An endpoint of a version, with what its callers have to send.
    pub(super) async fn endpoint(&self, endpoint: Endpoint, version: &VersionId) -> Result<Endpoint> {
        let (id, version) = (self.reference().id, version.clone());
        // The modules are not looked at: this comes before every call.
        let value =
            self.launcher.on_disk(move |store| store.secrets(id)?.authorization(&store.settings(id, &version)?));
        Ok(match value.await? {
            Some(value) => endpoint.with_header("authorization", value),
            None => endpoint,
        })
    }

    /// Makes a version live.
    pub(super) async fn activate(&self, version: &VersionId) -> Result<()> {
        let _operation = self.operate().await?;
        if self.active().as_ref() == Some(version) {
            return Ok(());
        }
        let staged = self.staged().get(version).filter(|running| running.process.is_running()).cloned();
        if let Some(running) = staged
            && !running.settings.has_durable_state()
        {
            self.live.switch_to(running).await?;
            self.staged().remove(version);
            return Ok(());
        }
        let bundle = self.live.read_version(version).await?;
        self.live.switch(Next { version: version.clone(), bundle, change: Change::Version }).await?;
        let preview = self.staged().remove(version);
        if let Some(preview) = preview {
            preview.process.stop("was a preview that went live").await;
        }
        Ok(())
    }

    /// Removes a version that is not live.
    pub(super) async fn discard(&self, version: &VersionId) -> Result<()> {
        let _operation = self.operation.lock().await;
        if self.is_removed() {
            return Ok(());
        }
        if self.active().as_ref() == Some(version) {
            let problem = format!("serves version {version}, so it cannot be discarded");
            let error = self.live.error(ErrorKind::Conflict, &problem);
            return Err(error.with_help("activate another version first, or unpublish the server"));
        }
        let staged = self.staged().remove(version);
        if let Some(running) = staged {
            running.process.stop("was discarded").await;
        }
        self.forget_version(version).await
    }

    /// Sets or (with `None`) removes a secret; a live version that reads it is started anew with it.
    pub(super) async fn put_secret(&self, name: &EnvName, value: Option<SecretString>) -> Result<()> {
        let _operation = self.operate().await?;
        let mut secrets = self.keep_and_read_secrets().await?;
        match value {
            Some(value) => secrets.set(name, value)?,
            None if !secrets.remove(name) => return Ok(()),
            None => {}
        }
        // Previews stay as they are, but none of them may go live with the old value.
        self.staged().retain(|_, running| !running.settings.secrets.contains(name));
        let Some(running) = self.live.put_secrets(name, &secrets).await? else { return Ok(()) };
        let bundle = self.live.read_version(&running.version).await?;
        let change = Change::Secrets(secrets);
        self.live.switch(Next { version: running.version.clone(), bundle, change }).await
    }

    /// Stops the process of a server that nobody calls.
    pub(super) async fn sleep_if_idle(&self, idle: Duration) {
        self.live.sleep_if_idle(idle).await;
    }

    /// Stops previews that were neither activated nor discarded for long.
    pub(super) async fn stop_old_previews(&self, age: Duration) {
        let old: Vec<_> = self.staged().extract_if(|_, running| running.process.started().elapsed() > age).collect();
        for (_, running) in old {
            running.process.stop("was a preview that nobody used").await;
        }
    }

    /// Stops every process, without waiting for its end.
    pub(super) fn let_go(&self) {
        self.live.let_go();
        self.staged().clear();
    }

    /// Stops every process; the live version can be woken again.
    pub(super) async fn stop(&self, reason: &str) {
        self.live.stop(reason).await;
        self.stop_previews(reason).await;
    }

    /// Stops the server for good and removes its files. Idempotent; after an error it can be tried again.
    pub(super) async fn remove(&self) -> Result<()> {
        // What waits for a process to start waits no longer.
        self.live.interrupt();
        let _operation = self.operation.lock().await;
        if self.is_removed() {
            return Ok(());
        }
        self.live.clear("was unpublished").await;
        self.stop_previews("was unpublished").await;
        let id = self.reference().id;
        self.launcher.on_disk(move |store| store.remove_server(id)).await?;
        self.removed.store(true, Ordering::Release);
        Ok(())
    }

    /// The turn of one operation. Who waited for a removal must not make files that nobody would remove.
    async fn operate(&self) -> Result<AsyncMutexGuard<'_, ()>> {
        let operation = self.operation.lock().await;
        if self.is_removed() {
            return Err(self.live.error(ErrorKind::Conflict, "was unpublished meanwhile").with_help("try again"));
        }
        Ok(operation)
    }

    async fn stop_previews(&self, reason: &str) {
        let staged: Vec<_> = self.staged().drain().map(|(_, running)| running).collect();
        for running in staged {
            running.process.stop(reason).await;
        }
    }

    async fn preview(&self, version: &VersionId, bundle: &Bundle) -> Result<Arc<Running>> {
        let interruption = self.live.interruption();
        let secrets = self.live.kept_secrets().await?;
        self.live.launch(version, bundle, &secrets, Storage::Scratch, interruption).await
    }

    async fn forget_version(&self, version: &VersionId) -> Result<()> {
        let (id, version) = (self.reference().id, version.clone());
        self.launcher.on_disk(move |store| store.remove_version(id, &version)).await
    }

    /// Keeps the server itself, if it is not kept yet, and reads its secrets.
    async fn keep_and_read_secrets(&self) -> Result<Secrets> {
        let reference = self.reference().clone();
        let read = move |store: &Store| {
            store.put_server(&reference)?;
            store.secrets(reference.id)
        };
        self.launcher.on_disk(read).await
    }

    fn staged(&self) -> MutexGuard<'_, HashMap<VersionId, Arc<Running>>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
