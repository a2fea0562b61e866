//! The audit log: every call that changes something, who made it, and the definition's digests around it.

use rmcp::model::CallToolResponse;
use serde_json::Value;
use time::OffsetDateTime;

use super::access::Access;
use super::call::Call;
use super::tool::{Effect, ToolEntry};
use crate::canonical::canonical_json;
use crate::keys::Scope;
use crate::name::{ServerKey, ServerName};
use crate::registry::AuditEntry;
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// What is known of a server before or after a call.
struct Seen {
    name: Option<ServerName>,
    digest: Option<Digest>,
}

/// Runs a call and writes down what it did: of code that runs, before it does; of a change, once it is made. What fails
/// may have made a part of it, and is written down as failed.
pub(super) async fn audited(call: Call, entry: &ToolEntry, arguments: Value) -> Result<CallToolResponse> {
    if entry.effect == Effect::Reads || entry.scope == Scope::Call {
        return entry.run(call, arguments).await;
    }
    let (meta, access) = (call.meta.clone(), call.access.clone());
    let key = server_of(entry, &arguments);
    let before = look(&meta, key.as_ref()).await;
    if entry.effect == Effect::Runs {
        write(&meta, &access, entry.name().to_owned(), [&before, &before]).await;
        return entry.run(call, arguments).await;
    }
    let response = entry.run(call, arguments).await;
    let action = match &response {
        Ok(CallToolResponse::Complete(result)) if result.is_error != Some(true) => entry.name().to_owned(),
        Err(error) if !is_refusal(error) => format!("{} failed", entry.name()),
        _ => return response,
    };
    let after = look(&meta, key.as_ref()).await;
    write(&meta, &access, action, [&before, &after]).await;
    response
}

/// Whether a call ended before it changed anything.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidDefinition | ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

async fn write(meta: &MetaMcp, access: &Access, action: String, [before, after]: [&Seen; 2]) {
    let audit = AuditEntry {
        at: OffsetDateTime::now_utc(),
        actor: access.actor().to_owned(),
        action,
        server: before.name.as_ref().or(after.name.as_ref()).cloned().map(Into::into),
        before: before.digest,
        after: after.digest,
    };
    // A caller who is told that a change which is made failed would make it again.
    if let Err(error) = meta.append_audit(&audit).await {
        tracing::error!(%error, ?audit, "the audit log could not be written");
    }
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
