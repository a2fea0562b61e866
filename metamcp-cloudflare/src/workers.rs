//! [`WorkerPublisher`]: servers as scripts of a Cloudflare account.
//!
//! A server is one script of its name, which carries a tag that makes it ours. Each version is uploaded as a version
//! of that script without being deployed, has a preview, and becomes live by a deployment. Until then a placeholder
//! answers. Versions can be uploaded again from D1, where their modules are kept, since an uploaded version has the
//! secrets of its time in it: one that is older than the last change of a secret is uploaded anew when it is activated.
//!
//! Cloudflare's own version history tells everything else: the annotation `workers/tag` of an upload names the version
//! of ours, and the newest upload has the present secrets.

mod account;
pub(crate) mod api;
mod arrival;
mod dispatch;
mod memory;
mod script;
mod store;
mod tail;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use metamcp_core::{
    Artifact, Endpoint, EnvName, Error, ErrorKind, LogLine, LogListener, LogOptions, PublishedServer, PublishedVersion,
    Publisher, Result, ServerRef, Staged, VersionId,
};
use secrecy::SecretString;
use uuid::Uuid;

use self::account::{Account, Callers};
use self::memory::Memory;
use self::script::OwnScript;
use self::store::Store;
use crate::client::Client;
use crate::config::Placement;
use crate::d1::D1Executor;

pub use self::dispatch::DispatchPublisher;

/// Servers whose live version is asked for at once.
const CONCURRENT: usize = 8;

/// Publishes servers as Workers of an account.
///
/// What it cannot do: `egress` is [`ErrorKind::Unsupported`], since an account's scripts reach the whole internet
/// ([`DispatchPublisher`] enforces it), and so is a version that lacks a Durable Object class of the server's. A server
/// with Durable Objects has no previews. Secrets are never rolled back.
///
/// A server with `auth` checks its callers' token itself. It takes one more token, which is derived from the API token:
/// that is how its endpoints are called from here, as a secret cannot be read back.
#[derive(Debug, Clone)]
pub struct WorkerPublisher {
    account: Account,
    store: Store,
    memory: Memory,
}

impl WorkerPublisher {
    /// Publishes for the registry in `database`, where it also keeps what it published. Scripts are ours if they carry
    /// a tag with this database's id. [`ErrorKind::ConfigInvalid`] while its servers are published elsewhere.
    pub async fn open(client: Client, database: D1Executor) -> Result<Self> {
        let account = Account::new(client, database.database_id());
        let store = Store::open(database, Placement::AccountScripts).await;
        let store = store.map_err(|error| error.with_operation("open publisher"))?;
        Ok(Self { account, store, memory: Memory::default() })
    }

    /// Keeps a resource of the account, by its id or name, from the bindings of servers. The registry's database and the
    /// Container Manager are in any case.
    #[must_use]
    pub fn with_private(mut self, id: &str) -> Self {
        self.account.keep_private(id);
        self
    }

    fn script<'a>(&'a self, server: &'a ServerRef) -> OwnScript<'a> {
        OwnScript { account: &self.account, store: &self.store, memory: &self.memory, server }
    }

    async fn endpoint_at(&self, label: &str, server: &ServerRef, callers: Callers) -> Result<Endpoint> {
        Ok(self.account.endpoint(self.account.scripts.url(label, "mcp").await?, server.id, callers))
    }

    async fn published(&self, script: api::Script) -> Result<Option<PublishedServer>> {
        let Some(server) = self.account.owner(&script.id, &script.tags.unwrap_or_default()) else { return Ok(None) };
        let active = self.script(&server).live_version().await?;
        Ok(Some(PublishedServer { server, active }))
    }
}

