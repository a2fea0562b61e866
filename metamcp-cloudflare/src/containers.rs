//! [`ContainerBuilder`]: servers with npm packages, and environments for commands, in Cloudflare's containers.
//!
//! Only a Worker can start a container, so the account has one: the Container Manager, whose HTTPS face this calls. What
//! takes long is a job under an id of ours: an answer that is lost is asked for again, and the work goes on meanwhile.

mod application;
mod config;
mod deploy;
mod environment;
mod job;
mod project;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::bundle::{BundleBuilder, add_packages, package_imports, package_modules};
use metamcp_core::{
    Artifact, Builder, Environment, Error, ErrorKind, Result, ServerName, SourceTree, TemplateKind, WorkerSettings,
    generate_empty,
};
use serde::Deserialize;
use serde_json::json;

pub use self::config::ContainerManagerConfig;
pub(crate) use self::deploy::NAME;
pub use self::deploy::{ContainerManagerPlan, ContainerManagerSetup, deploy_container_manager};
use self::environment::{ContainerEnvironment, Installed, path_of};
use self::job::{Abandoned, Job, Patience};
use crate::client::ManagerClient;

/// Builds servers with npm dependencies and lends environments, by the account's Container Manager.
///
/// What has no npm packages in it is built on this machine. The same tree gives what `DockerBuilder` of the local target
/// makes of it.
#[derive(Debug)]
pub struct ContainerBuilder {
    shared: Arc<Shared>,
    bundle: Arc<BundleBuilder>,
    /// Of the Container Manager and its image.
    version: String,
}

/// What environments share with their builder.
#[derive(Debug)]
struct Shared {
    client: ManagerClient,
    /// Environments that were made here.
    environments: Mutex<BTreeSet<String>>,
    is_closed: AtomicBool,
}

#[derive(Deserialize)]
struct Health {
    version: String,
}

/// A build's artifact, in the Container Manager's words.
#[derive(Deserialize)]
struct Bundle {
    modules: BTreeMap<String, String>,
}

impl ContainerBuilder {
    /// Asks the Container Manager whether it is there and takes the key.
    ///
    /// [`ErrorKind::Unauthenticated`] for another key, [`ErrorKind::ConfigInvalid`] where something else answers,
    /// [`ErrorKind::Unavailable`] where nothing does.
    pub async fn open(config: ContainerManagerConfig, bundle: Arc<BundleBuilder>) -> Result<Self> {
        let client = ManagerClient::new(config)?;
        let health: Health =
            client.get("health").await.map_err(|error| error.with_operation("open the Container Manager"))?;
        let shared = Shared { client, environments: Mutex::default(), is_closed: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), bundle, version: health.version })
    }

    /// Starts a container that the next environment or build takes, unless there is one already or none is free. It waits
    /// until that has started, which takes some seconds.
    pub async fn warm_up(&self) -> Result<()> {
        self.shared.check_open()?;
        let job = Job::start(&self.shared.client, "warming up", &json!({ "kind": "warm_up" }), self.patience()).await?;
        job.ended().await.map(drop)
    }

    fn patience(&self) -> Patience {
        let config = self.shared.client.config();
        Patience { queue: config.queue_timeout(), work: config.build_timeout() }
    }

    async fn packages(&self, dependencies: &BTreeMap<String, String>, imports: &BTreeSet<String>) -> Result<Bundle> {
        let input = json!({ "kind": "build", "dependencies": dependencies, "imports": imports });
        let what = "building a server with npm packages";
        let job = Job::start(&self.shared.client, what, &input, self.patience()).await?;
        let id = job.id().to_owned();
        job.ended().await?;
        Job::artifact(&self.shared.client, &id).await
    }
}

#[async_trait]
impl Builder for ContainerBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        self.shared.check_open()?;
        let mut artifact = self.bundle.own_modules(source, settings).await?;
        if settings.dependencies.is_empty() {
            return Ok(artifact);
        }
        let imports = package_imports(source, &settings.dependencies);
        let bundle = self.packages(&settings.dependencies, &imports).await?;
        let modules = bundle.modules.into_iter().map(|(path, text)| (path, Bytes::from(text))).collect();
        add_packages(&mut artifact, package_modules(modules, &imports)?)?;
        Ok(artifact)
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("containers-{}", self.version))
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        self.shared.check_open()?;
        let project = generate_empty(server, template)?;
        let what = format!("an environment for server {server}");
        let job = Job::start(&self.shared.client, &what, &json!({ "kind": "environment" }), self.patience()).await?;
        let id = job.id().to_owned();
        // Cancelling its job does not end one that is there.
        let mut unfinished = Abandoned::new(&self.shared.client, path_of(&id));
        let environment = ContainerEnvironment::new(Arc::clone(&self.shared), id.clone());
        let made = async {
            job.ended().await?;
            environment.fill(&project).await?;
            self.shared.remember(&id)
        };
        if let Err(error) = made.await {
            unfinished.remove().await;
            return Err(error);
        }
        unfinished.forget();
        Ok(Arc::new(environment))
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        self.shared.client.get::<Installed>(&path_of(container_id)).await?;
        Ok(Arc::new(ContainerEnvironment::new(Arc::clone(&self.shared), container_id.to_owned())))
    }

    async fn close(&self) -> Result<()> {
        self.shared.is_closed.store(true, Ordering::Release);
        let made = self.shared.environments.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut outcome = Ok(());
        for id in made {
            let removed = self.shared.client.delete(&path_of(&id)).await;
            if removed.is_ok() {
                self.shared.forget(&id);
            }
            outcome = outcome.and(removed);
        }
        outcome
    }
}

impl Shared {
    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the builder is closed").with_retryable(false));
        }
        Ok(())
    }

    fn remember(&self, id: &str) -> Result<()> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        self.check_open()
    }

    fn forget(&self, id: &str) {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
