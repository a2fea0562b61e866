//! API keys and audit entries: who may do what, and who did what.

use serde_json::json;
use uuid::Uuid;

use super::row::{Row, stamp};
use super::{SqlExecutor, SqlRegistry, Statement, now};
use crate::Result;
use crate::registry::{AUDIT_ENTRIES, ApiKeyRecord, AuditEntry, api_key_exists};
use crate::source_tree::Digest;

const UPSERT_KEY: &str = concat!(
    "INSERT INTO mcp_api_keys (id, name, hash, scopes, servers, expires_at, revoked_at, created_at, updated_at)
     SELECT k ->> 'id', k ->> 'name', k ->> 'hash', k ->> 'scopes', k ->> 'servers', k ->> 'expiresAt',
     k ->> 'revokedAt', ",
    now!(),
    ", ",
    now!(),
    " FROM (SELECT ? AS k)
     WHERE NOT EXISTS (SELECT 1 FROM mcp_api_keys AS o WHERE o.hash = k ->> 'hash' AND o.id <> k ->> 'id')
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, hash = excluded.hash, scopes = excluded.scopes,
     servers = excluded.servers, expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
     updated_at = excluded.updated_at
     RETURNING id"
);

macro_rules! select_keys {
    ($behind:literal) => {
        concat!("SELECT id, name, hash, scopes, servers, expires_at, revoked_at FROM mcp_api_keys ", $behind)
    };
}

const INSERT_AUDIT: &str = concat!(
    "INSERT INTO mcp_audit
     (id, at, actor, action, outcome, subject, server, before, after, created_at, updated_at)
     SELECT ?, a ->> 'at', a ->> 'actor', a ->> 'action', a ->> 'outcome', a ->> 'subject', a ->> 'server',
     a ->> 'before', a ->> 'after', ",
    now!(),
    ", ",
    now!(),
    " FROM (SELECT ? AS a) WHERE true ON CONFLICT (id) DO NOTHING"
);

/// Costs next to nothing where there is nothing to remove: both ends of the range are looked up.
const PRUNE_AUDIT: &str =
    "DELETE FROM mcp_audit WHERE sequence <= (SELECT max(sequence) FROM mcp_audit) - CAST(? AS INTEGER)";

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn write_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        let text = json!({
            "id": key.id,
            "name": key.name,
            "hash": key.hash,
            "scopes": json!(key.scopes).to_string(),
            "servers": json!(key.servers).to_string(),
            "expiresAt": key.expires_at.map(stamp),
            "revokedAt": key.revoked_at.map(stamp),
        });
        let [rows] = self.run([Statement::new(UPSERT_KEY, [text.to_string()])]).await?;
        if rows.is_empty() { Err(api_key_exists()) } else { Ok(()) }
    }

    pub(super) async fn read_api_key(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        let select = Statement::new(select_keys!("WHERE hash = ?"), [hash.to_string()]);
        let [rows] = self.run([select]).await?;
        rows.first().map(|row| api_key(Row(row))).transpose()
    }

    pub(super) async fn read_api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        let [rows] = self.run([Statement::new(select_keys!("ORDER BY sequence"), [])]).await?;
        rows.iter().map(|row| api_key(Row(row))).collect()
    }

    pub(super) async fn write_audit(&self, entry: &AuditEntry) -> Result<()> {
        let AuditEntry { at, actor, action, outcome, subject, server, before, after } = entry;
        let text = json!({
            "at": stamp(*at), "actor": actor, "action": action, "outcome": outcome, "subject": subject,
            "server": server, "before": before, "after": after,
        });
        let id = Uuid::new_v4().to_string();
        let insert = Statement::new(INSERT_AUDIT, [id, text.to_string()]);
        self.run([insert, Statement::new(PRUNE_AUDIT, [AUDIT_ENTRIES.to_string()])]).await?;
        Ok(())
    }

    pub(super) async fn read_audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        let sql = "SELECT at, actor, action, server, before, after, outcome, subject FROM mcp_audit
             ORDER BY sequence DESC LIMIT CAST(? AS INTEGER)";
        let [rows] = self.run([Statement::new(sql, [limit.to_string()])]).await?;
        rows.iter().map(|row| audit_entry(Row(row))).collect()
    }
}

fn api_key(row: Row<'_>) -> Result<ApiKeyRecord> {
    Ok(ApiKeyRecord {
        id: row.parsed(0)?,
        name: row.text(1)?.to_owned(),
        hash: row.parsed(2)?,
        scopes: row.json(3)?,
        servers: row.json(4)?,
        expires_at: row.optional_time(5)?,
        revoked_at: row.optional_time(6)?,
    })
}

fn audit_entry(row: Row<'_>) -> Result<AuditEntry> {
    Ok(AuditEntry {
        at: row.time(0)?,
        actor: row.text(1)?.to_owned(),
        action: row.text(2)?.to_owned(),
        outcome: row.word(6)?,
        subject: row.optional_text(7)?.map(str::to_owned),
        server: row.optional_text(3)?.map(str::to_owned),
        before: row.optional_parsed(4)?,
        after: row.optional_parsed(5)?,
    })
}
