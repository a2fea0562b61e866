//! [`DockerBuilder`]: servers with npm packages, and environments for commands, in isolated containers.
//!
//! A container has no network, no capabilities, a read-only root, no user but its own, and limits on memory,
//! processors and processes. npm reaches its registry, and nothing else, through a proxy of ours.
//!
//! *Invariant:* only this folder talks to bollard.

mod archive;
mod build;
mod config;
mod container;
mod engine;
mod environment;
mod exec;
mod files;
mod image;
mod kill;
mod npm;
mod packages;
mod proxy;
mod reap;
mod roster;
mod server;
mod slots;

pub use config::{ContainerLimits, DockerConfig, NpmAccess};
pub(crate) use server::{ServerContainers, ServerPlan};

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use metamcp_core::bundle::{BundleBuilder, add_packages, package_imports};
use metamcp_core::{
    Artifact, Builder, Digest, Environment, Error, ErrorKind, Result, ServerName, SourceTree, TemplateKind,
    WorkerSettings, generate_empty,
};

use self::container::{Container, ContainerPlan, NpmCache};
use self::engine::Engine;
use self::environment::DockerEnvironment;
use self::image::{ImageKind, Images};
use self::npm::NpmRegistry;
use self::packages::PackageSet;
use self::proxy::RegistryProxy;
use self::roster::Sweeper;
use self::slots::Slots;
use crate::owner::make_private_folder;

/// The label of our images.
const LABEL_IMAGE: &str = "dev.metamcp.image";

/// Builds servers with npm dependencies and lends environments, in Docker containers.
///
/// Bodies import packages by `await import("name")`. What they import is bundled into modules beside theirs, so
/// that bodies stay as they were written and errors name their lines.
#[derive(Debug)]
pub struct DockerBuilder {
    inner: Arc<Inner>,
    /// What has no npm packages in it is made as ever.
    bundle: Arc<BundleBuilder>,
}

/// What environments share with their builder.
#[derive(Debug)]
struct Inner {
    config: DockerConfig,
    folder: PathBuf,
    engine: Engine,
    images: Images,
    registry: NpmRegistry,
    proxy: Mutex<Option<RegistryProxy>>,
    slots: Slots,
    environments: Mutex<HashMap<String, Arc<DockerEnvironment>>>,
    /// Containers that wait for the next environment.
    warm: Mutex<Vec<Container>>,
    /// Held while warm containers are started, so that closing waits for the last one.
    refilling: tokio::sync::Mutex<()>,
    is_closed: AtomicBool,
    _sweeper: Sweeper,
    _lock: File,
}

impl DockerBuilder {
    /// Connects to the engine (`DOCKER_HOST`, or the system's own) and removes what dead programs left there.
    ///
    /// `folder` holds lock files and bundled packages, and has one owner at a time: [`ErrorKind::Conflict`] if
    /// another program has it. [`ErrorKind::ConfigInvalid`] says what is missing if there is no engine.
    pub async fn open(folder: &Path, config: DockerConfig, bundle: Arc<BundleBuilder>) -> Result<Self> {
        let engine = Engine::connect(config.host.as_deref()).await?;
        let registry = NpmRegistry::of_this_user().await?;
        make_private_folder(folder)?;
        let folder = folder.canonicalize().map_err(|error| crate::workerd::storage_error("open", folder, error))?;
        let lock = reap::own(&folder)?;
        reap::reap(&engine, &folder).await?;
        let proxy = match config.npm_access {
            NpmAccess::Proxy => Some(RegistryProxy::start(&folder, &registry).await?),
            NpmAccess::Network => None,
        };
        let sweeper = Sweeper::start(&engine, folder.clone());
        let inner = Inner {
            images: Images::new(config.base_image.clone(), registry.url.to_string(), &folder)?,
            slots: Slots::new(config.max_in_use, config.queue_timeout),
            config,
            folder,
            engine,
            registry,
            proxy: Mutex::new(proxy),
            environments: Mutex::default(),
            warm: Mutex::default(),
            refilling: tokio::sync::Mutex::default(),
            is_closed: AtomicBool::new(false),
            _sweeper: sweeper,
            _lock: lock,
        };
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            if let Some(inner) = weak.upgrade() {
                inner.remove_unused().await;
            }
        });
        Ok(Self { inner, bundle })
    }

    /// How many builds and environments wait for a container at this moment.
    pub fn waiting(&self) -> usize {
        self.inner.slots.waiting()
    }

    /// Builds the images where they are missing and starts the warm containers: what the first environment would
    /// otherwise wait for.
    pub async fn warm_up(&self) -> Result<()> {
        self.inner.images.ensure(&self.inner.engine, ImageKind::Build).await?;
        self.inner.refill().await
    }
}