#[async_trait]
impl Publisher for WorkerPublisher {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        // Asked for first: of a version whose URL could not be told nobody would know.
        self.account.scripts.url(server.name.as_str(), "mcp").await?;
        let (version, upload) =
            self.script(server).stage(artifact).await.map_err(|error| error.with_operation("stage"))?;
        let preview = match upload {
            Some(upload) if !artifact.settings.has_durable_state() => {
                let label = format!("{}-{}", upload.get(..8).unwrap_or(&upload), server.name);
                let callers = Callers::with_token(artifact.settings.bearer_secret.is_some());
                Some(self.endpoint_at(&label, server, callers).await?)
            }
            _ => None,
        };
        Ok(Staged { version, preview })
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        let callers = self.script(server).activate(version).await.map_err(|error| error.with_operation("activate"))?;
        self.endpoint_at(server.name.as_str(), server, callers).await
    }

    /// [`CloudflareConfig::settle_time`](crate::CloudflareConfig::settle_time).
    fn settle_time(&self) -> Duration {
        self.account.client.config().settle_time()
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        // A version that is given up may have failed for something that was changed by hand.
        self.memory.forget(server.id);
        drop(self.memory.take_staged(version));
        if self.script(server).active().await?.as_ref() == Some(version) {
            return Err(is_live(server, version));
        }
        // Cloudflare removes no single version; it keeps the newest hundred.
        self.store.remove(server.id, version).await.map_err(|error| error.with_operation("discard"))
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        let stored = self.store.list(server.id).await?;
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.script(server).active().await?;
        Ok(stored.into_iter().map(|stored| stored.published(live.as_ref())).collect())
    }

    /// One request for all of them, and one for each server whose live version was deployed from here; two for others.
    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        let scripts = self.account.scripts.list().await.map_err(|error| error.with_operation("list servers"))?;
        published(scripts, |script| self.published(script)).await
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        let callers = self.script(server).live_callers().await?.ok_or_else(|| not_live(server))?;
        self.endpoint_at(server.name.as_str(), server, callers).await
    }

    /// What the server writes from now on, for the time of
    /// [`CloudflareConfig::log_window`](crate::CloudflareConfig::log_window) or until there are enough lines: Cloudflare
    /// keeps none of before. The server itself puts `[secret NAME]` in the place of a secret's value, since nobody else
    /// can read it. Errors that leave a timer's function count as logged.
    async fn logs(&self, server: &ServerRef, options: LogOptions) -> Result<Vec<LogLine>> {
        self.script(server).listen(options).await.map_err(|error| error.with_operation("logs"))
    }

    async fn listen(&self, server: &ServerRef, version: &VersionId) -> Result<Option<Box<dyn LogListener>>> {
        let listener = self.script(server).listen_to(version).await.map_err(|error| error.with_operation("listen"))?;
        Ok(Some(Box::new(listener)))
    }

    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        self.script(server).remove().await.map_err(|error| error.with_operation("unpublish"))
    }

    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()> {
        self.script(server).change_secret(name, Some(&value)).await.map_err(|error| error.with_operation("set_secret"))
    }

    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        self.script(server).change_secret(name, None).await.map_err(|error| error.with_operation("remove_secret"))
    }

    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        self.script(server).secret_names().await.map_err(|error| error.with_operation("list_secret_names"))
    }
}

/// Looks at scripts, several at once, for those of servers; in order of names.
async fn published<F>(scripts: Vec<api::Script>, look: impl Fn(api::Script) -> F) -> Result<Vec<PublishedServer>>
where
    F: Future<Output = Result<Option<PublishedServer>>>,
{
    let looked = stream::iter(scripts).map(look).buffer_unordered(CONCURRENT);
    let mut found: Vec<_> = looked.try_filter_map(async |server| Ok(server)).try_collect().await?;
    found.sort_by(|a, b| a.server.name.cmp(&b.server.name));
    Ok(found)
}

/// Tells of a script that is still there, though it never had a version and nobody asked for it.
fn warn_if_left(server: &ServerRef, removed: Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(%error, server = %server.name, "a script without versions could not be removed");
    }
}

/// Names of secrets in order, without our own keys: those are no names that a definition can have.
fn definable(secrets: Vec<String>) -> Vec<EnvName> {
    let mut names: Vec<EnvName> = secrets.into_iter().filter_map(|name| name.parse().ok()).collect();
    names.sort();
    names
}

fn not_live(server: &ServerRef) -> Error {
    Error::new(ErrorKind::NotFound, format!("server {} has no live version", server.name)).with_help("deploy it first")
}

/// The error of a Worker that answers with what was not deployed from here.
fn changed_outside(server: &ServerRef) -> Error {
    let message = format!("the Worker {} was changed outside Meta-MCP", server.name);
    Error::new(ErrorKind::Conflict, message).with_help("deploy the server to replace it")
}

/// The error of discarding a version that is served.
fn is_live(server: &ServerRef, version: &VersionId) -> Error {
    Error::new(ErrorKind::Conflict, format!("version {version} of server {} is live", server.name))
        .with_help("activate another version first")
}

/// The error of a version that is not among those that are kept.
fn not_listed(server: &ServerRef, version: &VersionId) -> Error {
    Error::new(ErrorKind::NotFound, format!("version {version} of server {} is not listed", server.name))
        .with_help("list the versions to see those that are kept")
}

/// A version's name.
fn new_version() -> Result<VersionId> {
    VersionId::try_from(Uuid::new_v4().to_string())
        .map_err(|error| Error::new(ErrorKind::Unexpected, "a UUID is no version id").with_source(error))
}

/// Refuses a version that would answer nobody, not even its own check.
fn check_bearer_secret(artifact: &Artifact, is_set: impl Fn(&str) -> bool) -> Result<()> {
    let Some(name) = artifact.settings.bearer_secret.as_ref().filter(|name| !is_set(name.as_str())) else {
        return Ok(());
    };
    let server = &artifact.settings.name;
    let message = format!("the secret {name}, which callers of server {server} authenticate with, is not set");
    Err(Error::new(ErrorKind::ConfigInvalid, message).with_help("set it, then deploy"))
}
