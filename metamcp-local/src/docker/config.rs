//! [`DockerConfig`]: what containers are made of, and what they may use.

use std::collections::BTreeSet;
use std::time::Duration;

/// Configuration of the Docker builder.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DockerConfig {
    /// The engine, such as `unix:///run/user/1000/docker.sock`; `None` for that of `DOCKER_HOST`, or the system's own.
    pub host: Option<String>,
    /// Image with Node 22 and npm that the builder's own images are made from. workerd, which wrangler and
    /// [`Isolation::Docker`](crate::Isolation::Docker) start in it, needs glibc 2.35 or later: Alpine has none.
    pub base_image: String,
    /// What one container may use.
    pub limits: ContainerLimits,
    /// How many containers may be in use at once (default 3); whoever comes later waits in order.
    pub max_in_use: usize,
    /// How many more are kept ready for the next environment; default 1.
    pub warm: usize,
    /// How long to wait for one of them; default 10 minutes.
    pub queue_timeout: Duration,
    /// How long installing and bundling may take; default 5 minutes.
    pub build_timeout: Duration,
    /// How long bundled packages and images stay that nobody uses; default 30 days. Lock files stay, so that a rebuild
    /// gives the same bytes.
    pub keep_unused: Duration,
    /// Packages that may run their install scripts.
    pub install_scripts: BTreeSet<String>,
    /// The packages that may be installed as dependencies of a server; `None` for any.
    pub allowed_packages: Option<BTreeSet<String>>,
    /// How npm reaches its registry.
    pub npm_access: NpmAccess,
}

/// What one container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerLimits {
    /// Memory in MiB, the workspace included; default 2,048.
    pub memory_mb: u64,
    /// Processors, in thousandths; default 2,000.
    pub milli_cpus: u64,
    /// Processes and threads; default 256.
    pub pids: u64,
    /// Size of the workspace in MiB; default 1,024. It is held in memory.
    pub workspace_mb: u64,
}

impl ContainerLimits {
    /// The profile of Cloudflare's `standard-4` containers: 4 processors and 12 GiB.
    pub const STANDARD_4: Self = Self { memory_mb: 12 * 1024, milli_cpus: 4_000, pids: 1024, workspace_mb: 8 * 1024 };
}

impl Default for ContainerLimits {
    fn default() -> Self {
        Self { memory_mb: 2048, milli_cpus: 2_000, pids: 256, workspace_mb: 1024 }
    }
}

/// How npm reaches its registry from a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NpmAccess {
    /// Through a proxy of ours that leads to the registry only; the container has no network.
    #[default]
    Proxy,
    /// Through the engine's default network, with everything else that is reachable from there. Only for engines
    /// that cannot mount Unix sockets, such as those in a virtual machine.
    Network,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            host: None,
            base_image: "node:22-bookworm-slim".to_owned(),
            limits: ContainerLimits::default(),
            max_in_use: 3,
            warm: 1,
            queue_timeout: Duration::from_secs(600),
            build_timeout: Duration::from_secs(300),
            keep_unused: Duration::from_secs(30 * 24 * 3600),
            install_scripts: BTreeSet::new(),
            allowed_packages: None,
            npm_access: NpmAccess::Proxy,
        }
    }
}

impl DockerConfig {
    /// Sets the engine.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the image that the builder's own images are made from.
    #[must_use]
    pub fn with_base_image(mut self, image: impl Into<String>) -> Self {
        self.base_image = image.into();
        self
    }

    /// Sets what one container may use.
    #[must_use]
    pub fn with_limits(mut self, limits: ContainerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many containers are in use at once, at least one.
    #[must_use]
    pub fn with_max_in_use(mut self, containers: usize) -> Self {
        self.max_in_use = containers;
        self
    }

    /// Sets how many containers are kept ready for the next environment.
    #[must_use]
    pub fn with_warm(mut self, containers: usize) -> Self {
        self.warm = containers;
        self
    }

    /// Sets how long to wait for a container while all are in use.
    #[must_use]
    pub fn with_queue_timeout(mut self, limit: Duration) -> Self {
        self.queue_timeout = limit;
        self
    }

    /// Sets how long installing and bundling may take.
    #[must_use]
    pub fn with_build_timeout(mut self, limit: Duration) -> Self {
        self.build_timeout = limit;
        self
    }

    /// Sets how long bundled packages and images stay that nobody uses.
    #[must_use]
    pub fn with_keep_unused(mut self, age: Duration) -> Self {
        self.keep_unused = age;
        self
    }

    /// Lets a package run its install scripts, in the container.
    #[must_use]
    pub fn with_install_scripts_of(mut self, package: impl Into<String>) -> Self {
        self.install_scripts.insert(package.into());
        self
    }

    /// Lets servers depend on these packages only. What those depend on themselves is not looked at.
    #[must_use]
    pub fn with_allowed_packages<I: Into<String>>(mut self, packages: impl IntoIterator<Item = I>) -> Self {
        self.allowed_packages = Some(packages.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how npm reaches its registry.
    #[must_use]
    pub fn with_npm_access(mut self, access: NpmAccess) -> Self {
        self.npm_access = access;
        self
    }
}
