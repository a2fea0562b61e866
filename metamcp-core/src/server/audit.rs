//! The audit log: every call that changes something, who made it, and the definition's digests around it.

use rmcp::model::CallToolResponse;
use serde_json::Value;
use time::OffsetDateTime;

use super::call::Call;
use super::tool::{Effect, ToolEntry};
use crate::canonical::canonical_json;
use crate::keys::Scope;
use crate::name::{ServerKey, ServerName};
use crate::registry::{AuditEntry, AuditOutcome};
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// What is known of a server before or after a call.
struct Seen {
    name: Option<ServerName>,
    digest: Option<Digest>,
}

/// A call that is written down.
struct Audited {
    call: Call,
    action: String,
    before: Seen,
}

/// Runs a call and writes down what it did. What takes its time, runs code or is about more than the registry is written
/// down before it is begun, too; where that cannot be, it is refused. What fails may have made a part of its change, and
/// is written down as failed.
pub(super) async fn audited(call: Call, entry: &ToolEntry, arguments: Value) -> Result<CallToolResponse> {
    if !entry.is_audited {
        return entry.run(call, arguments).await;
    }
    if let Some(subject) = entry.subject(&arguments) {
        call.is_about(subject);
    }
    let key = server_of(entry, &arguments);
    let before = look(&call.meta, key.as_ref()).await;
    // A change that is about a server that is not there is refused at once.
    let changes_more = entry.scope != Scope::Write && (key.is_none() || before.name.is_some());
    let is_begun = entry.effect == Effect::Runs || changes_more;
    let audited = Audited { call: call.clone(), action: entry.name().to_owned(), before };
    if is_begun {
        audited.write(AuditOutcome::Begun, &audited.before).await.map_err(|error| not_begun(entry, error))?;
    }
    let response = entry.run(call, arguments).await;
    let outcome = outcome_of(entry, &response);
    if outcome == AuditOutcome::Refused && !is_begun {
        return response;
    }
    let after = look(&audited.call.meta, key.as_ref()).await;
    // A caller who is told that a change which is made failed would make it again.
    if let Err(error) = audited.write(outcome, &after).await {
        let Audited { call, action, .. } = &audited;
        let (actor, subject) = (call.access.actor(), call.subject());
        tracing::error!(%error, actor, action, ?subject, ?outcome, "the audit log could not be written");
    }
    response
}

impl Audited {
    async fn write(&self, outcome: AuditOutcome, after: &Seen) -> Result<()> {
        let Self { call, action, before } = self;
        let entry = AuditEntry {
            at: OffsetDateTime::now_utc(),
            actor: call.access.actor().to_owned(),
            action: action.clone(),
            outcome,
            subject: call.subject(),
            server: before.name.as_ref().or(after.name.as_ref()).cloned().map(Into::into),
            before: before.digest,
            after: after.digest,
        };
        call.meta.append_audit(&entry).await
    }
}

fn not_begun(entry: &ToolEntry, error: Error) -> Error {
    let message = format!("{} was not begun, since the audit log cannot be written", entry.name());
    Error::new(error.kind(), message).with_retryable(error.is_retryable()).with_source(error)
}

fn outcome_of(entry: &ToolEntry, response: &Result<CallToolResponse>) -> AuditOutcome {
    match response {
        Ok(CallToolResponse::Complete(result)) if result.is_error != Some(true) => AuditOutcome::Done,
        // The code that ran says so, or the arguments were none.
        Ok(_) if entry.effect == Effect::Runs => AuditOutcome::Failed,
        Err(error) if !is_refusal(error) => AuditOutcome::Failed,
        _ => AuditOutcome::Refused,
    }
}

/// The entries without those of changes that have ended, and of which nothing was changed; newest first.
pub(super) fn without_ended(entries: Vec<AuditEntry>) -> Vec<AuditEntry> {
    let mut ended: Vec<(String, String, Option<String>)> = Vec::new();
    let mut kept = Vec::new();
    for entry in entries {
        let change = (entry.actor.clone(), entry.action.clone(), entry.server.clone());
        if entry.outcome == AuditOutcome::Begun {
            match ended.iter().position(|other| *other == change) {
                Some(at) => _ = ended.swap_remove(at),
                None => kept.push(entry),
            }
            continue;
        }
        ended.push(change);
        if entry.outcome != AuditOutcome::Refused {
            kept.push(entry);
        }
    }
    kept
}

/// Whether a call ended before it changed anything.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidDefinition | ErrorKind::NotFound | ErrorKind::PermissionDenied)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_change_that_has_ended_its_end_is_shown() {
        use AuditOutcome::{Begun, Done, Failed, Refused};
        let entry = |action: &str, outcome, server: &str| AuditEntry {
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "stdio".to_owned(),
            action: action.to_owned(),
            outcome,
            subject: None,
            server: Some(server.to_owned()),
            before: None,
            after: None,
        };
        let entries = vec![
            entry("rollback", Refused, "a"),
            entry("deploy", Done, "a"),
            entry("rollback", Begun, "a"),
            entry("deploy", Begun, "b"),
            entry("deploy", Begun, "a"),
            entry("deploy", Begun, "a"),
            entry("deploy", Failed, "b"),
            entry("deploy", Begun, "b"),
        ];
        let shown = [("deploy", Done, "a"), ("deploy", Begun, "b"), ("deploy", Begun, "a"), ("deploy", Failed, "b")];
        assert_eq!(without_ended(entries), shown.map(|(action, outcome, server)| entry(action, outcome, server)));
    }
}
