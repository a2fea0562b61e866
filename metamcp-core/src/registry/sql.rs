//! [`SqlRegistry`]: the registry in SQL, once for SQLite and for Cloudflare's D1.
//!
//! D1 is reached over HTTP: no transaction stays open between calls, a batch cannot branch, a parameter is a
//! text. So a conditional write is one batch whose first statement decides, and whose later statements look
//! for what it left (a random write id). Wherever a value may be absent or is not a text, it travels in one
//! JSON parameter and is taken out in SQL.

mod access;
mod connections;
mod definition_rows;
mod deployments;
mod leases;
mod migrations;
mod row;
mod servers;
mod tools;
mod transfer;
mod versions;

pub use migrations::MIGRATIONS;

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ApiKeyRecord, AuditEntry, ClientConnection, DeploymentRecord, Expect, Lease, ListOptions, LiveState, Page,
    Registry, Revision, ServerRecord, ServerSummary, ToolPlace, ToolSummary, VersionRecord,
};
use crate::name::{ServerId, ServerKey, VersionId};
use crate::source_tree::Digest;
use crate::validate::ValidDefinition;
use crate::{Error, ErrorKind, Result};

/// Longest text passed in one parameter. D1 refuses values over 2 MB.
const MAX_PARAMETER_BYTES: usize = 1_500_000;

/// The database's clock as ISO 8601 in UTC, or that clock moved by a modifier.
macro_rules! now {
    () => {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    };
    ($modifier:literal) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ", $modifier, ")")
    };
}
use now;

/// Runs SQL in SQLite's dialect.
#[async_trait]
pub trait SqlExecutor: Debug + Send + Sync + 'static {
    /// Runs the statements in order as one transaction, all or nothing, and returns the rows of each.
    /// Foreign keys are enforced.
    ///
    /// Every batch [`SqlRegistry`] sends may be run twice with the same outcome, so an executor may repeat one
    /// whose answer was lost (only [`Registry::remove_server`] then says that there is nothing to remove).
    /// [`ErrorKind::Unavailable`] if the database cannot answer now, [`ErrorKind::Unexpected`] if it refuses a
    /// statement.
    async fn execute(&self, batch: Vec<Statement>) -> Result<Vec<Rows>>;
}

/// One SQL statement and its parameters, in the order of its `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The statement, without a `;` at its end; at most 100 KB.
    pub sql: Cow<'static, str>,
    /// The parameters, at most 100. Texts only: D1's REST interface takes nothing else.
    pub params: Vec<String>,
}

impl Statement {
    /// A statement with its parameters.
    pub fn new<const N: usize>(sql: impl Into<Cow<'static, str>>, params: [String; N]) -> Self {
        Self { sql: sql.into(), params: params.into() }
    }
}

/// The rows a statement returned, each with its values in the order of the columns.
pub type Rows = Vec<Vec<SqlValue>>;

/// A value the database returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
}

/// A [`Registry`] in a SQL database.
#[derive(Debug)]
pub struct SqlRegistry<E> {
    executor: E,
}

impl<E: SqlExecutor> SqlRegistry<E> {
    /// Opens the registry, applying the migrations that the database lacks. Several programs may do so at once.
    ///
    /// [`ErrorKind::ConfigInvalid`] if a newer program has migrated the database further than this one knows.
    pub async fn open(executor: E) -> Result<Self> {
        migrations::migrate(&executor).await.map_err(|error| error.with_operation("open registry"))?;
        Ok(Self { executor })
    }

    /// The database under it.
    pub fn executor(&self) -> &E {
        &self.executor
    }

    /// Runs a batch of `N` statements.
    async fn run<const N: usize>(&self, batch: [Statement; N]) -> Result<[Rows; N]> {
        into_array(self.executor.execute(batch.into()).await?)
    }
}

fn into_array<const N: usize>(results: Vec<Rows>) -> Result<[Rows; N]> {
    <[Rows; N]>::try_from(results).map_err(|results| {
        Error::new(ErrorKind::Unexpected, format!("the database answered {} of {N} statements", results.len()))
    })
}

