//! API keys and the audit log.

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Done;
use super::servers::{NoArguments, text_of};
use crate::keys::{NewApiKey, Scope};
use crate::registry::{ApiKeyRecord, AuditEntry};
use crate::server::audit::without_ended;
use crate::server::call::Call;
use crate::{Error, ErrorKind, Result};

/// Entries of the audit log, unless more are asked for.
const ENTRIES: u32 = 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct CreateKey {
    name: String,
    scopes: Vec<Scope>,
    /// Server names, '*' for any text; default all
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    servers: Option<Vec<String>>,
    /// Default: no end
    #[schemars(range(min = 1, max = 3650))]
    expires_in_days: Option<i64>,
}

// No `Debug`: it would show the key.
#[derive(Serialize, JsonSchema)]
pub(in crate::server) struct CreatedKey {
    id: String,
    /// Shown this once
    key: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct RevokeKey {
    id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Keys {
    keys: Vec<Key>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    name: String,
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl From<ApiKeyRecord> for Key {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name,
            scopes: record.scopes,
            servers: record.servers,
            expires_at: record.expires_at.map(text_of),
            revoked_at: record.revoked_at.map(text_of),
        }
    }
}

pub(in crate::server) async fn create(call: Call, params: CreateKey) -> Result<CreatedKey> {
    call.unlimited()?;
    let expires_at = params.expires_in_days.map(|days| OffsetDateTime::now_utc() + Duration::days(days));
    // Whoever computed a list that came out empty does not mean all servers.
    if params.servers.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::new(ErrorKind::InvalidDefinition, "servers is empty: the key would allow nothing")
            .with_help("name the servers, or leave `servers` out for a key for all of them"));
    }
    let servers = params.servers.unwrap_or_default();
    let new = NewApiKey { name: params.name, scopes: params.scopes, servers, expires_at };
    let (record, key) = call.meta.api_keys().create(new).await?;
    call.is_about(named(&record));
    Ok(CreatedKey { id: record.id.to_string(), key: key.expose_secret().to_owned() })
}

pub(in crate::server) async fn list(call: Call, _: NoArguments) -> Result<Keys> {
    call.unlimited()?;
    Ok(Keys { keys: call.meta.api_keys().list().await?.into_iter().map(Into::into).collect() })
}

pub(in crate::server) async fn revoke(call: Call, params: RevokeKey) -> Result<Done> {
    call.unlimited()?;
    let unknown = || Error::new(ErrorKind::NotFound, "there is no API key with this id");
    let id: Uuid = params.id.parse().map_err(|_| unknown().with_help("list_api_keys shows the ids"))?;
    call.is_about(named(&call.meta.api_keys().revoke(id).await?));
    Ok(Done::YES)
}

/// A key as the audit log names it.
fn named(key: &ApiKeyRecord) -> String {
    let ApiKeyRecord { id, name, scopes, servers, .. } = key;
    let servers = if servers.is_empty() { "*".to_owned() } else { servers.join(",") };
    format!("{id} {name} {} {servers}", scopes.join(","))
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct ListAudit {
    /// Default 20
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct AuditLog {
    /// Newest first
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    entries: Vec<AuditEntry>,
}

pub(in crate::server) async fn audit(call: Call, params: ListAudit) -> Result<AuditLog> {
    call.unlimited()?;
    let limit = params.limit.unwrap_or(ENTRIES);
    // A change has two entries at most, of which one is shown.
    let mut entries = without_ended(call.meta.audit(limit.saturating_mul(2)).await?);
    entries.truncate(limit as usize);
    Ok(AuditLog { entries })
}
