use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::lock;
use crate::name::{ServerId, ServerKey, ServerName, VersionId};
use crate::registry::{
    AUDIT_ENTRIES, ApiKeyRecord, AuditEntry, ClientConnection, DeploymentRecord, Expect, Lease, ListOptions, LiveState,
    Page, RecordStatus, Registry, Revision, ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
    api_key_exists, check_lease, connection_exists, lease_lost, lease_taken, revision_conflict, server_exists,
    server_lease, server_not_found, version_not_found,
};
use crate::source_tree::Digest;
use crate::validate::ValidDefinition;
use crate::{Error, ErrorKind, Result};

/// A [`Registry`] in memory, one lock around plain collections.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> metamcp_core::Result<()> {
/// use metamcp_core::memory::MemoryRegistry;
/// use metamcp_core::registry::{ListOptions, Registry};
///
/// let registry = MemoryRegistry::new();
/// assert!(registry.list_servers(&ListOptions::default()).await?.items.is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    servers: BTreeMap<ServerName, Entry>,
    versions: Vec<VersionRecord>,
    deployments: Vec<DeploymentRecord>,
    leases: BTreeMap<String, Lease>,
    connections: BTreeMap<Uuid, ClientConnection>,
    api_keys: Vec<ApiKeyRecord>,
    audit: VecDeque<AuditEntry>,
}

#[derive(Debug)]
struct Entry {
    record: ServerRecord,
    digest: Digest,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn find(&self, key: &ServerKey) -> Result<&ServerRecord> {
        let entry = match key {
            ServerKey::Name(name) => self.servers.get(name),
            ServerKey::Id(id) => self.servers.values().find(|entry| entry.record.id == *id),
        };
        entry.map(|entry| &entry.record).ok_or_else(|| server_not_found(key))
    }

    fn put(&mut self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        let now = OffsetDateTime::now_utc();
        let name = definition.name();
        let digest = *definition.digest();
        let Some(entry) = self.servers.get_mut(name) else {
            if expect != Expect::Absent {
                return Err(server_not_found(&name.into()));
            }
            let record = new_record(definition, now);
            self.servers.insert(name.clone(), Entry { record: record.clone(), digest });
            return Ok(record);
        };
        if entry.digest == digest {
            return Ok(entry.record.clone());
        }
        let record = &mut entry.record;
        match expect {
            Expect::Absent => return Err(server_exists(name)),
            Expect::Revision(expected) if expected != record.revision => {
                return Err(revision_conflict(name, record.revision, expected));
            }
            Expect::Revision(Revision(revision)) => record.revision = Revision(revision + 1),
        }
        record.definition = definition.written().clone();
        record.updated_at = now;
        entry.digest = digest;
        Ok(entry.record.clone())
    }

    fn remove(&mut self, id: ServerId) -> Result<()> {
        let name = self.find(&id.into())?.name.clone();
        self.servers.remove(&name);
        self.versions.retain(|version| version.server_id != id);
        self.deployments.retain(|deployment| deployment.server.id != id);
        self.connections.retain(|_, connection| connection.server_id != id);
        self.leases.remove(&server_lease(id));
        Ok(())
    }

    fn held(&self, name: &str, now: OffsetDateTime) -> Option<&Lease> {
        self.leases.get(name).filter(|lease| lease.expires_at > now)
    }

