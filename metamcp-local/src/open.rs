//! [`open`]: the local target, assembled.

use std::sync::Arc;

use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{Backends, Builder, MetaMcp, Result};

use crate::config::LocalConfig;
use crate::kv::SqliteKvCache;
#[cfg(feature = "docker")]
use crate::local_builder::LocalBuilder;
use crate::owner::DataDirectory;
use crate::sqlite::{SqliteExecutor, SqliteRegistry};
use crate::workerd::{WorkerdConfig, WorkerdPublisher};

/// Opens the local target over a data directory: what was deployed is served again at the same URLs, and what a
/// crash left is finished or undone.
///
/// The first call of a user installs the JavaScript toolchain with npm; later ones need no network.
///
/// The directory is owned until the [`MetaMcp`] and all of its clones and parts are dropped, since each of them can still
/// change the registry after [`MetaMcp::close`]: drop them before it is opened again.
///
/// [`ErrorKind::Conflict`](metamcp_core::ErrorKind::Conflict) names the program that owns the directory already;
/// [`ErrorKind::ConfigInvalid`](metamcp_core::ErrorKind::ConfigInvalid) says what the machine lacks.
pub async fn open(config: LocalConfig) -> Result<MetaMcp> {
    let meta = MetaMcp::new(backends(config).await?);
    let report = meta.deployments().reconcile().await?;
    for (server, reason) in &report.pending {
        tracing::warn!(%server, reason, "registry and target still differ");
    }
    Ok(meta)
}

/// The four backends of the local target, for a caller who wraps or replaces one of them. [`open`] also
/// reconciles, which is then the caller's business.
pub async fn backends(config: LocalConfig) -> Result<Backends> {
    let directory = Arc::new(DataDirectory::open(&config.data_dir)?);
    let toolchain = Toolchain::install(&config.toolchain_folder()?).await?;
    let cache = SqliteKvCache::open(directory.path().join("cache.db")).await?;
    let registry = SqliteRegistry::open(SqliteExecutor::open(directory.path().join("registry.db")).await?).await?;
    // This process owns the directory, so whoever held a lease in it is gone.
    registry.expire_leases().await?;
    let workerd = toolchain.workerd();
    let builder = builder(&config, &directory, BundleBuilder::new(toolchain)).await?;
    let publisher = WorkerdPublisher::open(WorkerdConfig { workerd, directory, local: config }).await?;
    Ok(Backends { registry: Arc::new(registry), cache: Arc::new(cache), builder, publisher })
}

#[cfg(feature = "docker")]
async fn builder(config: &LocalConfig, directory: &DataDirectory, bundle: BundleBuilder) -> Result<Arc<dyn Builder>> {
    let builder = LocalBuilder::open(bundle, directory.path().join("docker"), config.docker.clone()).await?;
    Ok(builder)
}

#[cfg(not(feature = "docker"))]
fn builder(
    _config: &LocalConfig,
    _directory: &DataDirectory,
    bundle: BundleBuilder,
) -> impl Future<Output = Result<Arc<dyn Builder>>> {
    std::future::ready(Ok(Arc::new(bundle) as Arc<dyn Builder>))
}
