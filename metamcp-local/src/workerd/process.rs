//! A supervised workerd process: started, watched, and stopped when it no longer answers or its memory is used up.

use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use metamcp_core::{Error, ErrorKind, Result, VersionId};
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use super::activity::{Activity, CallNumber};
use super::files;
use super::health;
use super::interruption::Interruption;
use super::leftovers;
use super::lines::BoundedLines;
use super::log::{Redactor, ServerLog};
use super::memory;
use super::output::OutputLines;
use super::run_folder::NewFolder;
use super::sandbox::Sandbox;
use super::silence::Silence;
use super::socket::Socket;
use super::supervised::{End, Lifeline, Supervised};
use super::upstream::Connections;

/// How often a process is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How long a process may take to answer `GET /health` before it counts as caught in a loop.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a call past its deadline is left alone when the process answers otherwise.
const EXCUSE: Duration = Duration::from_secs(5);
/// What a process needs beside its server's memory: workerd's own, and V8's young generation.
pub(super) const MEMORY_HEADROOM_MB: u64 = 64;
/// How long calls in flight may take to end once the memory is full.
const MEMORY_GRACE: Duration = Duration::from_secs(1);
/// Longest line of the supervisor or of workerd's control messages.
const MAX_CONTROL_BYTES: usize = 4 * 1024;
/// Log lines shown in an error.
const ERROR_LINES: usize = 8;

/// What a process is started with.
pub(super) struct ProcessPlan<'a> {
    pub(super) workerd: &'a Path,
    pub(super) sandbox: &'a Sandbox,
    /// Its way out, where it has none of its own; ends with it, and it with that.
    pub(super) gate: Option<Arc<Process>>,
    /// Folder of the process, removed with it; holds configuration and socket.
    pub(super) folder: NewFolder,
    /// Files and folders it has to read beside its own.
    pub(super) readable: Vec<PathBuf>,
    /// Folder it may write to.
    pub(super) writable: Option<PathBuf>,
    pub(super) environment: Vec<(String, SecretString)>,
    pub(super) redactor: Redactor,
    pub(super) memory_mb: u64,
    pub(super) silence: Option<Silence>,
    pub(super) version: VersionId,
    pub(super) log: Arc<ServerLog>,
    pub(super) start_timeout: Duration,
    pub(super) interruption: Interruption,
}

impl ProcessPlan<'_> {
    /// workerd's own arguments.
    pub(super) fn arguments(&self) -> [OsString; 4] {
        let config = self.folder.path().join(Process::CONFIG);
        ["serve".into(), "-I/".into(), config.into(), "--control-fd=3".into()]
    }
}

/// A running process. Dropping it kills workerd at once.
pub(crate) struct Process {
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<Exit>>,
    listening: watch::Receiver<bool>,
    connections: Connections,
    started: Instant,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    /// What it is to callers who have no answer by it.
    pub(crate) kind: ErrorKind,
    /// As a sentence part: "ran out of memory …".
    pub(crate) text: String,
}

impl Exit {
    fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// One that says nothing of the calls that were under way.
    fn gone(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, text)
    }
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    socket: Socket,
    /// Whether a socket in its place could be somebody else's.
    is_confined: bool,
    lifeline: Mutex<Option<Lifeline>>,
    reason: Mutex<Option<Exit>>,
    pid: AtomicU32,
    heap_exhausted: AtomicBool,
    used_up: AtomicBool,
    memory_mb: u64,
    silence: Option<Silence>,
    activity: Activity,
}

impl Process {
    /// Name of the configuration file in a process's folder.
    pub(super) const CONFIG: &'static str = "config.capnp";

