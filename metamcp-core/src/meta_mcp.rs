//! [`MetaMcp`]: the thin face over the four backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use uuid::Uuid;

use crate::Result;
use crate::builder::Builder;
use crate::connection::{Connections, TrustedHosts};
use crate::deploy::Deployments;
use crate::environments::Environments;
use crate::keys::ApiKeys;
use crate::kv_cache::KvCache;
use crate::name::EnvName;
use crate::publisher::Publisher;
use crate::registry::{AuditEntry, Registry};
use crate::secrets::Secrets;
use crate::servers::Servers;
use crate::trace::traced_backends;

/// The four backends of a target.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Where definitions and deployments are recorded.
    pub registry: Arc<dyn Registry>,
    /// What may be forgotten.
    pub cache: Arc<dyn KvCache>,
    /// What turns source into artifacts.
    pub builder: Arc<dyn Builder>,
    /// What makes artifacts live.
    pub publisher: Arc<dyn Publisher>,
}

/// Everything Meta-MCP does, by facets. Cheap to clone; all clones share the backends.
#[derive(Debug, Clone)]
pub struct MetaMcp {
    backends: Arc<Backends>,
    holder: Arc<str>,
    trusted: Arc<TrustedHosts>,
    host_secrets: Arc<BTreeMap<EnvName, SecretString>>,
}

impl MetaMcp {
    /// Meta-MCP on the given backends.
    pub fn new(backends: Backends) -> Self {
        // Names this instance to others that find a lease taken.
        let holder = format!("process {} ({})", std::process::id(), Uuid::new_v4());
        let backends = Arc::new(traced_backends(backends));
        Self { backends, holder: holder.into(), trusted: Arc::default(), host_secrets: Arc::default() }
    }

    /// Lets external servers on these hosts be connected to, though they are private or speak plain HTTP.
    #[must_use]
    pub fn with_trusted_hosts(mut self, hosts: TrustedHosts) -> Self {
        self.trusted = Arc::new(hosts);
        self
    }

    /// Values that callers may set as secrets of servers by naming them ([`Secrets::set_from_host`]), without seeing
    /// them. Whoever may write and deploy bodies can make one that tells such a value: offer what those may have.
    #[must_use]
    pub fn with_host_secrets(mut self, values: impl IntoIterator<Item = (EnvName, SecretString)>) -> Self {
        self.host_secrets = Arc::new(values.into_iter().collect());
        self
    }

    /// Definitions: create, read, change, list.
    pub fn servers(&self) -> Servers {
        Servers::new(self.backends.clone())
    }

    /// Live servers: deploy, roll back, verify, remove, reconcile.
    pub fn deployments(&self) -> Deployments {
        Deployments::new(self.backends.clone(), self.holder.clone())
    }

    /// Values of the secrets that definitions name.
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.backends.clone(), self.host_secrets.clone())
    }

    /// Isolated places where commands run.
    pub fn environments(&self) -> Environments {
        Environments::new(self.backends.clone())
    }

    /// External MCP servers that servers work with.
    pub fn connections(&self) -> Connections {
        Connections::new(self.backends.clone(), self.trusted.clone())
    }

    /// Keys for Meta-MCP's own HTTP endpoint.
    pub fn api_keys(&self) -> ApiKeys {
        ApiKeys::new(self.backends.clone())
    }

    /// Writes down who changed what.
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        self.backends.registry.append_audit(entry).await
    }

    /// Who changed what, newest first, at most `limit`.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        self.backends.registry.list_audit(limit).await
    }

    /// Stops what this process runs and waits for it. Deployed servers are served again when the target is opened
    /// again. Idempotent.
    pub async fn close(&self) -> Result<()> {
        self.backends.builder.close().await?;
        self.backends.publisher.close().await
    }
}
