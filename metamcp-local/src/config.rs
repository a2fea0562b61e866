//! [`LocalConfig`]: where data lives, where the gateway listens and how servers are isolated.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Module, ModuleKind, Result};

#[cfg(feature = "docker")]
use crate::docker::DockerConfig;

/// Configuration of the local target.
///
/// ```
/// use std::time::Duration;
///
/// use metamcp_local::{Isolation, LocalConfig};
///
/// let config = LocalConfig::new("/var/lib/metamcp")
///     .with_listen("127.0.0.1:8700".parse()?)
///     .with_isolation(Isolation::Bubblewrap)
///     .with_idle_timeout(Duration::from_secs(60));
/// # assert_eq!(config.listen.port(), 8700);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalConfig {
    /// Folder for all data; created with mode 0700. It has one owner at a time: until everything that was made by
    /// [`open`](crate::open) is dropped, opening it again is a [`ErrorKind::Conflict`].
    pub data_dir: PathBuf,
    /// Address of the gateway. Port 0 means a port that is chosen once and then kept in the data directory.
    pub listen: SocketAddr,
    /// `Host` names, without port, that the gateway accepts besides the loopback ones.
    pub allowed_hosts: Vec<String>,
    /// How long a server may get no request before its process is stopped; default 5 minutes.
    pub idle_timeout: Duration,
    /// How long a server may take from its start to its first healthy answer; default 15 seconds.
    pub start_timeout: Duration,
    /// What stands between a server's process and the machine.
    pub isolation: Isolation,
    /// External hosts whose requests go to another address instead, in plain HTTP.
    pub outbound_overrides: BTreeMap<String, SocketAddr>,
    /// Workers behind `service` and `images` bindings, by the bindings' target.
    pub service_workers: BTreeMap<String, ServiceWorker>,
    /// Where the pinned JavaScript toolchain is kept; `None` for `metamcp` in the user's cache folder.
    pub toolchain_dir: Option<PathBuf>,
    /// How servers with npm dependencies are built and environments are created.
    #[cfg(feature = "docker")]
    pub docker: DockerConfig,
}

/// What stands between a server's process and the machine, beside workerd itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// [`Isolation::Bubblewrap`] where it works, else [`Isolation::Process`].
    #[default]
    Auto,
    /// A process with a cleared environment and resource limits, as the same user.
    Process,
    /// Like [`Isolation::Process`], in namespaces of its own without the user's files.
    Bubblewrap,
    /// A container without network on a Docker engine of this Linux machine; requests leave through a gate outside of the
    /// container. [`LocalConfig::docker`] sets its image and limits, the server's definition its memory.
    Docker,
}

/// A Worker that runs beside a server, in the same process, behind one of its bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceWorker {
    /// Name of the module with the default export.
    pub main_module: String,
    /// Modules by name.
    pub modules: BTreeMap<String, Module>,
}

impl ServiceWorker {
    /// A Worker of one ES module. Methods of a default-exported `WorkerEntrypoint` are callable by RPC.
    pub fn from_source(source: impl Into<String>) -> Self {
        let module = Module { kind: ModuleKind::EsModule, content: source.into().into() };
        Self { main_module: "index.js".to_owned(), modules: BTreeMap::from([("index.js".to_owned(), module)]) }
    }
}