    /// Starts workerd on the configuration in the plan's folder and waits until the Worker answers
    /// `GET /health` with 200, or it is interrupted. On an error nothing is left of it; nor is a moment later if the
    /// future is dropped.
    pub(super) async fn start(plan: ProcessPlan<'_>) -> Result<Arc<Self>> {
        let limit = plan.start_timeout;
        let (version, log, interruption) = (plan.version.clone(), Arc::clone(&plan.log), plan.interruption.clone());
        let process = tokio::select! {
            process = Self::spawn(plan) => process?,
            () = interruption.arrived() => {
                let message = format!("version {version} does not start: it was stopped before it began");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        };
        let problem = tokio::select! {
            ready = timeout(limit, process.ready()) => match ready {
                Ok(Ok(())) => return Ok(process),
                Ok(Err(problem)) => problem,
                Err(_) => format!("it was not healthy within {} s", limit.as_secs_f32()),
            },
            () = interruption.arrived() => "it was stopped before it was healthy".to_owned(),
        };
        process.stop("was stopped").await;
        let lines = log.newest(ERROR_LINES).into_iter().filter(|line| line.version == version);
        let lines: Vec<_> = lines.map(|line| line.text).collect();
        let message = format!("version {version} does not start: {problem}");
        let error = Error::new(ErrorKind::Unavailable, message);
        Err(if lines.is_empty() { error } else { error.with_help(format!("its log ends with: {}", lines.join(" | "))) })
    }

    /// Socket it answers on.
    pub(crate) fn socket(&self) -> &Path {
        self.shared.socket.path()
    }

    /// Connections to it that can be used again.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// A call begins; it should be answered by the deadline. `None` where it ends soon and takes no more.
    pub(super) fn begin(&self, deadline: Instant) -> Option<CallNumber> {
        self.shared.activity.begin(deadline)
    }

    /// Whether a call may begin.
    pub(super) fn takes_calls(&self) -> bool {
        !self.shared.activity.is_closed()
    }

    /// Whether it was ended between calls, since earlier ones had left too much in its memory.
    pub(super) fn was_used_up(&self) -> bool {
        self.shared.used_up.load(Ordering::Relaxed)
    }

    /// A call ended with its answer.
    pub(super) fn answered(&self, call: CallNumber) {
        self.shared.activity.answered(call);
    }

    /// A caller went away before the answer.
    pub(super) fn abandoned(&self, call: CallNumber) {
        self.shared.activity.abandoned(call);
    }

    /// Since when nothing is in flight; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.shared.activity.idle_since()
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Waits for its end, without holding on to it.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            let gone = || Exit::gone("was stopped");
            exit.wait_for(Option::is_some).await.map_or_else(|_| gone(), |exit| exit.clone().unwrap_or_else(gone))
        }
    }

    /// Kills it and waits until nothing is left of it. `reason` is what its callers are told.
    pub(super) async fn stop(&self, reason: &str) {
        self.shared.kill(Exit::gone(reason));
        self.exited().await;
    }

    /// Lets calls in flight end, at most for `limit`, then stops it.
    pub(super) async fn retire(&self, limit: Duration) {
        // A call that is still there is ended with the process.
        let drained = timeout(limit, self.shared.activity.drained()).await;
        if drained.is_err() {
            tracing::warn!(socket = %self.socket().display(), "a replaced version still had calls and was stopped");
        }
        self.stop("was replaced by another version before it answered").await;
    }

    async fn spawn(plan: ProcessPlan<'_>) -> Result<Arc<Self>> {
        let Supervised { control, output, lifeline, end } = plan.sandbox.start(&plan).await?;
        let shared = Arc::new(Shared {
            socket: Socket::new(plan.sandbox.socket(plan.folder.path())),
            is_confined: plan.sandbox.is_container(),
            folder: plan.folder.keep(),
            lifeline: Mutex::new(Some(lifeline)),
            reason: Mutex::new(None),
            pid: AtomicU32::new(0),
            heap_exhausted: AtomicBool::new(false),
            used_up: AtomicBool::new(false),
            memory_mb: plan.memory_mb,
            silence: plan.silence,
            activity: Activity::new(),
        });
        let lines = OutputLines { redactor: plan.redactor, log: plan.log, version: plan.version };
        let reader = Arc::clone(&shared);
        let log_task = tokio::spawn(async move {
            let exhausted = lines.record(output).await;
            reader.heap_exhausted.store(exhausted, Ordering::Relaxed);
        });
        let (listening, is_listening) = watch::channel(false);
        let (exit_sender, exit) = watch::channel(None);
        tokio::spawn(read_control(control, Arc::clone(&shared), listening));
        tokio::spawn(supervise(end, Arc::clone(&shared), plan.gate, log_task, exit_sender));
        let connections = Connections::default();
        Ok(Arc::new(Self { shared, exit, listening: is_listening, connections, started: Instant::now() }))
    }

    async fn ready(&self) -> Result<(), String> {
        let mut listening = self.listening.clone();
        tokio::select! {
            Ok(_) = listening.wait_for(|listening| *listening) => {}
            exit = self.exited() => return Err(format!("its process {}", exit.text)),
        }
        if self.shared.is_confined {
            self.shared.socket.pin().map_err(|error| format!("its socket cannot be used: {error}"))?;
        }
        tokio::select! {
            answer = health::check(self.socket()) => answer,
            exit = self.exited() => Err(format!("its process {}", exit.text)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.kill(Exit::gone("was stopped"));
    }
}

impl Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("socket", &self.socket()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The first reason stays.
    fn kill(&self, reason: Exit) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        drop(self.lifeline.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Kills a process that is caught in a loop or over its memory.
    async fn check(&self) {
        let pid = self.pid.load(Ordering::Relaxed);
        let used_mb = memory::private_mb(pid).await.unwrap_or_default();
        if used_mb > self.memory_mb + MEMORY_HEADROOM_MB || self.activity.is_closed() {
            self.end_for_memory(used_mb);
            return;
        }
        let now = Instant::now();
        let silence = self.silence.as_ref().filter(|silence| silence.is_noticed(now));
        let is_overdue = self.activity.is_overdue(now);
        if !is_overdue && silence.is_none() {
            return;
        }
        if timeout(PING_TIMEOUT, health::check(self.socket.path())).await.is_ok() {
            let now = Instant::now();
            self.activity.excuse_overdue(now, EXCUSE);
            silence.inspect(|silence| silence.end(now));
        } else if is_overdue || silence.is_some_and(|silence| silence.is_too_long(now)) {
            let text = "did not answer within the timeout, was caught in a loop, and was stopped";
            self.kill(Exit::new(ErrorKind::TimedOut, text));
        }
    }

    /// What fills the memory may be what an earlier call left, so that a call which does little must not pay for it:
    /// from now on calls wait for the next process, and those in flight have a moment to end. A call that goes on
    /// filling it, or is still there then, ends with the process.
    fn end_for_memory(&self, used_mb: u64) {
        let now = Instant::now();
        let (since, in_flight) = self.activity.close(now);
        if in_flight == 0 {
            // What fills it without a call fills the next one too.
            self.used_up.store(self.silence.is_none(), Ordering::Relaxed);
            self.kill(Exit::gone("had used up its memory and was stopped"));
        } else if now - since >= MEMORY_GRACE || used_mb > self.memory_mb + self.memory_mb / 2 + MEMORY_HEADROOM_MB {
            self.kill(self.out_of_memory("and was stopped"));
        }
    }

    fn exit_of(&self, end: End) -> Exit {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.unwrap_or_else(|| match end {
            End::Code(_) if self.heap_exhausted.load(Ordering::Relaxed) => self.out_of_memory("and ended"),
            End::Code(137) => Exit::gone("was killed by signal 9, perhaps by the system for want of memory"),
            End::Code(code) if code > 128 => Exit::gone(format!("was ended by signal {}", code - 128)),
            End::Code(code) => Exit::gone(format!("ended with exit code {code}")),
            #[cfg(feature = "docker")]
            End::OutOfMemory => self.out_of_memory("and was killed"),
            End::Lost(text) => Exit::gone(text),
        })
    }

    fn out_of_memory(&self, end: &str) -> Exit {
        let text = format!("ran out of memory (limit {} MiB) {end}", self.memory_mb);
        Exit::new(ErrorKind::LimitExceeded, text)
    }
}

/// Reads the supervisor's lines and workerd's control messages, which in a container are whatever is written there.
async fn read_control(stdout: impl AsyncRead + Unpin, shared: Arc<Shared>, listening: watch::Sender<bool>) {
    let mut reader = BufReader::new(stdout);
    let mut lines = BoundedLines::new(MAX_CONTROL_BYTES);
    while let Ok(chunk) = reader.fill_buf().await {
        if chunk.is_empty() {
            return;
        }
        lines.read(chunk, |line| {
            let line = String::from_utf8_lossy(line);
            if let Some(pid) = line.strip_prefix("pid ").and_then(|pid| pid.parse().ok()) {
                shared.pid.store(pid, Ordering::Relaxed);
            } else if line.contains("\"event\":\"listen\"") {
                listening.send_replace(true);
            }
        });
        let length = chunk.len();
        reader.consume(length);
    }
}

/// Watches a process to its end, then removes what is left of it.
async fn supervise(
    mut end: BoxFuture<'static, End>,
    shared: Arc<Shared>,
    gate: Option<Arc<Process>>,
    log_task: tokio::task::JoinHandle<()>,
    exit: watch::Sender<Option<Exit>>,
) {
    let mut interval = tokio::time::interval(WATCH_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let end = loop {
        tokio::select! {
            end = &mut end => break end,
            _ = interval.tick() => {
                shared.check().await;
                if gate.as_ref().is_some_and(|gate| !gate.is_running()) {
                    shared.kill(Exit::gone("lost its way out and was stopped"));
                }
            }
        }
    };
    if let End::Lost(_) = end {
        // Who supervised it could not end it.
        let folder = shared.folder.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || leftovers::end_processes(&folder)).await {
            tracing::warn!(%error, "a process without its supervisor could not be looked for");
        }
    }
    if let Some(gate) = gate {
        gate.stop("was stopped").await;
    }
    // The last lines say why it ended; a process that left its output to another one is not waited for.
    if timeout(Duration::from_millis(500), log_task).await.is_err() {
        tracing::debug!("the output of a process stayed open after its end");
    }
    if let Err(error) = files::remove_folder(&shared.folder) {
        tracing::warn!(%error, "the folder of a process could not be removed");
    }
    exit.send_replace(Some(shared.exit_of(end)));
}
