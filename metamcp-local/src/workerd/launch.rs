//! Starts a version of a server: its configuration, its secrets and its process.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Digest, EnvName, Result, ServerRef, VersionId, WorkerSettings};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::bundle::Bundle;
use super::config::{self, STATE_KEY, WayOut, WorkerConfig};
use super::files::storage_error;
use super::gate;
use super::interruption::Interruption;
use super::log::{Redactor, ServerLog};
use super::process::{Process, ProcessPlan};
use super::run_folder::NewFolder;
use super::sandbox::Sandbox;
use super::secrets::Secrets;
use super::silence::Silence;
use super::store::Store;
use crate::blocking::blocking;
use crate::config::LocalConfig;

/// What every process of a publisher is started with.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) workerd: PathBuf,
    pub(super) sandbox: Sandbox,
    /// Where processes have their folders; short, since a socket's path is.
    pub(super) run_folder: PathBuf,
    pub(super) config: LocalConfig,
    /// `Host` names every server answers to.
    pub(super) hosts: Vec<String>,
    pub(super) store: Store,
    /// One permit for each server that is looked at or started without being called.
    pub(super) starts: Arc<Semaphore>,
}

/// A version that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(super) version: VersionId,
    pub(super) settings: WorkerSettings,
    pub(crate) process: Arc<Process>,
    /// Names it in the URL of a preview, so that only whoever staged it can call it.
    pub(super) label: Uuid,
}

/// What is started.
pub(super) struct Launch<'a> {
    pub(super) server: &'a ServerRef,
    pub(super) version: &'a VersionId,
    pub(super) bundle: &'a Bundle,
    pub(super) secrets: &'a Secrets,
    pub(super) storage: Storage,
    pub(super) log: &'a Arc<ServerLog>,
    pub(super) interruption: Interruption,
}

/// Where a process keeps its Durable Objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    /// In its own folder; removed with it.
    Scratch,
    /// Where the server's real ones are; one process at a time.
    Durable,
}

impl Running {
    /// How long a call may take.
    pub(crate) fn timeout(&self, tool: impl FnOnce() -> Option<String>) -> Duration {
        let own = &self.settings.tool_timeouts_ms;
        let limit = if own.is_empty() { None } else { tool().and_then(|name| own.get(&name).copied()) };
        Duration::from_millis(limit.unwrap_or(self.settings.limits.timeout_ms))
    }

    /// The longest that a call of this version may take.
    pub(super) fn longest_timeout(&self) -> Duration {
        let own = self.settings.tool_timeouts_ms.values().copied();
        Duration::from_millis(own.chain([self.settings.limits.timeout_ms]).max().unwrap_or_default())
    }
}

impl Launcher {
    /// Works on the store, where it may wait for the disk.
    pub(super) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let launcher = Arc::clone(self);
        blocking(move || work(&launcher.store)).await
    }

    /// Starts a version and waits until it is healthy.
    pub(super) async fn launch(&self, launch: Launch<'_>) -> Result<Arc<Running>> {
        let settings = &launch.bundle.artifact.settings;
        let gate = match self.sandbox.outside() {
            Some(outside) => Some(Box::pin(gate::start(self, &outside, &launch)).await?),
            None => None,
        };
        let Launch { server, version, bundle, secrets, storage, log, interruption } = launch;
        let folder = self.new_folder(server).await?;
        let state = self.state_folder(server, settings, storage, folder.path()).await?;
        let declared: Vec<_> = secrets.declared(&settings.secrets).collect();
        let text = config::render(&WorkerConfig {
            settings,
            main_module: &bundle.artifact.main_module,
            modules: &bundle.sources(),
            secrets: &declared.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            hosts: &self.hosts,
            socket: &self.sandbox.socket(folder.path()),
            unique_key: &server.id.to_string(),
            storage: &state,
            way_out: match &gate {
                Some(gate) => WayOut::Through(gate::way_in(gate.socket())),
                None => WayOut::Direct(&self.config.outbound_overrides),
            },
            service_workers: &self.config.service_workers,
        })?;
        write_config(folder.path().join(Process::CONFIG), text).await?;
        let process = Process::start(ProcessPlan {
            workerd: &self.workerd,
            sandbox: &self.sandbox,
            gate,
            folder,
            readable: bundle.files().map(Path::to_owned).collect(),
            writable: settings.has_durable_state().then_some(state),
            environment: environment(&declared, secrets),
            redactor: redactor(&declared, secrets),
            memory_mb: settings.limits.memory_mb,
            silence: Silence::of(settings),
            version: version.clone(),
            log: Arc::clone(log),
            start_timeout: self.config.start_timeout,
            interruption,
        })
        .await?;
        Ok(Arc::new(Running { version: version.clone(), settings: settings.clone(), process, label: Uuid::new_v4() }))
    }

    pub(super) async fn new_folder(&self, server: &ServerRef) -> Result<NewFolder> {
        let unique = Digest::of_parts([server.id.0.as_bytes().as_slice(), Uuid::new_v4().as_bytes().as_slice()]);
        let path = self.run_folder.join(unique.short(12));
        blocking(move || NewFolder::make(path)).await
    }

    async fn state_folder(
        &self,
        server: &ServerRef,
        settings: &WorkerSettings,
        storage: Storage,
        folder: &Path,
    ) -> Result<PathBuf> {
        let state = match storage {
            Storage::Scratch => folder.join("state"),
            Storage::Durable => self.store.state_folder(server.id),
        };
        if settings.has_durable_state() {
            let folder = state.clone();
            blocking(move || crate::owner::make_private_folder(&folder)).await?;
        }
        Ok(state)
    }
}

type Declared<'a> = (&'a EnvName, &'a SecretString);

fn environment(declared: &[Declared<'_>], secrets: &Secrets) -> Vec<(String, SecretString)> {
    let values = declared.iter().map(|(name, value)| (config::secret_variable(name.as_str()), (*value).clone()));
    values.chain([(STATE_KEY.to_owned(), secrets.state_key().clone())]).collect()
}

fn redactor(declared: &[Declared<'_>], secrets: &Secrets) -> Redactor {
    Redactor::new(
        declared.iter().map(|(name, value)| (name.as_str(), *value)).chain([(STATE_KEY, secrets.state_key())]),
    )
}

pub(super) async fn write_config(path: PathBuf, text: String) -> Result<()> {
    blocking(move || {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| storage_error("write", &path, error))
    })
    .await
}
