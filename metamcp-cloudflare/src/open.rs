//! [`open`]: the Cloudflare target, assembled.

use std::sync::Arc;

use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{Backends, MetaMcp, Result};

use crate::client::Client;
use crate::config::CloudflareConfig;
use crate::d1::{D1Executor, D1Registry};
use crate::kv::WorkersKvCache;
use crate::workers::WorkerPublisher;

/// Opens the Cloudflare target: the account's D1 database and Workers KV namespace are made if they are not there,
/// and what a crash left is finished or undone.
///
/// Servers are built on this machine, by the toolchain that the first call of a user installs with npm. Those with
/// npm dependencies are [`ErrorKind::Unsupported`](metamcp_core::ErrorKind::Unsupported).
///
/// Several programs may have the same database open: a lease in it keeps two of them from deploying one server at once.
pub async fn open(config: CloudflareConfig) -> Result<MetaMcp> {
    let meta = MetaMcp::new(backends(config).await?);
    let report = meta.deployments().reconcile().await?;
    for (server, reason) in &report.pending {
        tracing::warn!(%server, reason, "registry and account still differ");
    }
    Ok(meta)
}

/// The four backends of the Cloudflare target, for a caller who wraps or replaces one of them. [`open`] also
/// reconciles, which is then the caller's business.
pub async fn backends(config: CloudflareConfig) -> Result<Backends> {
    let toolchain = Toolchain::install(&config.toolchain_folder()?).await?;
    let (database, namespace) = (config.database().to_owned(), config.namespace().to_owned());
    let client = Client::new(config)?;
    let executor = D1Executor::open(client.clone(), &database).await?;
    let registry = D1Registry::open(executor.clone()).await?;
    let cache = WorkersKvCache::open(client.clone(), &namespace).await?;
    let publisher = WorkerPublisher::open(client, executor).await?;
    Ok(Backends {
        registry: Arc::new(registry),
        cache: Arc::new(cache),
        builder: Arc::new(BundleBuilder::new(toolchain)),
        publisher: Arc::new(publisher),
    })
}
