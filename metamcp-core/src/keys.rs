//! [`ApiKeys`]: who may use Meta-MCP over HTTP, and for what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::meta_mcp::Backends;
use crate::name::NameError;
use crate::registry::ApiKeyRecord;
use crate::source_tree::Digest;
use crate::text::is_unprintable;
use crate::trace::{traced, verb};
use crate::{Error, ErrorKind, Result};

/// What every key begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "mmk_";
/// Hexadecimal digits of the two UUIDs behind it.
const DIGITS: usize = 64;
const MAX_NAME: usize = 128;
const MAX_PATTERNS: usize = 100;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// See definitions, code, versions and logs.
    Read,
    /// Call tools of live servers.
    Call,
    /// Change definitions; what is live stays as it is.
    Write,
    /// Change what is live, run code that is not, and set secrets.
    Deploy,
    /// Run commands in containers.
    Exec,
    /// Everything, also keys and the audit log.
    Admin,
}

impl Scope {
    /// All scopes, from the least to the most.
    pub const ALL: &[Self] = &[Self::Read, Self::Call, Self::Write, Self::Deploy, Self::Exec, Self::Admin];

    /// The scope as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Call => "call",
            Self::Write => "write",
            Self::Deploy => "deploy",
            Self::Exec => "exec",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| {
            NameError::new(format!("{text:?} is no scope"), "scopes are read, call, write, deploy, exec and admin")
        })
    }
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewApiKey {
    /// Name for people and the audit log.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Names of servers it is limited to, with `*` for any text; empty for all.
    pub servers: Vec<String>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl NewApiKey {
    /// A key with these scopes, for all servers and without an end.
    pub fn new(name: impl Into<String>, scopes: impl Into<Vec<Scope>>) -> Self {
        Self { name: name.into(), scopes: scopes.into(), servers: Vec::new(), expires_at: None }
    }
}

/// Keys for Meta-MCP's own HTTP endpoint. Cheap to clone.
///
/// ```
/// use metamcp_core::{ErrorKind, MetaMcp, NewApiKey, Scope, memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let meta = MetaMcp::new(memory::backends());
/// let mut new = NewApiKey::new("dashboard", [Scope::Read, Scope::Call]);
/// new.servers = vec!["team-*".to_owned()];
/// let (record, key) = meta.api_keys().create(new).await?; // the key is shown this once
/// assert_eq!(meta.api_keys().authenticate(&key).await?.id, record.id);
///
/// meta.api_keys().revoke(record.id).await?;
/// let refused = meta.api_keys().authenticate(&key).await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ApiKeys {
    backends: Arc<Backends>,
}

impl ApiKeys {
    pub(crate) fn new(backends: Arc<Backends>) -> Self {
        Self { backends }
    }

    /// Makes a key. It is returned this once: the registry keeps its hash.
    pub async fn create(&self, new: NewApiKey) -> Result<(ApiKeyRecord, SecretString)> {
        traced(verb!(INFO, "api_keys.create"), async move {
            check(&new)?;
            // Two random UUIDs: 244 bits of the system's randomness.
            let key = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            let record = ApiKeyRecord {
                id: Uuid::new_v4(),
                name: new.name,
                hash: Digest::of(&key),
                scopes: new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
                servers: new.servers,
                expires_at: new.expires_at,
                revoked_at: None,
            };
            self.backends.registry.put_api_key(&record).await?;
            Ok((record, key.into()))
        })
        .await
    }

    /// All keys, also revoked and expired ones, in order of creation.
    pub async fn list(&self) -> Result<Vec<ApiKeyRecord>> {
        traced(verb!(DEBUG, "api_keys.list"), self.backends.registry.list_api_keys()).await
    }

    /// Whether somebody holds a key that can make and end others: valid, with scope `admin`, for all servers.
    pub async fn has_admin(&self) -> Result<bool> {
        traced(verb!(DEBUG, "api_keys.has_admin"), async move {
            let is_admin = |key: &ApiKeyRecord| key.scopes.iter().any(|scope| scope == Scope::Admin.as_str());
            let keys = self.list().await?;
            Ok(keys.iter().any(|key| is_valid(key) && is_admin(key) && key.servers.is_empty()))
        })
        .await
    }

    /// Ends a key now; a running endpoint may take it for two seconds more, and ends its streams within five.
    /// Idempotent; [`ErrorKind::NotFound`] for an unknown id.
    pub async fn revoke(&self, id: Uuid) -> Result<ApiKeyRecord> {
        traced(verb!(INFO, "api_keys.revoke", %id), async move {
            let keys = self.backends.registry.list_api_keys().await?;
            let Some(mut key) = keys.into_iter().find(|key| key.id == id) else {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no API key {id}")));
            };
            if key.revoked_at.is_none() {
                key.revoked_at = Some(OffsetDateTime::now_utc());
                self.backends.registry.put_api_key(&key).await?;
            }
            Ok(key)
        })
        .await
    }