impl LocalConfig {
    /// The default configuration with this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allowed_hosts: Vec::new(),
            idle_timeout: Duration::from_secs(300),
            start_timeout: Duration::from_secs(15),
            isolation: Isolation::Auto,
            outbound_overrides: BTreeMap::new(),
            service_workers: BTreeMap::new(),
            toolchain_dir: None,
            #[cfg(feature = "docker")]
            docker: DockerConfig::default(),
        }
    }

    /// Reads the configuration from the environment. Every variable is optional: `METAMCP_DATA_DIR` (default: `metamcp` in
    /// the user's data folder, such as `~/.local/share`), `METAMCP_LISTEN` (address and port), `METAMCP_ALLOWED_HOSTS` (names
    /// for [`LocalConfig::with_allowed_host`], with commas between them), `METAMCP_IDLE_SECONDS`, `METAMCP_ISOLATION` (`auto`,
    /// `process`, `bubblewrap`, `docker`), `METAMCP_TOOLCHAIN_DIR` and `METAMCP_DOCKER_BASE_IMAGE` (an image with Node 22 and
    /// npm).
    ///
    /// [`ErrorKind::ConfigInvalid`] names a variable that cannot be read.
    pub fn from_env() -> Result<Self> {
        let mut config = Self::new(data_dir_from_env()?);
        if let Some(text) = variable("METAMCP_LISTEN")? {
            config.listen = text
                .parse()
                .map_err(|_| invalid("METAMCP_LISTEN", &text, "an address and port like 127.0.0.1:8700"))?;
        }
        if let Some(text) = variable("METAMCP_ALLOWED_HOSTS")? {
            let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
            config = hosts.fold(config, Self::with_allowed_host);
        }
        if let Some(text) = variable("METAMCP_IDLE_SECONDS")? {
            let seconds = text.parse().map_err(|_| invalid("METAMCP_IDLE_SECONDS", &text, "a number of seconds"))?;
            config.idle_timeout = Duration::from_secs(seconds);
        }
        if let Some(text) = variable("METAMCP_ISOLATION")? {
            config.isolation = parse_isolation(&text)?;
        }
        config.toolchain_dir = env::var_os("METAMCP_TOOLCHAIN_DIR").map(PathBuf::from);
        #[cfg(feature = "docker")]
        if let Some(image) = variable("METAMCP_DOCKER_BASE_IMAGE")? {
            config.docker.base_image = image;
        }
        Ok(config)
    }

    /// Sets where the gateway listens. URLs name this address, or loopback for one that stands for all addresses
    /// (`0.0.0.0`, `::`): clients on other machines need a name that [`LocalConfig::with_allowed_host`] adds.
    #[must_use]
    pub fn with_listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Adds a `Host` name that the gateway accepts.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Sets how long a server may be idle before it sleeps.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how long a server may take to start.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets the isolation.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sends requests for an external host to `address` instead, both `http` and `https` in plain HTTP; for tests and
    /// proxies. A server's `egress` list still applies to the host.
    #[must_use]
    pub fn with_outbound_override(mut self, host: impl Into<String>, address: SocketAddr) -> Self {
        self.outbound_overrides.insert(host.into().to_ascii_lowercase(), address);
        self
    }

    /// Puts a Worker behind the `service` and `images` bindings whose target has this name.
    #[must_use]
    pub fn with_service_worker(mut self, target: impl Into<String>, worker: ServiceWorker) -> Self {
        self.service_workers.insert(target.into(), worker);
        self
    }

    /// Sets how servers with npm dependencies are built.
    #[cfg(feature = "docker")]
    #[must_use]
    pub fn with_docker(mut self, docker: DockerConfig) -> Self {
        self.docker = docker;
        self
    }

    /// Sets where the JavaScript toolchain is kept.
    #[must_use]
    pub fn with_toolchain_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.toolchain_dir = Some(folder.into());
        self
    }
}

impl LocalConfig {
    /// Where the JavaScript toolchain is kept: as configured, or below the user's cache folder.
    pub fn toolchain_folder(&self) -> Result<PathBuf> {
        match &self.toolchain_dir {
            Some(folder) => Ok(folder.clone()),
            None => Toolchain::default_folder().map_err(|error| error.with_help("set METAMCP_TOOLCHAIN_DIR")),
        }
    }
}

fn parse_isolation(text: &str) -> Result<Isolation> {
    match text {
        "auto" => Ok(Isolation::Auto),
        "process" => Ok(Isolation::Process),
        "bubblewrap" => Ok(Isolation::Bubblewrap),
        "docker" => Ok(Isolation::Docker),
        _ => Err(invalid("METAMCP_ISOLATION", text, "auto, process, bubblewrap or docker")),
    }
}

fn data_dir_from_env() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("METAMCP_DATA_DIR") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(folder.join("metamcp"));
    }
    let below_home =
        if cfg!(target_os = "macos") { "Library/Application Support/metamcp" } else { ".local/share/metamcp" };
    env::home_dir().map(|home| home.join(below_home)).ok_or_else(|| {
        Error::new(ErrorKind::ConfigInvalid, "there is no home directory to keep data in")
            .with_help("set METAMCP_DATA_DIR")
    })
}

fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::ConfigInvalid, format!("environment variable {name} is not UTF-8")))
        }
    }
}

fn invalid(name: &str, text: &str, right: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("environment variable {name} is {text:?}"))
        .with_help(format!("give {right}"))
}