    fn acquire(&mut self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        check_lease(name, holder, ttl)?;
        let now = OffsetDateTime::now_utc();
        if let Some(held) = self.held(name, now) {
            return Err(lease_taken(name, &held.holder));
        }
        let fence = self.leases.get(name).map_or(0, |lease| lease.fence) + 1;
        let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), fence, expires_at: now + ttl };
        self.leases.insert(name.to_owned(), lease.clone());
        Ok(lease)
    }

    fn release(&mut self, lease: &Lease) {
        if let Ok(held) = self.check_held(lease) {
            held.expires_at = OffsetDateTime::UNIX_EPOCH;
        }
    }

    /// The lease as it stands, if it is still the newest and its time is not over.
    fn check_held(&mut self, lease: &Lease) -> Result<&mut Lease> {
        let now = OffsetDateTime::now_utc();
        let holder = self.held(&lease.name, now).map(|held| held.holder.clone());
        let held = self.leases.get_mut(&lease.name);
        let held = held.filter(|held| held.fence == lease.fence && held.expires_at > now);
        held.ok_or_else(|| lease_lost(lease, holder.as_deref()))
    }

    fn put_deployment(&mut self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        self.find(&deployment.server.id.into())?;
        self.check_held(lease)?;
        match self.deployments.iter_mut().find(|present| present.id == deployment.id) {
            Some(present) => present.clone_from(deployment),
            None => self.deployments.push(deployment.clone()),
        }
        Ok(())
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn put_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        lock(&self.state).put(definition, expect)
    }

    async fn get_server(&self, key: &ServerKey) -> Result<ServerRecord> {
        lock(&self.state).find(key).cloned()
    }

    async fn get_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)> {
        lock(&self.state).find(key).map(|record| (record.id, record.revision))
    }

    async fn list_servers(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        options.check()?;
        let state = lock(&self.state);
        let wanted = |record: &&ServerRecord| {
            options.after.as_ref().is_none_or(|after| record.name > *after)
                && options.status.is_none_or(|status| record.status == status)
                && options.not_updated_since.is_none_or(|time| record.updated_at < time)
        };
        let limit = options.limit as usize;
        let found = state.servers.values().map(|entry| &entry.record).filter(wanted).take(limit + 1);
        let mut items = found.map(summary).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.name.clone());
        Ok(Page { items, next })
    }

    async fn list_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>> {
        ToolSummary::check_limit(limit)?;
        let state = lock(&self.state);
        let servers = state.servers.values().map(|entry| &entry.record);
        let first = after.as_ref().map(|place| &place.server);
        let servers = servers.filter(|record| first.is_none_or(|first| record.name >= *first));
        let tools = servers.flat_map(tool_summaries);
        let behind = |tool: &ToolSummary| {
            after.as_ref().is_none_or(|place| (&tool.server, &tool.name) > (&place.server, &place.tool))
        };
        Ok(tools.filter(behind).take(limit as usize).collect())
    }

    async fn put_container(&self, id: ServerId, container_id: Option<String>) -> Result<()> {
        let mut state = lock(&self.state);
        let name = state.find(&id.into())?.name.clone();
        if let Some(entry) = state.servers.get_mut(&name) {
            entry.record.container_id = container_id;
        }
        Ok(())
    }

    async fn remove_server(&self, id: ServerId) -> Result<()> {
        lock(&self.state).remove(id)
    }

    async fn put_version(&self, version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> Result<u32> {
        let mut state = lock(&self.state);
        state.put_deployment(deployment, lease)?;
        match state.versions.iter_mut().find(|present| same_version(present, version.server_id, &version.version)) {
            Some(present) => present.clone_from(version),
            None => state.versions.push(version.clone()),
        }
        let count = state.versions.iter().filter(|present| present.server_id == version.server_id).count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    async fn list_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>> {
        let state = lock(&self.state);
        let mut found: Vec<_> =
            state.versions.iter().rev().filter(|version| version.server_id == id).cloned().collect();
        found.sort_by_key(|version| std::cmp::Reverse(version.created_at));
        Ok(found)
    }

    async fn get_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord> {
        let state = lock(&self.state);
        let found = state.versions.iter().find(|present| same_version(present, id, version)).cloned();
        found.ok_or_else(|| version_not_found(id, version))
    }

    async fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        lock(&self.state).versions.retain(|present| !same_version(present, id, version));
        Ok(())
    }

    async fn put_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        lock(&self.state).put_deployment(deployment, lease)
    }

    async fn finish_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<LiveState>,
        lease: &Lease,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        state.put_deployment(deployment, lease)?;
        let entry = state.servers.values_mut().find(|entry| entry.record.id == deployment.server.id);
        if let (Some(entry), Some(live)) = (entry, live) {
            entry.record.status = live.status;
            entry.record.live = Some(live);
            entry.record.updated_at = OffsetDateTime::now_utc();
        }
        state.release(lease);
        Ok(())
    }

    async fn list_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>> {
        let state = lock(&self.state);
        let mut found: Vec<_> =
            state.deployments.iter().rev().filter(|deployment| deployment.server.id == id).cloned().collect();
        found.sort_by_key(|deployment| std::cmp::Reverse(deployment.created_at));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn pending_deployments(&self) -> Result<Vec<DeploymentRecord>> {
        let state = lock(&self.state);
        let mut found: Vec<_> =
            state.deployments.iter().filter(|deployment| !deployment.step.is_final()).cloned().collect();
        found.sort_by_key(|deployment| deployment.created_at);
        Ok(found)
    }

    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        lock(&self.state).acquire(name, holder, ttl)
    }

    async fn lease_server(&self, key: &ServerKey, holder: &str, ttl: Duration) -> Result<(ServerRecord, Lease)> {
        let mut state = lock(&self.state);
        let record = state.find(key)?.clone();
        let lease = state.acquire(&server_lease(record.id), holder, ttl)?;
        Ok((record, lease))
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        check_lease(&lease.name, &lease.holder, ttl)?;
        let mut state = lock(&self.state);
        let held = state.check_held(lease)?;
        held.expires_at = OffsetDateTime::now_utc() + ttl;
        Ok(held.clone())
    }

    async fn release_lease(&self, lease: &Lease) -> Result<()> {
        lock(&self.state).release(lease);
        Ok(())
    }

    async fn put_connection(&self, connection: &ClientConnection) -> Result<()> {
        let mut state = lock(&self.state);
        state.find(&connection.server_id.into())?;
        if state.connections.values().any(|other| other.name == connection.name && other.id != connection.id) {
            return Err(connection_exists(&connection.name));
        }
        state.connections.insert(connection.id, connection.clone());
        Ok(())
    }

    async fn list_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>> {
        let state = lock(&self.state);
        let mut found: Vec<_> =
            state.connections.values().filter(|connection| connection.server_id == id).cloned().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn remove_connection(&self, connection_id: Uuid) -> Result<()> {
        lock(&self.state).connections.remove(&connection_id);
        Ok(())
    }

    async fn put_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        let mut state = lock(&self.state);
        if state.api_keys.iter().any(|other| other.hash == key.hash && other.id != key.id) {
            return Err(api_key_exists());
        }
        match state.api_keys.iter_mut().find(|present| present.id == key.id) {
            Some(present) => present.clone_from(key),
            None => state.api_keys.push(key.clone()),
        }
        Ok(())
    }

    async fn find_api_key(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        Ok(lock(&self.state).api_keys.iter().find(|key| key.hash == *hash).cloned())
    }

    async fn list_api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        Ok(lock(&self.state).api_keys.clone())
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        let mut state = lock(&self.state);
        state.audit.push_back(entry.clone());
        while state.audit.len() > AUDIT_ENTRIES as usize {
            state.audit.pop_front();
        }
        Ok(())
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        Ok(lock(&self.state).audit.iter().rev().take(limit as usize).cloned().collect())
    }
}

