//! What answers for a server: its live version and the process that runs it.

mod switch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metamcp_core::{EnvName, Error, ErrorKind, Result, ServerRef, VersionId};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::bundle::Bundle;
use super::call::Call;
use super::interruption::{Interrupter, Interruption};
use super::launch::{Launch, Launcher, Running, Storage};
use super::log::ServerLog;
use super::restarts::Restarts;
use super::secrets::Secrets;
use super::store::{Store, unknown_version};
use super::supervision;

pub(super) use self::switch::{Change, Next};

/// What a call may take beyond its tool's timeout: the runtime answers within it, unless it is caught in a loop.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long a call waits for a sleeping server or for a switch, beyond the server's start.
const WAKE_GRACE: Duration = Duration::from_secs(30);

/// The live version of a server and its process.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) reference: ServerRef,
    pub(super) launcher: Arc<Launcher>,
    pub(super) log: Arc<ServerLog>,
    slot: watch::Sender<Slot>,
    /// Held by whoever changes which process is live.
    transition: AsyncMutex<()>,
    interrupter: Interrupter,
    restarts: Mutex<Restarts>,
}

/// Which version is live, and in which process.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// Nothing is live.
    Empty,
    /// Live, without a process until it is called.
    Asleep(VersionId),
    /// Live, without a process, and perhaps it should have one: it ended, did not start, or was not looked at yet.
    Down(VersionId),
    Running(Arc<Running>),
}

/// The right to change which process is live.
struct Turn<'a> {
    _transition: AsyncMutexGuard<'a, ()>,
    interruption: Interruption,
}

impl Slot {
    pub(super) fn version(&self) -> Option<&VersionId> {
        match self {
            Self::Empty => None,
            Self::Asleep(version) | Self::Down(version) => Some(version),
            Self::Running(running) => Some(&running.version),
        }
    }

    fn asleep(&self) -> Self {
        self.version().cloned().map_or(Self::Empty, Self::Asleep)
    }
}

impl Live {
    /// Nothing, or an active version that runs as soon as it is called or, if it runs by itself, at once.
    pub(super) fn new(reference: ServerRef, launcher: Arc<Launcher>, active: Option<VersionId>) -> Arc<Self> {
        let log = Arc::new(ServerLog::open(launcher.store.log_path(reference.id)));
        let live = Arc::new(Self {
            reference,
            launcher,
            log,
            slot: watch::Sender::new(active.map_or(Slot::Empty, Slot::Down)),
            transition: AsyncMutex::new(()),
            interrupter: Interrupter::default(),
            restarts: Mutex::default(),
        });
        supervision::keep_running(&live);
        live
    }

    /// The live version.
    pub(super) fn active(&self) -> Option<VersionId> {
        self.slot.borrow().version().cloned()
    }

