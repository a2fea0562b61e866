//! [`Registry`]: what is known of every server, and who may change it now.

mod records;
mod refusal;
pub mod sql;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::Result;
use crate::name::{ServerId, ServerKey, VersionId};
use crate::validate::ValidDefinition;
pub use records::{
    AUDIT_ENTRIES, ApiKeyRecord, AuditEntry, AuditOutcome, ClientConnection, DeploymentId, DeploymentKind,
    DeploymentRecord, DeploymentStep, Expect, Lease, ListOptions, LiveState, Page, RecordStatus, Revision,
    ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
};
pub(crate) use records::{check_lease, server_lease};
pub(crate) use refusal::{
    api_key_exists, connection_exists, lease_lost, lease_taken, revision_conflict, server_exists, server_not_found,
    version_not_found,
};

/// Durable state: servers with their definitions, versions, deployments, client connections, API keys, audit
/// entries and leases.
///
/// ```
/// use metamcp_core::memory::MemoryRegistry;
/// use metamcp_core::registry::{Expect, Registry};
/// use metamcp_core::{ErrorKind, ServerDefinition, validate};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = MemoryRegistry::new();
/// let mut dice = ServerDefinition::new("dice", "Rolls dice.");
/// let first = registry.put_server(&validate(&dice)?, Expect::Absent).await?;
///
/// dice.description = "Rolls fair dice.".to_owned();
/// let second = registry.put_server(&validate(&dice)?, Expect::Revision(first.revision)).await?;
/// assert_eq!(second.revision.0, 2);
///
/// // A writer that has only read the first revision would undo the second.
/// dice.version = "1.1.0".to_owned();
/// let stale = registry.put_server(&validate(&dice)?, Expect::Revision(first.revision)).await.unwrap_err();
/// assert_eq!(stale.kind(), ErrorKind::Conflict);
/// # Ok(())
/// # }
/// ```
///
/// Every method is atomic: it happens whole or not at all, also when the program is killed in it. Reads see
/// every write that was acknowledged before. Times come from the database's clock. Error kinds common to all:
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store cannot answer and
/// [`ErrorKind::Unexpected`](crate::ErrorKind::Unexpected) if it holds what it should not.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Registry: Debug + Send + Sync + 'static {
    /// Writes a definition: a new server for [`Expect::Absent`], else the next revision of an existing one.
    ///
    /// The server is found by the definition's name. Writing what is already there is a no-op that returns the
    /// present record, whatever was expected. Otherwise
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if it was to be absent,
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) (naming both revisions) if the revision read is no
    /// longer the newest, [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a revision was expected of a
    /// server that is not there, [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) if one item is larger than the
    /// database takes (1.5 MB in SQL).
    async fn put_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord>;

    /// A server by id or name; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    async fn get_server(&self, key: &ServerKey) -> Result<ServerRecord>;

    /// Id and newest revision of a server: the cheap read that validates a cached record.
    async fn get_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)>;

    /// Servers in order of names, page by page, without their definitions;
    /// [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for a page out of bounds.
    async fn list_servers(&self, options: &ListOptions) -> Result<Page<ServerSummary>>;

    /// Tools of all working definitions behind a place, in order of the names of servers and then of tools, at most
    /// `limit` (1 to 1,000, else [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded)). Fewer are the last
    /// ones.
    async fn list_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>>;

    /// Notes the environment that was made for a server, or that there is none. Its revision and `updated_at` stay.
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such server.
    async fn put_container(&self, id: ServerId, container_id: Option<String>) -> Result<()>;

    /// Removes a server with all that belongs to it, the lease `server:ID` too, except audit entries;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    async fn remove_server(&self, id: ServerId) -> Result<()>;

    /// Records a staged version with its snapshot, in one step with the deployment that staged it and under the same
    /// rule as [`Registry::put_deployment`]. Idempotent by server and version. Returns how many versions the
    /// server has now.
    async fn put_version(&self, version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> Result<u32>;

    /// Versions of a server, newest first; empty if the server is unknown.
    async fn list_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>>;

    /// One version; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    async fn get_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord>;

    /// Removes a version; an absent one succeeds.
    async fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()>;

    /// Writes a deployment's step, before the step is taken. Refused with
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) unless `lease` is still held: its fencing number is
    /// the newest for the lease's name, and its time is not over;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown server. Idempotent by id.
    async fn put_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()>;

    /// Writes a deployment's last step together with what is live now, under the same rule as
    /// [`Registry::put_deployment`], and gives the lease back. `None` leaves the server's live state as it is.
    async fn finish_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<LiveState>,
        lease: &Lease,
    ) -> Result<()>;

    /// Deployments of a server, newest first, at most `limit`.
    async fn list_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>>;

    /// Deployments that neither finished nor failed, oldest first: what a crash may have left.
    async fn pending_deployments(&self) -> Result<Vec<DeploymentRecord>>;

    /// Takes a named lease for `ttl`. [`ErrorKind::Conflict`](crate::ErrorKind::Conflict), naming the holder, while
    /// somebody holds it; retryable, by which callers know that waiting helps. Each acquisition has a higher fencing
    /// number than all before it.
    /// [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for a `ttl` over a day, or a name or holder that is empty or
    /// longer than 512 bytes. A `ttl` of zero is over at once.
    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease>;

    /// Takes a server's own lease, `server:ID`, and reads the server under it, in one step. As
    /// [`Registry::acquire_lease`], and [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such server.
    async fn lease_server(&self, key: &ServerKey, holder: &str, ttl: Duration) -> Result<(ServerRecord, Lease)>;

    /// Extends a lease that is still held; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if it is not.
    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease>;

    /// Gives a lease back; one that is no longer held succeeds.
    async fn release_lease(&self, lease: &Lease) -> Result<()>;

    /// Writes an external MCP server's connection. Idempotent by id;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name belongs to another id,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown server.
    async fn put_connection(&self, connection: &ClientConnection) -> Result<()>;

    /// Connections of a server, in order of names.
    async fn list_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>>;

    /// Removes a connection; an absent one succeeds.
    async fn remove_connection(&self, connection_id: uuid::Uuid) -> Result<()>;

    /// Writes an API key's hash and rights. Idempotent by id;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the hash belongs to another id.
    async fn put_api_key(&self, key: &ApiKeyRecord) -> Result<()>;

    /// The key with this hash, revoked and expired ones included; `None` if there is none.
    async fn find_api_key(&self, hash: &crate::Digest) -> Result<Option<ApiKeyRecord>>;

    /// All keys, in order of creation.
    async fn list_api_keys(&self) -> Result<Vec<ApiKeyRecord>>;

    /// Appends an audit entry. Entries are never changed; the newest [`AUDIT_ENTRIES`] are kept.
    async fn append_audit(&self, entry: &AuditEntry) -> Result<()>;

    /// Audit entries, newest first, at most `limit`.
    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditEntry>>;
}
