//! One server: which version is live, which process runs it, and how one takes over from another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metamcp_core::{Artifact, Endpoint, EnvName, Error, ErrorKind, Result, ServerRef, VersionId};
use secrecy::SecretString;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::timeout;

use super::activity::CallNumber;
use super::bundle::Bundle;
use super::launch::{Launcher, Running, Storage};
use super::log::ServerLog;
use super::restarts::Restarts;
use super::store::unknown_version;

/// What a call may take beyond its tool's timeout: the runtime answers within it, unless it is caught in a loop.
const GRACE: Duration = Duration::from_secs(1);
/// How long after its deadline a call is waited for whose process answers other calls.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a call waits for a sleeping server or for a switch, beyond the server's start.
const WAKE_GRACE: Duration = Duration::from_secs(30);
/// How long after a broken connection the end of its process is waited for.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// A server of the publisher.
#[derive(Debug)]
pub(crate) struct Server {
    reference: ServerRef,
    launcher: Arc<Launcher>,
    log: Arc<ServerLog>,
    /// One of the publisher's operations at a time.
    operation: AsyncMutex<()>,
    /// Held by whoever changes which process is live.
    transition: AsyncMutex<()>,
    slot: Mutex<Slot>,
    staged: Mutex<HashMap<VersionId, Arc<Running>>>,
    restarts: Mutex<Restarts>,
}

#[derive(Debug, Clone)]
enum Slot {
    /// Nothing is live.
    Empty,
    /// Live, without a process.
    Asleep(VersionId),
    Running(Arc<Running>),
}

/// A call that a process is working on.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) running: Arc<Running>,
    number: CallNumber,
    answered: bool,
    give_up: Instant,
}

impl Call {
    /// When its caller is told that no answer will come, though the process answers other calls.
    pub(crate) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// Why the call has no answer, once its connection broke.
    pub(crate) async fn failure(&self) -> String {
        let name = &self.running.settings.name;
        match timeout(EXIT_WAIT, self.running.process.exited()).await {
            Ok(exit) => format!("server {name} {}; the next call starts it again", exit.text),
            Err(_) => format!("server {name} closed the connection before it answered"),
        }
    }

    /// Whether the process ends within a moment.
    pub(crate) async fn ended_soon(&self) -> bool {
        timeout(EXIT_WAIT, self.running.process.exited()).await.is_ok()
    }

    /// The call ended with its answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.answered {
            self.running.process.answered(self.number);
        } else {
            self.running.process.abandoned(self.number);
        }
    }
}

impl Server {
    /// A server that sleeps on its active version, if it has one.
    pub(super) fn new(reference: ServerRef, launcher: Arc<Launcher>, active: Option<VersionId>) -> Self {
        let log = Arc::new(ServerLog::open(launcher.store.log_path(reference.id)));
        Self {
            reference,
            launcher,
            log,
            operation: AsyncMutex::new(()),
            transition: AsyncMutex::new(()),
            slot: Mutex::new(active.map_or(Slot::Empty, Slot::Asleep)),
            staged: Mutex::default(),
            restarts: Mutex::default(),
        }
    }

    /// Id and name.
    pub(super) fn reference(&self) -> &ServerRef {
        &self.reference
    }

    /// Its log.
    pub(super) fn log(&self) -> &ServerLog {
        &self.log
    }

    /// The live version.
    pub(super) fn active(&self) -> Option<VersionId> {
        match &*self.slot() {
            Slot::Empty => None,
            Slot::Asleep(version) => Some(version.clone()),
            Slot::Running(running) => Some(running.version.clone()),
        }
    }

    /// Begins a call on the live version, waking it if it sleeps. `allowed` says how long the call may take.
    pub(crate) async fn call(self: &Arc<Self>, allowed: impl Fn(&Running) -> Duration) -> Result<Call> {
        let since = Instant::now();
        let limit = self.launcher.config.start_timeout + WAKE_GRACE;
        loop {
            if let Some(call) = self.try_call(&allowed)? {
                return Ok(call);
            }
            let server = Arc::clone(self);
            // A task of its own: a caller that goes away does not take the start with it.
            let woken = tokio::spawn(async move { server.wake(since).await });
            match timeout(limit.saturating_sub(since.elapsed()), woken).await {
                Ok(Ok(outcome)) => outcome?,
                Ok(Err(error)) => {
                    return Err(self.error(ErrorKind::Unexpected, "could not be woken").with_source(error));
                }
                Err(_) => {
                    return Err(self.error(ErrorKind::TimedOut, &format!("was not ready within {} s", limit.as_secs())));
                }
            }
        }
    }

