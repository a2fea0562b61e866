//! [`open`]: the Cloudflare target, assembled.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{
    Artifact, Backends, Builder, Environment, Error, ErrorKind, LEASE_TIME, MetaMcp, Publisher, Result, ServerName,
    SourceTree, TemplateKind, WorkerSettings,
};

use crate::client::Client;
use crate::config::{CloudflareConfig, Placement};
use crate::containers::ContainerBuilder;
use crate::d1::{D1Executor, D1Registry};
use crate::kv::WorkersKvCache;
use crate::workers::{DispatchPublisher, WorkerPublisher};

/// After this time a lease is free whose holder crashed: its own time, and what a request takes.
const FREE_AFTER: Duration = LEASE_TIME.saturating_add(Duration::from_secs(2));
/// How often what is still pending is looked at again, each time after twice as long: for about eight minutes.
const ATTEMPTS: u32 = 4;

/// Opens the Cloudflare target: the account's D1 database and Workers KV namespace are made if they are not there,
/// and what a crash left is finished or undone. What another program still holds, if only because it crashed a moment
/// ago, is looked at again later, until [`MetaMcp::close`].
///
/// Servers are built on this machine, by the toolchain that the first call of a user installs with npm. Those with npm
/// dependencies, and environments, need a Container Manager ([`CloudflareConfig::with_container_manager`]): without one
/// they are [`ErrorKind::Unsupported`].
///
/// Several programs may have the same database open: a lease in it keeps two of them from deploying one server at once.
pub async fn open(config: CloudflareConfig) -> Result<MetaMcp> {
    let backends = backends(config).await?;
    let meta = MetaMcp::new(backends.clone());
    if reconcile(&meta).await? {
        return Ok(meta);
    }
    // With an instance of its own, so that the caller's last clone ends it.
    let again = tokio::spawn(reconcile_again(MetaMcp::new(backends), FREE_AFTER));
    Ok(meta.with_task(again))
}

/// Says whether registry and account agree.
async fn reconcile(meta: &MetaMcp) -> Result<bool> {
    let report = meta.deployments().reconcile().await?;
    for (server, reason) in &report.pending {
        tracing::warn!(%server, reason, "registry and account still differ");
    }
    Ok(report.pending.is_empty())
}

async fn reconcile_again(meta: MetaMcp, first_pause: Duration) {
    for attempt in 0..ATTEMPTS {
        tokio::time::sleep(first_pause * 2_u32.pow(attempt)).await;
        match reconcile(&meta).await {
            Ok(true) => {
                tracing::info!("registry and account agree again");
                return;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "registry and account could not be compared again"),
        }
    }
}

/// The four backends of the Cloudflare target, for a caller who wraps or replaces one of them. [`open`] also
/// reconciles, which is then the caller's business.
pub async fn backends(config: CloudflareConfig) -> Result<Backends> {
    let toolchain = Toolchain::install(&config.toolchain_folder()?).await?;
    let bundle = BundleBuilder::new(toolchain);
    let builder: Arc<dyn Builder> = match config.container_manager() {
        Some(manager) => Arc::new(ContainerBuilder::open(manager.clone(), Arc::new(bundle)).await?),
        None => Arc::new(WithoutContainers(bundle)),
    };
    let (database, namespace) = (config.database().to_owned(), config.namespace().to_owned());
    let client = Client::new(config)?;
    let executor = D1Executor::open(client.clone(), &database).await?;
    let registry = D1Registry::open(executor.clone()).await?;
    let cache = WorkersKvCache::open(client.clone(), &namespace).await?;
    let publisher: Arc<dyn Publisher> = match client.config().placement().clone() {
        Placement::AccountScripts => {
            Arc::new(WorkerPublisher::open(client, executor).await?.with_private(cache.namespace_id()))
        }
        Placement::DispatchNamespace(name) => {
            let publisher = DispatchPublisher::open(client, executor, &name).await?;
            Arc::new(publisher.with_private(cache.namespace_id()))
        }
    };
    Ok(Backends { registry: Arc::new(registry), cache: Arc::new(cache), builder, publisher })
}

/// The bundle builder, which says what a container would take.
#[derive(Debug)]
struct WithoutContainers(BundleBuilder);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Builder for WithoutContainers {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        self.0.build(source, settings).await.map_err(explained)
    }

    fn fingerprint(&self) -> Option<String> {
        self.0.fingerprint()
    }

    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        self.0.create_environment(server, template).await.map_err(explained)
    }

    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        self.0.environment(container_id).await.map_err(explained)
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

fn explained(error: Error) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    error.with_help(
        "deploy a Container Manager (`deploy_container_manager`), then set CLOUDFLARE_CONTAINER_MANAGER_URL and \
         CLOUDFLARE_CONTAINER_MANAGER_KEY",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryPublisher, MemoryRegistry};
    use metamcp_core::registry::{DeploymentId, DeploymentKind, DeploymentRecord, DeploymentStep};
    use metamcp_core::{Registry, ServerDefinition, ServerKey};

    use super::*;

    fn memory() -> Backends {
        Backends {
            registry: Arc::new(MemoryRegistry::new()),
            cache: Arc::new(MemoryKvCache::new()),
            builder: Arc::new(MemoryBuilder::new()),
            publisher: Arc::new(MemoryPublisher::new()),
        }
    }

    /// A deployment that a program began and did not survive.
    async fn crash(registry: &dyn Registry, key: &ServerKey, lease: Duration) {
        let (server, lease) = registry.lease_server(key, "a program that is gone", lease).await.unwrap();
        let begun = DeploymentRecord {
            id: DeploymentId(uuid::Uuid::new_v4()),
            server: server.reference(),
            kind: DeploymentKind::Deploy,
            step: DeploymentStep::Staging,
            revision: server.revision,
            version: None,
            previous: None,
            error: None,
            created_at: time::OffsetDateTime::now_utc(),
        };
        registry.put_deployment(&begun, &lease).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_crashed_program_still_holds_is_settled_once_it_is_free() {
        let backends = memory();
        let meta = MetaMcp::new(backends.clone());
        let definition: ServerDefinition =
            serde_json::from_str(r#"{ "name": "story", "description": "Was interrupted." }"#).unwrap();
        meta.servers().create(&definition).await.unwrap();
        crash(backends.registry.as_ref(), &"story".parse().unwrap(), Duration::from_secs(1)).await;
        assert!(!reconcile(&meta).await.unwrap());

        let again = tokio::spawn(reconcile_again(MetaMcp::new(backends.clone()), Duration::from_millis(300)));
        let begun = Instant::now();
        while !backends.registry.pending_deployments().await.unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it stays pending");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        again.await.unwrap();
    }

    #[tokio::test]
    async fn looking_again_ends_with_its_owner() {
        for close in [true, false] {
            let backends = memory();
            let again = tokio::spawn(reconcile_again(MetaMcp::new(backends.clone()), Duration::from_secs(3_600)));
            let ended = again.abort_handle();
            let meta = MetaMcp::new(backends).with_task(again);
            if close {
                meta.close().await.unwrap();
            } else {
                drop(meta);
            }
            let begun = Instant::now();
            while !ended.is_finished() {
                assert!(begun.elapsed() < Duration::from_secs(60), "it goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
