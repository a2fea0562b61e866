//! Deployments, written only under a lease that is still held.

use serde_json::json;
use uuid::Uuid;

use super::leases::{SELECT_HOLDER, release};
use super::row::{Row, stamp};
use super::{Rows, SqlExecutor, SqlRegistry, Statement, now};
use crate::name::{ServerId, ServerName};
use crate::publisher::ServerRef;
use crate::registry::{DeploymentId, DeploymentRecord, Lease, LiveState, Revision, lease_lost, server_not_found};
use crate::{Error, ErrorKind, Result};

/// A write of a deployment, which statements behind it in the batch look for: the lease may end between two
/// statements.
pub(super) struct DeploymentWrite {
    pub(super) deployment: String,
    pub(super) id: String,
}

/// One statement, so that nothing comes between the lease's check and the write.
const UPSERT: &str = concat!(
    "INSERT INTO mcp_deployments
     (id, server_id, kind, step, revision, version, previous, error, write_id, created_at, updated_at)
     SELECT d ->> 'id', s.id, d ->> 'kind', d ->> 'step', d ->> 'revision', d ->> 'version', d ->> 'previous',
     d ->> 'error', d ->> 'writeId', d ->> 'createdAt', ",
    now!(),
    " FROM (SELECT ? AS d) CROSS JOIN mcp_servers AS s CROSS JOIN mcp_leases AS l
     WHERE s.id = ? AND l.name = ? AND l.fence = CAST(? AS INTEGER) AND l.expires_at > ",
    now!(),
    " ON CONFLICT (id) DO UPDATE SET step = excluded.step, version = excluded.version, previous = excluded.previous,
     error = excluded.error, write_id = excluded.write_id, updated_at = excluded.updated_at"
);

/// Whether [`UPSERT`] wrote. Where the batch is repeated since its answer was lost, the first time counts: it may have
/// given the lease back.
const SELECT_WRITTEN: &str = "SELECT 1 FROM mcp_deployments WHERE id = ? AND write_id = ?";

/// Follows [`UPSERT`] by its write id, and, where the batch is repeated, gives way to whoever took the lease meanwhile.
const SET_LIVE: &str = concat!(
    "UPDATE mcp_servers SET status = ?, deployment_url = ?, details = json_set(details, '$.live', json(?)),
     updated_at = ",
    now!(),
    " WHERE id = ? AND EXISTS (SELECT 1 FROM mcp_deployments AS d CROSS JOIN mcp_leases AS l
     WHERE d.id = ? AND d.write_id = ? AND l.name = ? AND l.fence = CAST(? AS INTEGER))"
);