    /// Keeps an artifact as a version and runs it for a preview: the process starts while the files are written.
    pub(super) async fn stage(&self, artifact: &Artifact) -> Result<Arc<Running>> {
        let _operation = self.operation.lock().await;
        // Without its secret it would answer nobody, not even the check of its preview.
        if artifact.settings.bearer_secret.is_some() {
            self.launcher.store.put_server(&self.reference)?;
            self.launcher.store.secrets(self.reference.id)?.authorization(&artifact.settings)?;
        }
        let (launcher, reference, artifact) = (Arc::clone(&self.launcher), self.reference.clone(), artifact.clone());
        let bundle = Bundle::of(launcher.store.root(), artifact.clone());
        let (sender, startable) = oneshot::channel();
        let keeping = blocking(move || {
            // It is not awaited any more only if staging was given up.
            launcher.store.put_version(&reference, &artifact, |version| drop(sender.send(version.clone())))
        });
        let starting = async {
            match startable.await {
                Ok(version) => Some(self.launch(&version, &bundle, Storage::Scratch).await),
                Err(_) => None,
            }
        };
        // A process whose version could not be kept ends as it is dropped.
        let (kept, started) = tokio::join!(keeping, starting);
        let version = kept?.version;
        match started.unwrap_or_else(|| Err(self.error(ErrorKind::Unexpected, "was kept without a version"))) {
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
        let bundle = self.read_version(version).await?;
        let authorization = self.launcher.store.secrets(self.reference.id)?.authorization(&bundle.artifact.settings)?;
        Ok(match authorization {
            Some(value) => endpoint.with_header("authorization", value),
            None => endpoint,
        })
    }

    /// Makes a version live.
    pub(super) async fn activate(&self, version: &VersionId) -> Result<()> {
        let _operation = self.operation.lock().await;
        if self.active().as_ref() == Some(version) {
            return Ok(());
        }
        let staged = self.staged().get(version).filter(|running| running.process.is_running()).cloned();
        if let Some(running) = staged
            && !running.settings.has_durable_state()
        {
            let _transition = self.transition.lock().await;
            self.put_active(version).await?;
            self.staged().remove(version);
            self.replace(running);
            return Ok(());
        }
        self.start_and_switch(version).await?;
        let preview = self.staged().remove(version);
        if let Some(preview) = preview {
            preview.process.stop("was a preview that went live").await;
        }
        Ok(())
    }

    /// Removes a version that is not live.
    pub(super) async fn discard(&self, version: &VersionId) -> Result<()> {
        let _operation = self.operation.lock().await;
        if self.active().as_ref() == Some(version) {
            let error =
                self.error(ErrorKind::Conflict, &format!("serves version {version}, so it cannot be discarded"));
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
        let _operation = self.operation.lock().await;
        let transition = self.transition.lock().await;
        let store = &self.launcher.store;
        store.put_server(&self.reference)?;
        let before = store.secrets(self.reference.id)?;
        let mut secrets = before.clone();
        match value {
            Some(value) => secrets.set(name, value)?,
            None if !secrets.remove(name) => return Ok(()),
            None => {}
        }
        store.put_secrets(self.reference.id, &secrets)?;
        let running = match &*self.slot() {
            Slot::Running(running) => Some(Arc::clone(running)),
            Slot::Empty | Slot::Asleep(_) => None,
        };
        drop(transition);
        // Previews stay as they are, but none of them may go live with the old value.
        self.staged().retain(|_, running| !running.settings.secrets.contains(name));
        let Some(running) = running.filter(|running| running.settings.secrets.contains(name)) else { return Ok(()) };
        let switched = self.start_and_switch(&running.version).await;
        if switched.is_err() {
            store.put_secrets(self.reference.id, &before)?;
        }
        switched
    }

    /// Stops the process of a server that nobody calls, and previews that are left.
    pub(super) async fn sleep_if_idle(&self, idle: Duration) {
        let Ok(_transition) = self.transition.try_lock() else { return };
        let asleep = {
            let mut slot = self.slot();
            let Slot::Running(running) = &*slot else { return };
            let since = running.process.idle_since();
            let keeps_awake = running.settings.has_durable_state() || !running.settings.crons.is_empty();
            if keeps_awake || since.is_none_or(|since| since.elapsed() < idle) {
                return;
            }
            let running = Arc::clone(running);
            *slot = Slot::Asleep(running.version.clone());
            running
        };
        asleep.process.stop("went to sleep").await;
    }

    /// Stops previews that were neither activated nor discarded for long.
    pub(super) async fn stop_old_previews(&self, age: Duration) {
        let old: Vec<_> = self.staged().extract_if(|_, running| running.process.started().elapsed() > age).collect();
        for (_, running) in old {
            running.process.stop("was a preview that nobody used").await;
        }
    }

    /// Stops every process; the live version can be woken again.
    pub(super) async fn stop(&self, reason: &str) {
        let _transition = self.transition.lock().await;
        let running = {
            let mut slot = self.slot();
            match slot.clone() {
                Slot::Running(running) => {
                    *slot = Slot::Asleep(running.version.clone());
                    Some(running)
                }
                Slot::Empty | Slot::Asleep(_) => None,
            }
        };
        let staged: Vec<_> = self.staged().drain().map(|(_, running)| running).collect();
        for running in staged.into_iter().chain(running) {
            running.process.stop(reason).await;
        }
    }

    /// Stops the server for good and removes its files.
    pub(super) async fn remove(&self) -> Result<()> {
        let _operation = self.operation.lock().await;
        self.stop("was unpublished").await;
        *self.slot() = Slot::Empty;
        let (launcher, id) = (Arc::clone(&self.launcher), self.reference.id);
        blocking(move || launcher.store.remove_server(id)).await
    }

    /// A call on a running process; `None` if there is none.
    fn try_call(&self, allowed: impl Fn(&Running) -> Duration) -> Result<Option<Call>> {
        let slot = self.slot();
        let running = match &*slot {
            Slot::Empty => return Err(self.error(ErrorKind::NotFound, "has no live version")),
            Slot::Asleep(_) => return Ok(None),
            Slot::Running(running) if !running.process.is_running() => return Ok(None),
            Slot::Running(running) => Arc::clone(running),
        };
        let deadline = Instant::now() + allowed(&running) + GRACE;
        let number = running.process.begin(deadline);
        drop(slot);
        Ok(Some(Call { running, number, answered: false, give_up: deadline + PATIENCE }))
    }

    /// Starts the live version unless it runs. Of those who ask at the same time one starts it; if that fails
    /// the others, who asked before the failure, get the same error.
    async fn wake(&self, asked: Instant) -> Result<()> {
        let _transition = self.transition.lock().await;
        let version = match &*self.slot() {
            Slot::Running(running) if running.process.is_running() => return Ok(()),
            Slot::Running(running) => {
                self.restarts().crashed(running.process.started());
                running.version.clone()
            }
            Slot::Asleep(version) => version.clone(),
            Slot::Empty => return Err(self.error(ErrorKind::NotFound, "has no live version")),
        };
        *self.slot() = Slot::Asleep(version.clone());
        let delay = self.restarts().check(asked).map_err(|text| self.error(ErrorKind::Unavailable, &text))?;
        tokio::time::sleep(delay).await;
        match self.start(&version).await {
            Ok(running) => {
                *self.slot() = Slot::Running(running);
                Ok(())
            }
            Err(error) => {
                self.restarts().failed(error.to_string());
                Err(error)
            }
        }
    }

    /// Starts a version and lets it take over. Where there is durable state, two processes must not have it at
    /// once: calls wait while the old one ends and the new one starts.
    async fn start_and_switch(&self, version: &VersionId) -> Result<()> {
        let bundle = self.read_version(version).await?;
        if !bundle.artifact.settings.has_durable_state() {
            let running = self.launch(version, &bundle, Storage::Durable).await?;
            let _transition = self.transition.lock().await;
            self.put_active(version).await?;
            self.replace(running);
            return Ok(());
        }
        let _transition = self.transition.lock().await;
        let old = {
            let mut slot = self.slot();
            let old = slot.clone();
            if let Slot::Running(running) = &old {
                *slot = Slot::Asleep(running.version.clone());
            }
            old
        };
        if let Slot::Running(running) = old {
            running.process.retire(running.longest_timeout() + GRACE).await;
        }
        let running = self.launch(version, &bundle, Storage::Durable).await?;
        self.put_active(version).await?;
        *self.slot() = Slot::Running(running);
        Ok(())
    }

    /// Puts a process in place; the one before ends when its calls did.
    fn replace(&self, running: Arc<Running>) {
        let old = std::mem::replace(&mut *self.slot(), Slot::Running(running));
        if let Slot::Running(old) = old {
            tokio::spawn(async move { old.process.retire(old.longest_timeout() + GRACE).await });
        }
    }

    async fn start(&self, version: &VersionId) -> Result<Arc<Running>> {
        let bundle = self.read_version(version).await?;
        self.launch(version, &bundle, Storage::Durable).await
    }

    async fn launch(&self, version: &VersionId, bundle: &Bundle, storage: Storage) -> Result<Arc<Running>> {
        let secrets = self.launcher.store.secrets(self.reference.id)?;
        self.launcher.launch(&self.reference, version, bundle, &secrets, storage, &self.log).await
    }

    async fn read_version(&self, version: &VersionId) -> Result<Bundle> {
        let (launcher, id, version) = (Arc::clone(&self.launcher), self.reference.id, version.clone());
        blocking(move || {
            if !launcher.store.has_version(id, &version)? {
                return Err(unknown_version(&version));
            }
            launcher.store.read_version(id, &version)
        })
        .await
    }

    async fn put_active(&self, version: &VersionId) -> Result<()> {
        let (launcher, id, version) = (Arc::clone(&self.launcher), self.reference.id, version.clone());
        blocking(move || launcher.store.set_active(id, &version)).await
    }

    async fn forget_version(&self, version: &VersionId) -> Result<()> {
        let (launcher, id, version) = (Arc::clone(&self.launcher), self.reference.id, version.clone());
        blocking(move || launcher.store.remove_version(id, &version)).await
    }

    fn error(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, format!("server {} {problem}", self.reference.name))
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> MutexGuard<'_, HashMap<VersionId, Arc<Running>>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restarts(&self) -> MutexGuard<'_, Restarts> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs work on the disk where it may wait.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Unexpected, "work on the disk was cut off").with_source(error))?
}