    /// The live process, if there is one.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        match &*self.slot.borrow() {
            Slot::Running(running) => Some(Arc::clone(running)),
            Slot::Empty | Slot::Asleep(_) | Slot::Down(_) => None,
        }
    }

    /// What is live, and every change of it.
    pub(super) fn changes(&self) -> watch::Receiver<Slot> {
        self.slot.subscribe()
    }

    /// Begins a call on the live version, waking it if it sleeps. `allowed` says how long the call may take.
    pub(super) async fn call(self: &Arc<Self>, allowed: impl Fn(&Running) -> Duration) -> Result<Call> {
        let since = Instant::now();
        let limit = self.launcher.config.start_timeout + WAKE_GRACE;
        loop {
            if let Some(call) = self.try_call(&allowed)? {
                return Ok(call);
            }
            let live = Arc::clone(self);
            // A task of its own: a caller that goes away does not take the start with it.
            let woken = tokio::spawn(async move { live.wake(since).await });
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

    /// Keeps secrets, unless a process runs that reads the changed one: that is returned, and nothing is kept before
    /// another one runs with them.
    pub(super) async fn put_secrets(&self, changed: &EnvName, secrets: &Secrets) -> Result<Option<Arc<Running>>> {
        // Nobody may be starting a process with the old ones.
        let _turn = self.take_over().await;
        if let Some(running) = self.running().filter(|running| running.settings.secrets.contains(changed)) {
            return Ok(Some(running));
        }
        self.keep_secrets(secrets).await?;
        // Perhaps it did not start for want of it.
        *self.restarts() = Restarts::default();
        self.slot.send_modify(|_| {});
        Ok(None)
    }

    /// Stops the process if nobody calls it and nothing is lost by it.
    pub(super) async fn sleep_if_idle(&self, idle: Duration) {
        let Ok(_transition) = self.transition.try_lock() else { return };
        let mut asleep = None;
        self.slot.send_if_modified(|slot| {
            let Slot::Running(running) = &*slot else { return false };
            // Sessions keep open streams and what clients missed in memory.
            let keeps_awake = running.settings.has_durable_state() || running.settings.runs_by_itself();
            if keeps_awake || running.process.idle_since().is_none_or(|since| since.elapsed() < idle) {
                return false;
            }
            let version = running.version.clone();
            asleep = Some(std::mem::replace(slot, Slot::Asleep(version)));
            true
        });
        if let Some(Slot::Running(running)) = asleep {
            running.process.stop("went to sleep").await;
        }
    }

    /// Stops the process; the live version can be woken again.
    pub(super) async fn stop(&self, reason: &str) {
        self.end(reason, Slot::asleep).await;
    }

    /// Stops the process; nothing is live afterwards.
    pub(super) async fn clear(&self, reason: &str) {
        self.end(reason, |_| Slot::Empty).await;
    }

    /// Stops the process without waiting for its end: it is killed with its last handle, and a start is given up.
    pub(super) fn let_go(&self) {
        self.interrupter.interrupt();
        self.slot.send_modify(|slot| *slot = slot.asleep());
    }

    /// Makes whoever starts a process give it up.
    pub(super) fn interrupt(&self) {
        self.interrupter.interrupt();
    }

    /// What a start has to listen to.
    pub(super) fn interruption(&self) -> Interruption {
        self.interrupter.interruption()
    }

    /// Waits for its turn without giving up what is under way. `None` if it was interrupted itself meanwhile: things
    /// are not as they were.
    async fn wait_for_turn(&self) -> Option<Turn<'_>> {
        let interruption = self.interruption();
        let turn = Turn { _transition: self.transition.lock().await, interruption };
        (!turn.interruption.is_here()).then_some(turn)
    }

    /// Takes its turn; a start that is under way is given up for it.
    async fn take_over(&self) -> Turn<'_> {
        self.interrupt();
        let interruption = self.interruption();
        Turn { _transition: self.transition.lock().await, interruption }
    }

    /// A call on a running process; `None` if there is none.
    fn try_call(&self, allowed: impl Fn(&Running) -> Duration) -> Result<Option<Call>> {
        // Held until the call has begun, so that the process does not go to sleep before it.
        let slot = self.slot.borrow();
        match &*slot {
            Slot::Empty => Err(self.nothing_live()),
            Slot::Running(running) if running.process.is_running() => {
                let deadline = Instant::now() + allowed(running) + GRACE;
                Ok(Call::begin(Arc::clone(running), deadline))
            }
            Slot::Asleep(_) | Slot::Down(_) | Slot::Running(_) => Ok(None),
        }
    }

    /// Starts the live version unless it runs. Of those who ask at the same time one starts it; if that fails
    /// the others, who asked before the failure, get the same error.
    async fn wake(&self, asked: Instant) -> Result<()> {
        loop {
            let Some(turn) = self.wait_for_turn().await else { return Ok(()) };
            self.note_end();
            let version = match &*self.slot.borrow() {
                Slot::Empty => return Err(self.nothing_live()),
                Slot::Running(running) if running.process.takes_calls() => return Ok(()),
                Slot::Running(running) => Err(Arc::clone(running)),
                Slot::Asleep(version) | Slot::Down(version) => Ok(version.clone()),
            };
            let version = match version {
                Ok(version) => version,
                Err(ending) => {
                    let interruption = turn.interruption.clone();
                    drop(turn);
                    tokio::select! {
                        _ = ending.process.exited() => continue,
                        () = interruption.arrived() => return Ok(()),
                    }
                }
            };
            let wait = self.restarts().wait_of_caller(asked);
            let wait = wait.map_err(|text| self.error(ErrorKind::Unavailable, &text))?;
            if wait.is_zero() {
                return self.start(&version, &turn).await;
            }
            let interruption = turn.interruption.clone();
            drop(turn);
            tokio::select! {
                () = sleep(wait) => {}
                () = interruption.arrived() => return Ok(()),
            }
        }
    }

    /// Starts the live version if it runs by itself and has no process. Where that has to be tried again, returns
    /// how long to wait.
    pub(super) async fn revive(&self) -> Option<Duration> {
        let turn = self.wait_for_turn().await?;
        self.note_end();
        let Slot::Down(version) = self.slot.borrow().clone() else { return None };
        let outcome = match self.runs_by_itself(&version).await {
            Ok(false) => {
                self.slot.send_replace(Slot::Asleep(version));
                return None;
            }
            Ok(true) => {
                let wait = self.restarts().wait_unasked();
                if !wait.is_zero() {
                    return Some(wait);
                }
                self.start(&version, &turn).await
            }
            Err(error) => Err(self.failed(error)),
        };
        let error = outcome.err()?;
        let wait = self.restarts().wait_unasked();
        tracing::warn!(server = %self.reference.name, %version, %error, ?wait, "a server that should run does not");
        let line = format!("metamcp: {}; it is tried again within {} s", error.message(), wait.as_secs() + 1);
        self.log.append(&version, vec![line]);
        Some(wait)
    }

    /// Starts the live version. One that was interrupted has not failed: whoever asked for it looks again.
    async fn start(&self, version: &VersionId, turn: &Turn<'_>) -> Result<()> {
        let started = async {
            let bundle = self.read_version(version).await?;
            let secrets = self.kept_secrets().await?;
            self.launch(version, &bundle, &secrets, Storage::Durable, turn.interruption.clone()).await
        };
        match started.await {
            Ok(running) => {
                self.slot.send_replace(Slot::Running(running));
                Ok(())
            }
            Err(_) if turn.interruption.is_here() => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn end(&self, reason: &str, after: impl FnOnce(&Slot) -> Slot) {
        let _turn = self.take_over().await;
        let after = after(&self.slot.borrow());
        if let Slot::Running(running) = self.slot.send_replace(after) {
            running.process.stop(reason).await;
        }
    }

    /// Starts a process of a version, which is not live by that.
    pub(super) async fn launch(
        &self,
        version: &VersionId,
        bundle: &Bundle,
        secrets: &Secrets,
        storage: Storage,
        interruption: Interruption,
    ) -> Result<Arc<Running>> {
        let (server, log) = (&self.reference, &self.log);
        let launch = Launch { server, version, bundle, secrets, storage, log, interruption };
        self.launcher.launch(launch).instrument(tracing::debug_span!("start", server = %server.name, %version)).await
    }

    /// Notes that the live process ended by itself, if it did.
    fn note_end(&self) {
        self.slot.send_if_modified(|slot| {
            let Slot::Running(running) = &*slot else { return false };
            if running.process.is_running() {
                return false;
            }
            if !running.process.was_used_up() {
                self.restarts().crashed(running.process.started());
            }
            *slot = Slot::Down(running.version.clone());
            true
        });
    }

    fn failed(&self, error: Error) -> Error {
        self.restarts().failed(error.to_string());
        error
    }

    async fn runs_by_itself(&self, version: &VersionId) -> Result<bool> {
        let (id, version) = (self.reference.id, version.clone());
        self.launcher.on_disk(move |store| Ok(store.settings(id, &version)?.runs_by_itself())).await
    }

    /// A version with its files.
    pub(super) async fn read_version(&self, version: &VersionId) -> Result<Bundle> {
        let (id, version) = (self.reference.id, version.clone());
        let read = move |store: &Store| {
            if !store.has_version(id, &version)? {
                return Err(unknown_version(&version));
            }
            store.read_version(id, &version)
        };
        self.launcher.on_disk(read).await
    }

    pub(super) async fn kept_secrets(&self) -> Result<Secrets> {
        let id = self.reference.id;
        self.launcher.on_disk(move |store| store.secrets(id)).await
    }

    async fn keep_secrets(&self, secrets: &Secrets) -> Result<()> {
        let (id, secrets) = (self.reference.id, secrets.clone());
        self.launcher.on_disk(move |store| store.put_secrets(id, &secrets)).await
    }

    fn nothing_live(&self) -> Error {
        self.error(ErrorKind::NotFound, "has no live version")
    }

    /// An error that names the server.
    pub(super) fn error(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, format!("server {} {problem}", self.reference.name))
    }

    fn restarts(&self) -> MutexGuard<'_, Restarts> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
