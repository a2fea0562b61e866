//! Containers: the applications of an account, and what runs in them.
//!
//! There is no REST call that starts a container: a Worker does. Uploaded scripts run in workerd, which has no
//! containers; one with a container class finds `SANDBOX_BRIDGE` among its variables instead, where its sandboxes are
//! served by the local Docker engine.

mod applications;
mod bridge;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{Error, ErrorKind, Result};
use metamcp_local::{DockerBuilder, DockerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::applications::Applications;
use self::bridge::Sandboxes;
use crate::State;

/// The host name under which scripts reach the emulator.
pub(crate) const HOST: &str = "containers.emulator";

/// The containers of an account.
#[derive(Debug)]
pub(crate) struct Containers {
    applications: Applications,
    sandboxes: Sandboxes,
    docker: OnceCell<Docker>,
    config: DockerConfig,
    toolchain_dir: Option<PathBuf>,
    /// Who does not know it has no sandboxes: they run commands on this machine's engine.
    token: String,
}

#[derive(Debug)]
struct Docker {
    builder: DockerBuilder,
    _folder: TempDir,
}

impl Containers {
    /// No more of them run at once than the configuration says; whoever wants another one is refused.
    pub(crate) fn new(config: DockerConfig, toolchain_dir: Option<&Path>) -> Self {
        Self {
            applications: Applications::default(),
            sandboxes: Sandboxes::default(),
            docker: OnceCell::new(),
            config: config.with_warm(0).with_queue_timeout(Duration::ZERO),
            toolchain_dir: toolchain_dir.map(Path::to_owned),
            token: Uuid::new_v4().simple().to_string(),
        }
    }

    /// Makes a container and removes it again.
    pub(crate) async fn prepare(&self) -> Result<()> {
        bridge::new_environment(self.docker().await?).await?.destroy().await
    }

    /// How many sandboxes run.
    pub(crate) fn running(&self) -> usize {
        self.sandboxes.count()
    }

    /// What tells a script where its sandboxes are, as a binding.
    pub(crate) fn bridge(&self) -> Value {
        let url = format!("http://{HOST}/__emulator/containers/{}", self.token);
        json!({ "type": "plain_text", "name": "SANDBOX_BRIDGE", "text": url })
    }

    async fn docker(&self) -> Result<&DockerBuilder> {
        let docker = self.docker.get_or_try_init(async || {
            let folder = tempfile::tempdir().map_err(|error| {
                Error::new(ErrorKind::Unavailable, "the emulator can make no folder").with_source(error)
            })?;
            let cache = match &self.toolchain_dir {
                Some(cache) => cache.clone(),
                None => Toolchain::default_folder()?,
            };
            let bundle = Arc::new(BundleBuilder::new(Toolchain::install(&cache).await?));
            let builder = DockerBuilder::open(folder.path(), self.config.clone(), bundle).await?;
            Ok::<_, Error>(Docker { builder, _folder: folder })
        });
        Ok(&docker.await?.builder)
    }
}

/// Below an account.
pub(crate) fn routes() -> Router<Arc<State>> {
    applications::routes()
}

/// For the emulator's own scripts.
pub(crate) fn bridge_routes() -> Router<Arc<State>> {
    bridge::routes()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// So that a build in an account gives what a build on this machine gives. Each crate has to hold its own.
    #[test]
    fn the_images_of_both_targets_are_made_of_the_same() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["globals", "scripts", "tools"] {
            let cloudflare = root.join("metamcp-cloudflare/container-manager/image").join(folder);
            for entry in std::fs::read_dir(cloudflare).unwrap() {
                let path = entry.unwrap().path();
                let local = root.join("metamcp-local/docker").join(folder).join(path.file_name().unwrap());
                assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(local).unwrap(), "{}", path.display());
            }
        }
    }
}
