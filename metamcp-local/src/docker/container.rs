//! One isolated container.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits};
use bollard::query_parameters::{CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions};
use metamcp_core::{Error, ErrorKind, Result};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::config::{ContainerLimits, NpmAccess};
use super::engine::Engine;

/// User of everything that runs in a container but its first process.
pub(super) const USER: &str = "1000:1000";
const USER_ID: u32 = 1000;
/// User of the first process, so that a command cannot end it.
const INIT_USER: &str = "1001:1001";
/// The workspace folder.
pub(super) const WORKSPACE: &str = "/app";
/// npm's cache, shared by builds: foreign code never runs where it is mounted.
const CACHE_VOLUME: &str = "metamcp-npm-cache";

/// How long a removal may take that somebody else began, and how often it is looked at.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a container is made of.
#[derive(Debug)]
pub(super) struct ContainerPlan {
    pub(super) image: String,
    pub(super) labels: HashMap<String, String>,
    pub(super) limits: ContainerLimits,
    pub(super) access: NpmAccess,
    /// Folder with the proxy's socket.
    pub(super) mount: String,
    pub(super) has_certificates: bool,
    pub(super) registry: String,
    pub(super) cache: NpmCache,
}

/// Whether npm's cache volume is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NpmCache {
    /// It is.
    Shared,
    /// npm caches in the container's own memory.
    Own,
}

/// A running container. Dropping it removes it, if a runtime is there; the next start's reaper does otherwise.
#[derive(Debug)]
pub(super) struct Container {
    engine: Engine,
    name: String,
    id: String,
    pids: i64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Present,
    Removed,
}

impl Container {
    /// Makes and starts one. If this future is dropped, nothing stays.
    pub(super) async fn start(engine: &Engine, plan: ContainerPlan) -> Result<Self> {
        let container = Self::make(engine, plan.body()).await?;
        container.run().await?;
        Ok(container)
    }

    /// Makes one, which does not run yet. If this future is dropped, nothing stays.
    pub(super) async fn make(engine: &Engine, body: ContainerCreateBody) -> Result<Self> {
        let name = format!("metamcp-{}", &Uuid::new_v4().simple().to_string()[..12]);
        engine.roster().enter(&name);
        // From here on the guard removes what there may be.
        let mut container = Self {
            engine: engine.clone(),
            name: name.clone(),
            id: String::new(),
            pids: body.host_config.as_ref().and_then(|config| config.pids_limit).unwrap_or(i64::MAX),
            state: Mutex::new(State::Present),
        };
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let created = engine.docker().create_container(Some(options), body);
        container.id = engine.call("make a container", created).await?.id;
        Ok(container)
    }

    /// Starts it.
    pub(super) async fn run(&self) -> Result<()> {
        self.engine.call("start a container", self.engine.docker().start_container(&self.name, None)).await
    }

    /// The engine's id for it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How many processes it may have.
    pub(super) fn pids(&self) -> i64 {
        self.pids
    }