#[async_trait]
impl Builder for DockerBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        self.inner.check_open()?;
        let mut artifact = self.bundle.own_modules(source, settings).await?;
        if settings.dependencies.is_empty() {
            return Ok(artifact);
        }
        let imports = package_imports(source, &settings.dependencies);
        let set = PackageSet { dependencies: &settings.dependencies, imports: &imports };
        add_packages(&mut artifact, build::modules(&self.inner, &set).await?)?;
        Ok(artifact)
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("docker-{}", self.inner.fingerprint().short(16)))
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        self.inner.check_open()?;
        let project = generate_empty(server, template)?;
        let slot = self.inner.slots.take(&format!("an environment for server {server}")).await?;
        let container = self.inner.environment_container().await?;
        let environment = Arc::new(DockerEnvironment::new(container, Arc::downgrade(&self.inner), slot));
        environment.fill(&project).await?;
        self.inner.remember(&environment)?;
        Arc::clone(&self.inner).refill_later();
        Ok(environment)
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        let found = self.inner.environments.lock().unwrap_or_else(PoisonError::into_inner).get(container_id).cloned();
        match found {
            Some(environment) => Ok(environment),
            None => Err(Error::new(ErrorKind::NotFound, format!("environment {container_id:?} does not exist"))),
        }
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl Inner {
    /// Identifies what may change the outcome of a build.
    fn fingerprint(&self) -> Digest {
        let images = self.images.fingerprint().to_string();
        let scripts = self.config.install_scripts.iter().map(String::as_bytes);
        Digest::of_parts([images.as_bytes()].into_iter().chain(scripts))
    }

    /// Removes what nobody used for long. That it fails costs room, nothing else.
    async fn remove_unused(&self) {
        let age = self.config.keep_unused;
        if let Err(error) = packages::remove_unused(&self.folder, age) {
            tracing::warn!(%error, "bundled packages that nobody uses could not be removed");
        }
        if let Err(error) = self.images.remove_unused(&self.engine, age).await {
            tracing::warn!(%error, "images that nobody uses could not be removed");
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the builder is closed").with_retryable(false));
        }
        Ok(())
    }

    async fn start_container(&self, kind: ImageKind, cache: NpmCache) -> Result<Container> {
        let image = self.images.ensure(&self.engine, kind).await?;
        let (mount, has_certificates) = match &*self.proxy.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(proxy) => (proxy.mount().display().to_string(), proxy.has_certificates()),
            None => (String::new(), false),
        };
        let plan = ContainerPlan {
            image,
            labels: reap::labels(&self.folder),
            limits: self.config.limits,
            access: self.config.npm_access,
            mount,
            has_certificates,
            registry: self.registry.url.to_string(),
            cache,
        };
        Container::start(&self.engine, plan).await
    }

    /// A container for an environment: one that is ready and still runs, or a new one.
    async fn environment_container(&self) -> Result<Container> {
        loop {
            let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(container) = warm else { break };
            if container.is_running().await? {
                return Ok(container);
            }
            container.remove().await?;
        }
        self.start_container(ImageKind::Production, NpmCache::Own).await
    }

    /// Starts warm containers until there are as many as configured.
    async fn refill(&self) -> Result<()> {
        let _refilling = self.refilling.lock().await;
        while !self.is_closed.load(Ordering::Acquire) && self.count_warm() < self.config.warm {
            let container = self.start_container(ImageKind::Production, NpmCache::Own).await?;
            self.warm.lock().unwrap_or_else(PoisonError::into_inner).push(container);
        }
        Ok(())
    }

    fn refill_later(self: Arc<Self>) {
        tokio::spawn(async move {
            if let Err(error) = self.refill().await {
                tracing::warn!(%error, "no container could be kept ready");
            }
        });
    }

    fn count_warm(&self) -> usize {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn remember(&self, environment: &Arc<DockerEnvironment>) -> Result<()> {
        let id = environment.container().id().to_owned();
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(environment));
        self.check_open()
    }

    fn forget(&self, id: &str) {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        self.slots.close();
        let _refilling = self.refilling.lock().await;
        let environments = std::mem::take(&mut *self.environments.lock().unwrap_or_else(PoisonError::into_inner));
        let warm = std::mem::take(&mut *self.warm.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcome = Ok(());
        for environment in environments.values() {
            outcome = outcome.and(environment.destroy().await);
        }
        for container in warm {
            outcome = outcome.and(container.remove().await);
        }
        drop(self.proxy.lock().unwrap_or_else(PoisonError::into_inner).take());
        outcome.and(reap::remove_lost(&self.engine, &self.folder).await.map(drop))
    }
}
