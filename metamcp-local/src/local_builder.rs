//! [`LocalBuilder`]: the bundle builder for servers without npm dependencies, Docker for those with.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::bundle::BundleBuilder;
use metamcp_core::{Artifact, Builder, Environment, Result, ServerName, SourceTree, TemplateKind, WorkerSettings};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::blocking::blocking;
use crate::docker::{DockerBuilder, DockerConfig};

/// Chooses how a server is built. Docker is looked for when something needs it: an error then says what to install.
#[derive(Debug)]
pub struct LocalBuilder {
    bundle: Arc<BundleBuilder>,
    docker: Arc<LazyDocker>,
    /// Removes what an earlier program left, where one did.
    cleaning: Option<JoinHandle<()>>,
}

impl LocalBuilder {
    /// A builder that keeps what Docker needs in `folder`. If that is there already, containers that an earlier
    /// program left are removed in the background, as long as the builder is there.
    pub async fn open(bundle: BundleBuilder, folder: PathBuf, config: DockerConfig) -> Result<Arc<Self>> {
        let path = folder.clone();
        let was_used = blocking(move || Ok(path.is_dir())).await?;
        let bundle = Arc::new(bundle);
        let docker = Arc::new(LazyDocker { opened: OnceCell::new(), bundle: Arc::clone(&bundle), folder, config });
        let cleaning = was_used.then(|| tokio::spawn(clean_up(Arc::clone(&docker))));
        Ok(Arc::new(Self { bundle, docker, cleaning }))
    }
}

impl Drop for LocalBuilder {
    fn drop(&mut self) {
        if let Some(cleaning) = &self.cleaning {
            cleaning.abort();
        }
    }
}

/// The Docker builder, once something needs it.
#[derive(Debug)]
struct LazyDocker {
    opened: OnceCell<DockerBuilder>,
    bundle: Arc<BundleBuilder>,
    folder: PathBuf,
    config: DockerConfig,
}

impl LazyDocker {
    async fn get(&self) -> Result<&DockerBuilder> {
        let open = || DockerBuilder::open(&self.folder, self.config.clone(), Arc::clone(&self.bundle));
        self.opened.get_or_try_init(open).await
    }
}

async fn clean_up(docker: Arc<LazyDocker>) {
    if let Err(error) = docker.get().await {
        tracing::debug!(%error, "Docker is not there to be cleaned up");
    }
}

#[async_trait]
impl Builder for LocalBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        if settings.dependencies.is_empty() {
            return self.bundle.build(source, settings).await;
        }
        self.docker.get().await?.build(source, settings).await
    }

    /// `None`: what is slow about a build, the npm packages, is kept in the builder's folder.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        self.docker.get().await?.create_environment(server, template).await
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        self.docker.get().await?.environment(container_id).await
    }

    async fn close(&self) -> Result<()> {
        if let Some(cleaning) = &self.cleaning {
            cleaning.abort();
        }
        match self.docker.opened.get() {
            Some(docker) => docker.close().await,
            None => Ok(()),
        }
    }
}
