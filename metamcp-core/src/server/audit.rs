//! The audit log: every call that changes something, who made it, and the definition's digests around it.

use rmcp::model::CallToolResponse;
use serde_json::Value;
use time::OffsetDateTime;

use super::access::Access;
use super::tool::{Effect, ToolEntry};
use crate::canonical::canonical_json;
use crate::keys::Scope;
use crate::name::{ServerKey, ServerName};
use crate::registry::AuditEntry;
use crate::source_tree::Digest;
use crate::{MetaMcp, Result};

/// What is known of a server before or after a call.
struct Seen {
    name: Option<ServerName>,
    digest: Option<Digest>,
}

/// Runs a call and, if it changed something, writes down that it did. A call that failed changed nothing.
pub(super) async fn audited(
    meta: &MetaMcp,
    access: &Access,
    entry: &ToolEntry,
    arguments: &Value,
    work: impl Future<Output = Result<CallToolResponse>>,
) -> Result<CallToolResponse> {
    if entry.effect == Effect::Reads || entry.scope == Scope::Call {
        return work.await;
    }
    let key = server_of(entry, arguments);
    let before = look(meta, key.as_ref()).await;
    let response = work.await?;
    if !matches!(&response, CallToolResponse::Complete(result) if result.is_error != Some(true)) {
        return Ok(response);
    }
    let after = look(meta, key.as_ref()).await;
    let audit = AuditEntry {
        at: OffsetDateTime::now_utc(),
        actor: access.actor().to_owned(),
        action: entry.name().to_owned(),
        server: before.name.or(after.name).map(Into::into),
        before: before.digest,
        after: after.digest,
    };
    // The change is made: a caller who is told that it failed would make it again.
    if let Err(error) = meta.append_audit(&audit).await {
        tracing::error!(%error, ?audit, "the audit log could not be written");
    }
    Ok(response)
}

/// The server that a call is about, as its arguments name it.
fn server_of(entry: &ToolEntry, arguments: &Value) -> Option<ServerKey> {
    let creates = ["init_mcp_server", "import_server"].contains(&entry.name());
    let named = arguments.get("serverId").or_else(|| arguments.pointer("/definition/name"));
    let named = named.or_else(|| arguments.get("name").filter(|_| creates));
    named?.as_str()?.parse().ok()
}

async fn look(meta: &MetaMcp, key: Option<&ServerKey>) -> Seen {
    let none = Seen { name: None, digest: None };
    let Some(key) = key else { return none };
    let Ok(record) = meta.servers().get(key).await else { return none };
    Seen { name: Some(record.name), digest: Some(Digest::of(canonical_json(&record.definition))) }
}
