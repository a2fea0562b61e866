//! [`MetaMcp`]: the thin face over the four backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::Result;
use crate::builder::Builder;
use crate::connection::{Connections, TrustedHosts};
use crate::deploy::{Deployments, KnownLimits};
use crate::environments::Environments;
use crate::keys::ApiKeys;
use crate::kv_cache::KvCache;
use crate::name::EnvName;
use crate::private_egress::PrivateEgress;
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
    /// Where copies are kept that may be lost at any time.
    pub cache: Arc<dyn KvCache>,
    /// What turns source into artifacts.
    pub builder: Arc<dyn Builder>,
    /// What makes artifacts live.
    pub publisher: Arc<dyn Publisher>,
}

/// Everything Meta-MCP does, by facets. Cheap to clone; all clones share the backends.
///
/// `metamcp_local::open` and `metamcp_cloudflare::open` give a `MetaMcp` whose servers run. The one on
/// [`memory::backends`](crate::memory::backends) is for tests and examples: it keeps definitions, and runs nothing.
///
/// ```
/// use metamcp_core::{MetaMcp, ServerDefinition, ServerKey, ToolDefinition, edit, memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let meta = MetaMcp::new(memory::backends());
/// meta.servers().create(&ServerDefinition::new("dice", "Rolls dice.")).await?;
///
/// let key: ServerKey = "dice".parse()?;
/// let roll = ToolDefinition::new("roll", "Rolls a die.", "return 1 + Math.floor(6 * Math.random());");
/// meta.servers().edit(&key, |definition| edit::add_tool(definition, roll.clone())).await?;
///
/// let record = meta.servers().get(&key).await?;
/// assert_eq!((record.revision.0, record.definition.tools[0].name.as_str()), (2, "roll"));
/// assert!(record.live.is_none(), "until it is deployed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MetaMcp {
    backends: Arc<Backends>,
    holder: Arc<str>,
    limits: Arc<KnownLimits>,
    trusted: Arc<TrustedHosts>,
    private_egress: Arc<PrivateEgress>,
    host_secrets: Arc<BTreeMap<EnvName, SecretString>>,
    task: Option<Arc<AbortOnDropHandle<()>>>,
}

impl MetaMcp {
    /// Meta-MCP on the given backends.
    pub fn new(backends: Backends) -> Self {
        // Names this instance to others that find a lease taken.
        let holder = format!("process {} ({})", std::process::id(), Uuid::new_v4());
        let backends = Arc::new(traced_backends(backends));
        Self {
            backends,
            holder: holder.into(),
            limits: Arc::default(),
            trusted: Arc::default(),
            private_egress: Arc::default(),
            host_secrets: Arc::default(),
            task: None,
        }
    }

    /// Sets the hosts whose external servers may be connected to although they are private or speak plain HTTP.
    #[must_use]
    pub fn with_trusted_hosts(mut self, hosts: TrustedHosts) -> Self {
        self.trusted = Arc::new(hosts);
        self
    }

    /// Lets definitions that come in through the MCP server reach these private addresses; what a program writes by
    /// [`MetaMcp::servers`] may reach any.
    #[must_use]
    pub fn with_private_egress(mut self, allowed: PrivateEgress) -> Self {
        self.private_egress = Arc::new(allowed);
        self
    }

    /// What [`MetaMcp::with_private_egress`] allows.
    pub fn private_egress(&self) -> &PrivateEgress {
        &self.private_egress
    }

    /// Sets the values that callers may give to servers as secrets by name, without seeing them
    /// ([`Secrets::set_from_host`]). A caller who may write and deploy bodies can write one that returns such a value, so
    /// offer only what these callers may know.
    #[must_use]
    pub fn with_host_secrets(mut self, values: impl IntoIterator<Item = (EnvName, SecretString)>) -> Self {
        self.host_secrets = Arc::new(values.into_iter().collect());
        self
    }

    /// Ends a task with [`MetaMcp::close`], or with the last clone of this; for who opens a target and has work left. The
    /// task must not hold a clone of this. It takes the place of an earlier one.
    #[must_use]
    pub fn with_task(mut self, task: JoinHandle<()>) -> Self {
        self.task = Some(Arc::new(AbortOnDropHandle::new(task)));
        self
    }

    /// Definitions: create, read, change, list.
    pub fn servers(&self) -> Servers {
        Servers::new(self.backends.clone())
    }

    /// Live servers: deploy, roll back, verify, remove, reconcile.
    pub fn deployments(&self) -> Deployments {
        Deployments::new(self.backends.clone(), self.holder.clone(), self.limits.clone())
    }

    /// Values of the secrets that definitions name.
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.backends.clone(), self.holder.clone(), self.host_secrets.clone())
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

    /// Records who changed what.
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<()> {
        self.backends.registry.append_audit(entry).await
    }

    /// Who changed what, newest first, at most `limit`.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        self.backends.registry.list_audit(limit).await
    }

    /// Stops everything that this process runs and waits for its end. Opening the target again serves the deployed
    /// servers again. Idempotent. If several parts cannot be stopped, the error is the first one's; the others are tried
    /// all the same.
    pub async fn close(&self) -> Result<()> {
        if let Some(task) = &self.task {
            task.abort();
        }
        let (builder, publisher) = join(self.backends.builder.close(), self.backends.publisher.close()).await;
        builder.and(publisher)
    }
}