fn new_record(definition: &ValidDefinition, now: OffsetDateTime) -> ServerRecord {
    ServerRecord {
        id: ServerId::random(),
        name: definition.name().clone(),
        revision: Revision(1),
        status: RecordStatus::Draft,
        definition: definition.written().clone(),
        live: None,
        container_id: None,
        created_at: now,
        updated_at: now,
    }
}

/// A server's tools, in order of names.
fn tool_summaries(record: &ServerRecord) -> Vec<ToolSummary> {
    let tools = record.definition.tools.iter().map(|tool| ToolSummary {
        server: record.name.clone(),
        server_description: record.definition.description.clone(),
        name: tool.name.clone(),
        description: tool.description.clone(),
        live: record.live.is_some(),
    });
    let mut tools: Vec<_> = tools.collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools
}

fn summary(record: &ServerRecord) -> Result<ServerSummary> {
    let template = record.definition.template.parse().map_err(|source: crate::NameError| {
        Error::new(ErrorKind::Unexpected, "a stored definition names no template").with_source(source)
    })?;
    Ok(ServerSummary {
        id: record.id,
        name: record.name.clone(),
        description: record.definition.description.clone(),
        version: record.definition.version.clone(),
        template,
        revision: record.revision,
        status: record.status,
        live: record.live.clone(),
        created_at: record.created_at,
        updated_at: record.updated_at,
    })
}

fn same_version(record: &VersionRecord, id: ServerId, version: &VersionId) -> bool {
    record.server_id == id && record.version == *version
}
