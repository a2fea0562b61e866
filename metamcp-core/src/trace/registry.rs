//! The registry's spans.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{traced, verb};
use crate::Result;
use crate::name::{ServerId, ServerKey, VersionId};
use crate::registry::{
    ApiKeyRecord, AuditEntry, ClientConnection, DeploymentRecord, Expect, Lease, ListOptions, LiveState, Page,
    Registry, Revision, ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
};
use crate::source_tree::Digest;
use crate::validate::ValidDefinition;

#[derive(Debug)]
pub(super) struct Traced(pub(super) Arc<dyn Registry>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for Traced {
    async fn put_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        let span = verb!(DEBUG, "put_server", server = %definition.name());
        traced(span, self.0.put_server(definition, expect)).await
    }

    async fn get_server(&self, key: &ServerKey) -> Result<ServerRecord> {
        traced(verb!(DEBUG, "get_server", server = %key), self.0.get_server(key)).await
    }

    async fn get_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)> {
        traced(verb!(DEBUG, "get_revision", server = %key), self.0.get_revision(key)).await
    }

    async fn list_servers(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        traced(verb!(DEBUG, "list_servers"), self.0.list_servers(options)).await
    }

    async fn list_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>> {
        traced(verb!(DEBUG, "list_tools"), self.0.list_tools(after, limit)).await
    }

    async fn put_container(&self, id: ServerId, container_id: Option<String>) -> Result<()> {
        traced(verb!(DEBUG, "put_container", %id), self.0.put_container(id, container_id)).await
    }

    async fn remove_server(&self, id: ServerId) -> Result<()> {
        traced(verb!(DEBUG, "remove_server", %id), self.0.remove_server(id)).await
    }

    async fn put_version(&self, version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> Result<u32> {
        let span = verb!(DEBUG, "put_version", server = %deployment.server.name, version = %version.version);
        traced(span, self.0.put_version(version, deployment, lease)).await
    }

    async fn list_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>> {
        traced(verb!(DEBUG, "list_versions", %id), self.0.list_versions(id)).await
    }

    async fn get_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord> {
        traced(verb!(DEBUG, "get_version", %id, %version), self.0.get_version(id, version)).await
    }

    async fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        traced(verb!(DEBUG, "remove_version", %id, %version), self.0.remove_version(id, version)).await
    }

    async fn put_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        let span = verb!(DEBUG, "put_deployment", server = %deployment.server.name, step = ?deployment.step);
        traced(span, self.0.put_deployment(deployment, lease)).await
    }

    async fn finish_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<LiveState>,
        lease: &Lease,
    ) -> Result<()> {
        let span = verb!(DEBUG, "finish_deployment", server = %deployment.server.name, step = ?deployment.step);
        traced(span, self.0.finish_deployment(deployment, live, lease)).await
    }

    async fn list_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>> {
        traced(verb!(DEBUG, "list_deployments", %id), self.0.list_deployments(id, limit)).await
    }

    async fn pending_deployments(&self) -> Result<Vec<DeploymentRecord>> {
        traced(verb!(DEBUG, "pending_deployments"), self.0.pending_deployments()).await
    }

    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        traced(verb!(DEBUG, "acquire_lease", name), self.0.acquire_lease(name, holder, ttl)).await
    }

    async fn lease_server(&self, key: &ServerKey, holder: &str, ttl: Duration) -> Result<(ServerRecord, Lease)> {
        traced(verb!(DEBUG, "lease_server", server = %key), self.0.lease_server(key, holder, ttl)).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        traced(verb!(DEBUG, "renew_lease", name = lease.name), self.0.renew_lease(lease, ttl)).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<()> {
        traced(verb!(DEBUG, "release_lease", name = lease.name), self.0.release_lease(lease)).await
    }

    async fn put_connection(&self, connection: &ClientConnection) -> Result<()> {
        traced(verb!(DEBUG, "put_connection"), self.0.put_connection(connection)).await
    }

    async fn list_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>> {
        traced(verb!(DEBUG, "list_connections", %id), self.0.list_connections(id)).await
    }

    async fn remove_connection(&self, connection_id: Uuid) -> Result<()> {
        traced(verb!(DEBUG, "remove_connection"), self.0.remove_connection(connection_id)).await
    }

    async fn put_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        traced(verb!(DEBUG, "put_api_key"), self.0.put_api_key(key)).await
    }

    async fn find_api_key(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        traced(verb!(DEBUG, "find_api_key"), self.0.find_api_key(hash)).await
    }

    async fn list_api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        traced(verb!(DEBUG, "list_api_keys"), self.0.list_api_keys()).await
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        traced(verb!(DEBUG, "append_audit", action = entry.action), self.0.append_audit(entry)).await
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        traced(verb!(DEBUG, "list_audit"), self.0.list_audit(limit)).await
    }
}
