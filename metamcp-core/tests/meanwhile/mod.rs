//! Backends that are passed through to others, and let something else happen at a given call.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use metamcp_core::registry::{
    ApiKeyRecord, AuditEntry, ClientConnection, DeploymentRecord, Expect, Lease, ListOptions, LiveState, Page,
    Revision, ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
};
use metamcp_core::{
    Artifact, Digest, Endpoint, EnvName, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher, Registry,
    Result, ServerId, ServerKey, ServerRef, Staged, ValidDefinition, VersionId,
};
use secrecy::SecretString;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

type Act = (When, &'static str, BoxFuture<'static, ()>);

/// A backend at whose calls others act.
pub(crate) struct Meanwhile<T: ?Sized> {
    acts: Mutex<Vec<Act>>,
    inner: Arc<T>,
}

impl<T: ?Sized> fmt::Debug for Meanwhile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

impl<T: ?Sized> Meanwhile<T> {
    pub(crate) fn new(inner: Arc<T>) -> Arc<Self> {
        Arc::new(Self { acts: Mutex::default(), inner })
    }

    /// Lets something happen before the next call of a method reaches the backend.
    pub(crate) fn before(&self, method: &'static str, act: impl Future<Output = ()> + Send + 'static) {
        self.acts.lock().unwrap().push((When::Before, method, Box::pin(act)));
    }

    /// Lets something happen after the next call of a method, before the caller learns its outcome.
    pub(crate) fn after(&self, method: &'static str, act: impl Future<Output = ()> + Send + 'static) {
        self.acts.lock().unwrap().push((When::After, method, Box::pin(act)));
    }

    /// Whether all that was to happen did.
    pub(crate) fn is_over(&self) -> bool {
        self.acts.lock().unwrap().is_empty()
    }

    async fn act(&self, when: When, method: &str) {
        let act = {
            let mut acts = self.acts.lock().unwrap();
            let found = acts.iter().position(|act| (act.0, act.1) == (when, method));
            found.map(|index| acts.remove(index).2)
        };
        if let Some(act) = act {
            act.await;
        }
    }
}

macro_rules! pass_through {
    ($trait:ident: $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for Meanwhile<dyn $trait> {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer> {
                self.act(When::Before, stringify!($method)).await;
                let answer = self.inner.$method($($argument),*).await;
                self.act(When::After, stringify!($method)).await;
                answer
            })*
        }
    };
}

pass_through! { Publisher:
    stage(server: &ServerRef, artifact: &Artifact) -> Staged;
    activate(server: &ServerRef, version: &VersionId) -> Endpoint;
    discard(server: &ServerRef, version: &VersionId) -> ();
    list_versions(server: &ServerRef) -> Vec<PublishedVersion>;
    list_servers() -> Vec<PublishedServer>;
    endpoint(server: &ServerRef) -> Endpoint;
    logs(server: &ServerRef, options: LogOptions) -> Vec<LogLine>;
    unpublish(server: &ServerRef) -> ();
    set_secret(server: &ServerRef, name: &EnvName, value: SecretString) -> ();
    remove_secret(server: &ServerRef, name: &EnvName) -> ();
    list_secret_names(server: &ServerRef) -> Vec<EnvName>;
    close() -> ();
}

pass_through! { Registry:
    put_server(definition: &ValidDefinition, expect: Expect) -> ServerRecord;
    get_server(key: &ServerKey) -> ServerRecord;
    get_revision(key: &ServerKey) -> (ServerId, Revision);
    list_servers(options: &ListOptions) -> Page<ServerSummary>;
    list_tools(after: Option<ToolPlace>, limit: u32) -> Vec<ToolSummary>;
    put_container(id: ServerId, container_id: Option<String>) -> ();
    remove_server(id: ServerId) -> ();
    put_version(version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> u32;
    list_versions(id: ServerId) -> Vec<VersionRecord>;
    get_version(id: ServerId, version: &VersionId) -> VersionRecord;
    remove_version(id: ServerId, version: &VersionId) -> ();
    put_deployment(deployment: &DeploymentRecord, lease: &Lease) -> ();
    finish_deployment(deployment: &DeploymentRecord, live: Option<LiveState>, lease: &Lease) -> ();
    list_deployments(id: ServerId, limit: u32) -> Vec<DeploymentRecord>;
    pending_deployments() -> Vec<DeploymentRecord>;
    acquire_lease(name: &str, holder: &str, ttl: Duration) -> Lease;
    lease_server(key: &ServerKey, holder: &str, ttl: Duration) -> (ServerRecord, Lease);
    renew_lease(lease: &Lease, ttl: Duration) -> Lease;
    release_lease(lease: &Lease) -> ();
    put_connection(connection: &ClientConnection) -> ();
    list_connections(id: ServerId) -> Vec<ClientConnection>;
    remove_connection(connection_id: Uuid) -> ();
    put_api_key(key: &ApiKeyRecord) -> ();
    find_api_key(hash: &Digest) -> Option<ApiKeyRecord>;
    list_api_keys() -> Vec<ApiKeyRecord>;
    append_audit(entry: &AuditEntry) -> ();
    list_audit(limit: u32) -> Vec<AuditEntry>;
}