    /// The name it was made with.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The engine it is on.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether its first process runs.
    pub(super) async fn is_running(&self) -> Result<bool> {
        let inspect = self.engine.docker().inspect_container(&self.name, None::<InspectContainerOptions>);
        match self.engine.call("look at a container", inspect).await {
            Ok(found) => Ok(found.state.and_then(|state| state.running).unwrap_or(false)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends everything in it and removes it with what it stored. Idempotent.
    pub(super) async fn remove(&self) -> Result<()> {
        if *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Removed {
            return Ok(());
        }
        remove(&self.engine, &self.name).await?;
        self.engine.roster().leave(&self.name);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Removed;
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let present = *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Present;
        if present && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (engine, name) = (self.engine.clone(), std::mem::take(&mut self.name));
            // Whether there is one is not known: the engine's answer did not come.
            let is_doubtful = self.id.is_empty();
            engine.roster().leave(&name);
            runtime.spawn(async move {
                let outcome = remove(&engine, &name).await;
                if is_doubtful || outcome.is_err() {
                    tracing::warn!(?outcome, name, "a container may be left for a while");
                    engine.roster().suspect();
                }
            });
        }
    }
}

/// Removes a container by name or id, and waits until it is gone; one that is absent is fine.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<()> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match engine.call("remove a container", engine.docker().remove_container(name, Some(options))).await {
        Err(error) if error.kind() == ErrorKind::Conflict => gone(engine, name).await,
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits for a removal that somebody else began.
async fn gone(engine: &Engine, name: &str) -> Result<()> {
    let inspect = || engine.docker().inspect_container(name, None::<InspectContainerOptions>);
    let waiting = async {
        loop {
            match engine.call("look at a container", inspect()).await {
                Ok(_) => sleep(LOOK_INTERVAL).await,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    let late = || Error::new(ErrorKind::TimedOut, format!("container {name} is being removed for too long"));
    timeout(REMOVAL_LIMIT, waiting).await.unwrap_or_else(|_| Err(late()))
}

impl ContainerPlan {
    fn body(self) -> ContainerCreateBody {
        let environment = self.environment();
        let ContainerPlan { image, labels, limits, access, mount, cache, .. } = self;
        let mut mounts = Vec::new();
        if access == NpmAccess::Proxy {
            mounts.push(bind(mount, "/run/metamcp"));
        }
        if cache == NpmCache::Shared {
            mounts.push(volume(CACHE_VOLUME, "/cache"));
        }
        let host_config = HostConfig {
            network_mode: Some(if access == NpmAccess::Network { "bridge" } else { "none" }.to_owned()),
            tmpfs: Some(HashMap::from([
                (WORKSPACE.to_owned(), tmpfs(limits.workspace_mb, USER_ID)),
                ("/tmp".to_owned(), tmpfs(limits.workspace_mb / 4, USER_ID)),
            ])),
            mounts: Some(mounts),
            ..locked_down(limits)
        };
        ContainerCreateBody {
            image: Some(image),
            labels: Some(labels),
            user: Some(INIT_USER.to_owned()),
            working_dir: Some(WORKSPACE.to_owned()),
            // Its first process ignores others, which an engine that is stopped would wait for.
            stop_signal: Some("SIGKILL".to_owned()),
            env: Some(environment),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        }
    }

    /// What every process in it sees beside the image's own variables: nothing of the host's.
    fn environment(&self) -> Vec<String> {
        let cache = if self.cache == NpmCache::Shared { "/cache" } else { "/tmp/npm" };
        let mut variables = vec![
            "HOME=/tmp".to_owned(),
            "CI=true".to_owned(),
            format!("npm_config_registry={}", self.registry),
            format!("npm_config_cache={cache}"),
            "npm_config_ignore_scripts=true".to_owned(),
            "npm_config_omit_lockfile_registry_resolved=true".to_owned(),
        ];
        if self.access == NpmAccess::Proxy {
            variables.push("npm_config_https_proxy=http://127.0.0.1:4873".to_owned());
            if self.has_certificates {
                variables.push("npm_config_cafile=/run/metamcp/ca.pem".to_owned());
            }
        }
        variables
    }
}

/// What every container is held to: no network, no capabilities, a root that is only read, and its limits.
pub(super) fn locked_down(limits: ContainerLimits) -> HostConfig {
    let memory = i64::try_from(limits.memory_mb << 20).unwrap_or(i64::MAX);
    HostConfig {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(i64::try_from(limits.milli_cpus * 1_000_000).unwrap_or(i64::MAX)),
        pids_limit: Some(i64::try_from(limits.pids).unwrap_or(i64::MAX)),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("none".to_owned()),
        ulimits: Some(vec![ulimit("core", 0)]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

/// Options of a file system in memory that belongs to a user.
pub(super) fn tmpfs(mb: u64, user: u32) -> String {
    format!("rw,exec,nosuid,nodev,size={mb}m,mode=0700,uid={user},gid={user}")
}

/// A file or folder of the machine.
pub(super) fn bind(source: String, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}

fn volume(name: &str, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        ..Mount::default()
    }
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}