#[async_trait]
impl<E: SqlExecutor> Registry for SqlRegistry<E> {
    async fn put_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        self.write_server(definition, expect).await.map_err(|error| error.with_operation("put server"))
    }

    async fn get_server(&self, key: &ServerKey) -> Result<ServerRecord> {
        self.read_server(key).await.map_err(|error| error.with_operation("get server"))
    }

    async fn get_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)> {
        self.read_revision(key).await.map_err(|error| error.with_operation("get revision"))
    }

    async fn list_servers(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        self.read_page(options).await.map_err(|error| error.with_operation("list servers"))
    }

    async fn list_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>> {
        self.read_tools(after, limit).await.map_err(|error| error.with_operation("list tools"))
    }

    async fn put_container(&self, id: ServerId, container_id: Option<String>) -> Result<()> {
        self.write_container(id, container_id).await.map_err(|error| error.with_operation("put container"))
    }

    async fn remove_server(&self, id: ServerId) -> Result<()> {
        self.delete_server(id).await.map_err(|error| error.with_operation("remove server"))
    }

    async fn put_version(&self, version: &VersionRecord, deployment: &DeploymentRecord, lease: &Lease) -> Result<u32> {
        let written = self.write_version(version, deployment, lease).await;
        written.map_err(|error| error.with_operation("put version"))
    }

    async fn list_versions(&self, id: ServerId) -> Result<Vec<VersionRecord>> {
        self.read_versions(id).await.map_err(|error| error.with_operation("list versions"))
    }

    async fn get_version(&self, id: ServerId, version: &VersionId) -> Result<VersionRecord> {
        self.read_version(id, version).await.map_err(|error| error.with_operation("get version"))
    }

    async fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        self.delete_version(id, version).await.map_err(|error| error.with_operation("remove version"))
    }

    async fn put_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        self.write_deployment(deployment, lease).await.map_err(|error| error.with_operation("put deployment"))
    }

    async fn finish_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<LiveState>,
        lease: &Lease,
    ) -> Result<()> {
        let written = self.end_deployment(deployment, live.as_ref(), lease).await;
        written.map_err(|error| error.with_operation("finish deployment"))
    }

    async fn list_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>> {
        self.read_deployments(id, limit).await.map_err(|error| error.with_operation("list deployments"))
    }

    async fn pending_deployments(&self) -> Result<Vec<DeploymentRecord>> {
        self.read_pending_deployments().await.map_err(|error| error.with_operation("list pending deployments"))
    }

    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        self.take_lease(name, holder, ttl).await.map_err(|error| error.with_operation("acquire lease"))
    }

    async fn lease_server(&self, key: &ServerKey, holder: &str, ttl: Duration) -> Result<(ServerRecord, Lease)> {
        self.take_server_lease(key, holder, ttl).await.map_err(|error| error.with_operation("lease server"))
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        self.extend_lease(lease, ttl).await.map_err(|error| error.with_operation("renew lease"))
    }

    async fn release_lease(&self, lease: &Lease) -> Result<()> {
        self.end_lease(lease).await.map_err(|error| error.with_operation("release lease"))
    }

    async fn put_connection(&self, connection: &ClientConnection) -> Result<()> {
        self.write_connection(connection).await.map_err(|error| error.with_operation("put connection"))
    }

    async fn list_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>> {
        self.read_connections(id).await.map_err(|error| error.with_operation("list connections"))
    }

    async fn remove_connection(&self, connection_id: Uuid) -> Result<()> {
        self.delete_connection(connection_id).await.map_err(|error| error.with_operation("remove connection"))
    }

    async fn put_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        self.write_api_key(key).await.map_err(|error| error.with_operation("put API key"))
    }

    async fn find_api_key(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        self.read_api_key(hash).await.map_err(|error| error.with_operation("find API key"))
    }

    async fn list_api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        self.read_api_keys().await.map_err(|error| error.with_operation("list API keys"))
    }

    async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        self.write_audit(entry).await.map_err(|error| error.with_operation("append audit entry"))
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        self.read_audit(limit).await.map_err(|error| error.with_operation("list audit entries"))
    }
}
