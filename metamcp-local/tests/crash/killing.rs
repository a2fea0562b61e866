//! Backends that kill somebody at the n-th point of a run: before and after every call that changes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::registry::{
    ApiKeyRecord, AuditEntry, ClientConnection, DeploymentRecord, Expect, Lease, ListOptions, LiveState, Page,
    Revision, ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
};
use metamcp_core::{
    Artifact, Backends, Builder, Digest, Endpoint, EnvName, LogLine, LogOptions, PublishedServer, PublishedVersion,
    Publisher, Registry, Result, ServerId, ServerKey, ServerRef, SourceTree, Staged, ValidDefinition, VersionId,
    WorkerSettings,
};
use secrecy::SecretString;

/// Counts points and strikes at one of them.
pub(crate) struct Killer {
    left: AtomicU32,
    strike: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Killer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Killer").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Killer {
    pub(crate) fn new(point: u32, strike: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { left: AtomicU32::new(point), strike: Box::new(strike) })
    }

    fn point(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.strike)();
        }
    }

    /// Puts the killer around registry, builder and publisher.
    pub(crate) fn around(self: &Arc<Self>, backends: &Backends) -> Backends {
        Backends {
            registry: Arc::new(Killing { inner: backends.registry.clone(), killer: self.clone() }),
            cache: backends.cache.clone(),
            builder: Arc::new(Killing { inner: backends.builder.clone(), killer: self.clone() }),
            publisher: Arc::new(Killing { inner: backends.publisher.clone(), killer: self.clone() }),
        }
    }
}

#[derive(Debug)]
struct Killing<T: ?Sized> {
    killer: Arc<Killer>,
    inner: Arc<T>,
}

macro_rules! changing {
    ($self:ident, $call:ident($($argument:expr),*)) => {{
        $self.killer.point();
        let answer = $self.inner.$call($($argument),*).await;
        $self.killer.point();
        answer
    }};
}

#[async_trait]
impl Builder for Killing<dyn Builder> {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        changing!(self, build(source, settings))
    }
    fn fingerprint(&self) -> Option<String> {
        self.inner.fingerprint()
    }
}

#[async_trait]
impl Publisher for Killing<dyn Publisher> {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        changing!(self, stage(server, artifact))
    }
    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        changing!(self, activate(server, version))
    }
    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        changing!(self, discard(server, version))
    }
    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        changing!(self, unpublish(server))
    }
    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()> {
        changing!(self, set_secret(server, name, value))
    }
    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        changing!(self, remove_secret(server, name))
    }
    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        self.inner.list_versions(server).await
    }
    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        self.inner.list_servers().await
    }
    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        self.inner.endpoint(server).await
    }
    async fn logs(&self, server: &ServerRef, options: LogOptions) -> Result<Vec<LogLine>> {
        self.inner.logs(server, options).await
    }
    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        self.inner.list_secret_names(server).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Registry for Killing<dyn Registry> {
    async fn put_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        changing!(self, put_server(definition, expect))
    }
    async fn put_container(&self, id: ServerId, container_id: Option<String>) -> Result<()> {
        changing!(self, put_container(id, container_id))
    }
    async fn remove_server(&self, id: ServerId) -> Result<()> {
        changing!(self, remove_server(id))
    }
    async fn put_version(&self, version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> Result<u32> {
        changing!(self, put_version(version, deployment, lease))
    }
    async fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        changing!(self, remove_version(id, version))
    }
    async fn put_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        changing!(self, put_deployment(deployment, lease))
    }
    async fn finish_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<LiveState>,
        lease: &Lease,
    ) -> Result<()> {
        changing!(self, finish_deployment(deployment, live, lease))
    }
    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        changing!(self, acquire_lease(name, holder, ttl))
    }
    async fn lease_server(&self, key: &ServerKey, holder: &str, ttl: Duration) -> Result<(ServerRecord, Lease)> {
        changing!(self, lease_server(key, holder, ttl))
    }
    async fn release_lease(&self, lease: &Lease) -> Result<()> {
        changing!(self, release_lease(lease))
    }
    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        self.inner.renew_lease(lease, ttl).await
    }
    async fn get_server(&self, key: &ServerKey) -> Result<ServerRecord> {
        self.inner.get_server(key).await
    }
    async fn get_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)> {
        self.inner.get_revision(key).await
    }
    async fn list_servers(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        self.inner.list_servers(options).await
    }
    async fn list_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>> {
        self.inner.list_tools(after, limit).await
    }
    async fn list_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>> {
        self.inner.list_versions(id).await
    }
    async fn get_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord> {
        self.inner.get_version(id, version).await
    }
    async fn list_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>> {
        self.inner.list_deployments(id, limit).await
    }
    async fn pending_deployments(&self) -> Result<Vec<DeploymentRecord>> {
        self.inner.pending_deployments().await
    }
    async fn put_connection(&self, connection: &ClientConnection) -> Result<()> {
        self.inner.put_connection(connection).await
    }
    async fn list_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>> {
        self.inner.list_connections(id).await
    }
    async fn remove_connection(&self, connection_id: uuid::Uuid) -> Result<()> {
        self.inner.remove_connection(connection_id).await
    }
    async fn put_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        self.inner.put_api_key(key).await
    }
    async fn find_api_key(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        self.inner.find_api_key(hash).await
    }
    async fn list_api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        self.inner.list_api_keys().await
    }
    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        self.inner.append_audit(entry).await
    }
    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        self.inner.list_audit(limit).await
    }
}