    /// The key, if it is known, not revoked and not expired; else [`ErrorKind::Unauthenticated`], which does not say
    /// which of these it was.
    pub async fn authenticate(&self, key: &SecretString) -> Result<ApiKeyRecord> {
        traced(verb!(DEBUG, "api_keys.authenticate"), async move {
            let found = match key.expose_secret() {
                text if is_key(text) => self.find(&Digest::of(text)).await?,
                _ => None,
            };
            found.filter(is_valid).ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the API key is not valid"))
        })
        .await
    }

    /// The key of this hash, also one that is not valid. How long a look-up by hash takes says nothing about a key.
    pub(crate) async fn find(&self, hash: &Digest) -> Result<Option<ApiKeyRecord>> {
        self.backends.registry.find_api_key(hash).await
    }
}

/// Whether this has the form of a key; what has not need not be looked up.
pub(crate) fn is_key(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_digit))
}

pub(crate) fn is_valid(key: &ApiKeyRecord) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > OffsetDateTime::now_utc())
}

fn check(new: &NewApiKey) -> Result<()> {
    let problem = if new.name.is_empty() || new.name.len() > MAX_NAME || new.name.chars().any(is_unprintable) {
        format!("its name must have 1 to {MAX_NAME} bytes, without control characters and what hides text")
    } else if new.scopes.is_empty() {
        "it needs a scope: read, call, write, deploy, exec or admin".to_owned()
    } else if new.servers.len() > MAX_PATTERNS || new.servers.iter().any(|pattern| !is_pattern(pattern)) {
        format!("it may have {MAX_PATTERNS} patterns of server names, each 1 to 64 of a-z, 0-9, '-' and '*'")
    } else if new.expires_at.is_some_and(|end| end <= OffsetDateTime::now_utc()) {
        "its end has passed".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::ConfigInvalid, format!("no API key was made: {problem}")))
}

fn is_pattern(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*');
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryBuilder, MemoryKvCache, MemoryPublisher, MemoryRegistry};

    fn keys() -> ApiKeys {
        ApiKeys::new(Arc::new(Backends {
            registry: Arc::new(MemoryRegistry::new()),
            cache: Arc::new(MemoryKvCache::new()),
            builder: Arc::new(MemoryBuilder::new()),
            publisher: Arc::new(MemoryPublisher::new()),
        }))
    }

    fn new(name: &str) -> NewApiKey {
        NewApiKey::new(name, [Scope::Read])
    }

    #[tokio::test]
    async fn a_key_works_until_it_is_revoked_and_is_not_stored() {
        let keys = keys();
        let (record, key) = keys.create(new("agent")).await.unwrap();
        assert_eq!(keys.authenticate(&key).await.unwrap(), record);
        let stored = format!("{:?}", keys.list().await.unwrap());
        assert!(!stored.contains(key.expose_secret()), "{stored}");
        keys.revoke(record.id).await.unwrap();
        keys.revoke(record.id).await.unwrap();
        assert_eq!(keys.authenticate(&key).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }

    #[tokio::test]
    async fn only_a_valid_key_for_everything_is_an_admins() {
        let keys = keys();
        let admin = NewApiKey { scopes: vec![Scope::Admin], ..new("admin") };
        keys.create(new("reader")).await.unwrap();
        keys.create(NewApiKey { servers: vec!["team-*".to_owned()], ..admin.clone() }).await.unwrap();
        assert!(!keys.has_admin().await.unwrap());
        let (record, _) = keys.create(admin).await.unwrap();
        assert!(keys.has_admin().await.unwrap());
        let past = ApiKeyRecord { expires_at: Some(OffsetDateTime::UNIX_EPOCH), ..record.clone() };
        keys.backends.registry.put_api_key(&past).await.unwrap();
        assert!(!keys.has_admin().await.unwrap());
        keys.backends.registry.put_api_key(&record).await.unwrap();
        keys.revoke(record.id).await.unwrap();
        assert!(!keys.has_admin().await.unwrap());
    }

    #[tokio::test]
    async fn keys_that_say_nothing_are_refused() {
        let keys = keys();
        let past = Some(OffsetDateTime::UNIX_EPOCH);
        for new in [
            new(""),
            new("reader\u{202e}nimda"),
            NewApiKey { scopes: Vec::new(), ..new("a") },
            NewApiKey { servers: vec!["Team/*".to_owned()], ..new("a") },
            NewApiKey { expires_at: past, ..new("a") },
        ] {
            assert_eq!(keys.create(new).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);
        }
    }
}