macro_rules! select_deployments {
    ($behind:literal) => {
        concat!(
            "SELECT d.id, d.server_id, s.name, d.kind, d.step, d.revision, d.version, d.previous, d.error, d.created_at
             FROM mcp_deployments AS d JOIN mcp_servers AS s ON s.id = d.server_id ",
            $behind
        )
    };
}

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn write_deployment(&self, deployment: &DeploymentRecord, lease: &Lease) -> Result<()> {
        self.write_with(deployment, lease, |_| Ok(Vec::new())).await.map(drop)
    }

    pub(super) async fn end_deployment(
        &self,
        deployment: &DeploymentRecord,
        live: Option<&LiveState>,
        lease: &Lease,
    ) -> Result<()> {
        let more = |write: &DeploymentWrite| {
            let set_live = live.map(|live| set_live(deployment, live, write, lease)).transpose()?;
            Ok(set_live.into_iter().chain([release(lease)]).collect())
        };
        self.write_with(deployment, lease, more).await.map(drop)
    }

    /// Writes a deployment and, in the same batch, what follows it; returns the rows of what follows.
    pub(super) async fn write_with(
        &self,
        deployment: &DeploymentRecord,
        lease: &Lease,
        more: impl FnOnce(&DeploymentWrite) -> Result<Vec<Statement>>,
    ) -> Result<Vec<Rows>> {
        let id = deployment.server.id;
        let write = DeploymentWrite { deployment: deployment.id.0.to_string(), id: Uuid::new_v4().to_string() };
        let mut batch = vec![
            upsert(deployment, lease, &write.id),
            Statement::new(SELECT_WRITTEN, [write.deployment.clone(), write.id.clone()]),
            Statement::new(SELECT_HOLDER, [lease.name.clone()]),
            Statement::new("SELECT 1 FROM mcp_servers WHERE id = ?", [id.to_string()]),
        ];
        let own = batch.len();
        batch.extend(more(&write)?);
        let mut results = self.executor.execute(batch).await?;
        let row = |index: usize| results.get(index).and_then(|rows| rows.first()).map(|row| Row(row));
        if row(1).is_some() {
            Ok(results.split_off(own))
        } else if row(3).is_none() {
            Err(server_not_found(&id.into()))
        } else {
            Err(lease_lost(lease, row(2).map(|holder| holder.text(0)).transpose()?))
        }
    }

    pub(super) async fn read_deployments(&self, id: ServerId, limit: u32) -> Result<Vec<DeploymentRecord>> {
        let sql = select_deployments!(
            "WHERE d.server_id = ? ORDER BY d.created_at DESC, d.sequence DESC LIMIT CAST(? AS INTEGER)"
        );
        let [rows] = self.run([Statement::new(sql, [id.to_string(), limit.to_string()])]).await?;
        records(&rows)
    }

    pub(super) async fn read_pending_deployments(&self) -> Result<Vec<DeploymentRecord>> {
        // The condition is word for word that of the index.
        let sql = select_deployments!("WHERE d.step NOT IN ('live', 'failed') ORDER BY d.created_at, d.sequence");
        let [rows] = self.run([Statement::new(sql, [])]).await?;
        records(&rows)
    }
}

fn upsert(deployment: &DeploymentRecord, lease: &Lease, write_id: &str) -> Statement {
    let DeploymentRecord { id, server, kind, step, revision, version, previous, error, created_at } = deployment;
    let record = json!({
        "id": id.0, "kind": kind, "step": step.as_str(), "revision": revision, "version": version,
        "previous": previous, "writeId": write_id, "createdAt": stamp(*created_at),
        // SQLite's JSON functions end a text at NUL, which a tool's output may hold.
        "error": error.as_ref().map(|error| error.replace('\0', "\u{fffd}")),
    });
    let fence = lease.fence.to_string();
    Statement::new(UPSERT, [record.to_string(), server.id.to_string(), lease.name.clone(), fence])
}

fn set_live(
    deployment: &DeploymentRecord,
    live: &LiveState,
    write: &DeploymentWrite,
    lease: &Lease,
) -> Result<Statement> {
    let text = serde_json::to_string(live)
        .map_err(|source| Error::new(ErrorKind::Unexpected, "a live state did not serialize").with_source(source))?;
    let (server, status) = (deployment.server.id.to_string(), live.status.as_str().to_owned());
    let (deployment, write_id) = (write.deployment.clone(), write.id.clone());
    let (name, fence) = (lease.name.clone(), lease.fence.to_string());
    Ok(Statement::new(SET_LIVE, [status, live.url.to_string(), text, server, deployment, write_id, name, fence]))
}

fn records(rows: &Rows) -> Result<Vec<DeploymentRecord>> {
    rows.iter().map(|row| record(Row(row))).collect()
}

fn record(row: Row<'_>) -> Result<DeploymentRecord> {
    let name: ServerName = row.parsed(2)?;
    Ok(DeploymentRecord {
        id: DeploymentId(row.parsed(0)?),
        server: ServerRef { id: ServerId(row.parsed(1)?), name },
        kind: row.word(3)?,
        step: row.word(4)?,
        revision: Revision(row.integer(5)?),
        version: row.optional_parsed(6)?,
        previous: row.optional_parsed(7)?,
        error: row.optional_text(8)?.map(str::to_owned),
        created_at: row.time(9)?,
    })
}
