//! [`LocalBuilder`]: the bundle builder for servers without npm dependencies, Docker for those with.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::bundle::BundleBuilder;
use metamcp_core::{Artifact, Builder, Environment, Result, ServerName, SourceTree, TemplateKind, WorkerSettings};
use tokio::sync::OnceCell;

use crate::docker::{DockerBuilder, DockerConfig};

/// Chooses how a server is built. Docker is looked for when something needs it: an error then says what to install.
#[derive(Debug)]
pub struct LocalBuilder {
    bundle: Arc<BundleBuilder>,
    docker: OnceCell<DockerBuilder>,
    folder: PathBuf,
    config: DockerConfig,
}

impl LocalBuilder {
    /// A builder that keeps what Docker needs in `folder`. If that is there already, containers that an earlier
    /// program left are removed in the background.
    pub fn new(bundle: BundleBuilder, folder: PathBuf, config: DockerConfig) -> Arc<Self> {
        let was_used = folder.is_dir();
        let builder = Arc::new(Self { bundle: Arc::new(bundle), docker: OnceCell::new(), folder, config });
        if was_used {
            let builder = Arc::clone(&builder);
            tokio::spawn(async move {
                if let Err(error) = builder.docker().await {
                    tracing::debug!(%error, "Docker is not there to be cleaned up");
                }
            });
        }
        builder
    }

    async fn docker(&self) -> Result<&DockerBuilder> {
        let open = || DockerBuilder::open(&self.folder, self.config.clone(), Arc::clone(&self.bundle));
        self.docker.get_or_try_init(open).await
    }
}

#[async_trait]
impl Builder for LocalBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        if settings.dependencies.is_empty() {
            return self.bundle.build(source, settings).await;
        }
        self.docker().await?.build(source, settings).await
    }

    /// `None`: what is slow about a build, the npm packages, is kept in the builder's folder.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        self.docker().await?.create_environment(server, template).await
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        self.docker().await?.environment(container_id).await
    }

    async fn close(&self) -> Result<()> {
        match self.docker.get() {
            Some(docker) => docker.close().await,
            None => Ok(()),
        }
    }
}
