//! [`DispatchPublisher`]: servers as scripts of a dispatch namespace (Workers for Platforms).
//!
//! There a script has no versions, no previews and no URL of its own: each upload is live at once. Versions are kept in
//! D1, and to activate one is to upload it. A tag names the version that is live. Two Workers of the account serve the
//! namespace: the dispatcher answers at `/<server>/mcp`, and the outbound Worker enforces `egress`.

mod api;
mod egress;
mod front;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::{
    Artifact, COMPATIBILITY_DATE, Endpoint, EnvName, Error, ErrorKind, LogLine, LogOptions, PublishedServer,
    PublishedVersion, Publisher, Result, ServerId, ServerRef, Staged, VersionId,
};
use secrecy::SecretString;
use tokio::sync::Mutex;
use url::Url;

use self::api::{Namespace, Settings};
use self::front::Front;
use super::account::{Account, Callers};
use super::memory::{Memory, StagedVersion};
use super::store::Store;
use super::upload::{CHECK_KEY, Target, Upload, check_supported};
use super::{check_bearer_secret, definable, is_live, new_version, not_listed, not_live, published, warn_if_left};
use crate::client::Client;
use crate::config::Placement;
use crate::d1::D1Executor;

/// Tag that names the version of ours that is live.
const VERSION_TAG: &str = "metamcp-version:";

/// Publishes servers as Workers of a dispatch namespace.
///
/// `egress` is enforced by the outbound Worker, by host name or address: a name that leads to a private address cannot
/// be told from others there, and Cloudflare's network has no way to an address that is private elsewhere. A server
/// without `egress` reaches the public internet.
///
/// [`ErrorKind::Unsupported`]: Durable Objects (requests that they make do not pass the outbound Worker) and
/// [`Publisher::logs`]. No version has a preview. Secrets are never rolled back.
#[derive(Debug, Clone)]
pub struct DispatchPublisher {
    account: Account,
    namespace: Namespace,
    store: Store,
    memory: Memory,
    /// Whether the dispatcher and the outbound Worker were seen.
    front_seen: Arc<Mutex<bool>>,
}

/// A script of the namespace that is ours.
#[derive(Debug, Default)]
struct Found {
    /// The version that is live.
    version: Option<VersionId>,
    secrets: Vec<String>,
    callers: Callers,
    /// Whether it was made just now.
    made: bool,
}

impl DispatchPublisher {
    /// Publishes for the registry in `database`, where it also keeps what it published, into the dispatch namespace
    /// `namespace`, which is made if there is none. One namespace serves one registry.
    /// [`ErrorKind::ConfigInvalid`] while the registry's servers are published elsewhere.
    pub async fn open(client: Client, database: D1Executor, namespace: &str) -> Result<Self> {
        let account = Account::new(client.clone(), database.database_id());
        let store = Store::open(database, Placement::DispatchNamespace(namespace.to_owned())).await;
        let store = store.map_err(|error| error.with_operation("open publisher"))?;
        let namespace = Namespace::new(client, namespace);
        namespace.ensure().await.map_err(|error| error.with_operation("open publisher"))?;
        Ok(Self { account, namespace, store, memory: Memory::default(), front_seen: Arc::default() })
    }

    /// Keeps a resource of the account, by its id or name, from the bindings of servers. The registry's database and the
    /// Container Manager are in any case.
    #[must_use]
    pub fn with_private(mut self, id: &str) -> Self {
        self.account.keep_private(id);
        self
    }

    fn front(&self) -> Front<'_> {
        Front { account: &self.account, namespace: self.namespace.name() }
    }

    async fn url_of(&self, server: &ServerRef, path: &str) -> Result<Url> {
        self.account.scripts.url(&self.front().dispatcher_name(), &format!("{}/{path}", server.name)).await
    }

    async fn endpoint_of(&self, server: &ServerRef, callers: Callers) -> Result<Endpoint> {
        Ok(self.account.endpoint(self.url_of(server, "mcp").await?, server.id, callers))
    }

    /// The server's script; `None` if there is none, or a foreign one.
    async fn find(&self, server: &ServerRef) -> Result<Option<Found>> {
        let settings = self.namespace.settings(server.name.as_str()).await?;
        Ok(settings.filter(|settings| self.is_ours(settings, server.id)).map(found))
    }

    fn is_ours(&self, settings: &Settings, server: ServerId) -> bool {
        let ours = self.account.tag(server);
        settings.tags.iter().flatten().any(|tag| *tag == ours)
    }

    /// Makes the script with a placeholder where there is none; refuses a foreign one.
    async fn ensure(&self, server: &ServerRef) -> Result<Found> {
        match self.namespace.settings(server.name.as_str()).await? {
            Some(settings) if self.is_ours(&settings, server.id) => Ok(found(settings)),
            Some(_) => {
                let (name, namespace) = (&server.name, self.namespace.name());
                let message =
                    format!("dispatch namespace {namespace} has a Worker \"{name}\" that is not one of these servers");
                Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_help("choose another name, or remove the Worker"))
            }
            None => {
                self.store.check_placement().await?;
                let placeholder = Upload::placeholder(COMPATIBILITY_DATE, "").with_tag(self.account.tag(server.id));
                self.namespace.put(server.name.as_str(), &placeholder.with_new_state_key()).await?;
                // Looked for again: whoever removed the last server took them away.
                *self.front_seen.lock().await = false;
                Ok(Found { made: true, ..Found::default() })
            }
        }
    }

    /// The dispatcher and the outbound Worker are there.
    async fn ensure_front(&self) -> Result<()> {
        let mut seen = self.front_seen.lock().await;
        if !*seen {
            self.front().ensure().await?;
            *seen = true;
        }
        Ok(())
    }

    async fn keep(&self, server: &ServerRef, artifact: &Artifact, found: &Found) -> Result<VersionId> {
        check_bearer_secret(artifact, |name| found.secrets.iter().any(|set| set == name))?;
        let version = new_version()?;
        self.store.put(server.id, &version, artifact).await?;
        self.memory.staged(version.clone(), StagedVersion { artifact: artifact.clone(), upload: None });
        Ok(version)
    }

    async fn stage_version(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        check_supported(artifact, Target::DispatchNamespace, self.account.private())?;
        let found = self.ensure(server).await?;
        let kept = self.keep(server, artifact, &found).await;
        if kept.is_err() && found.made {
            warn_if_left(server, self.namespace.remove(server.name.as_str()).await);
        }
        Ok(Staged { version: kept?, preview: None })
    }

    async fn activate_version(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        let artifact = if let Some(staged) = self.memory.take_staged(version) {
            staged.artifact
        } else {
            let stored = self.store.artifact(server.id, version).await?;
            stored.ok_or_else(|| not_listed(server, version))?
        };
        check_supported(&artifact, Target::DispatchNamespace, self.account.private())?;
        let live = self.ensure(server).await?.version;
        self.ensure_front().await?;
        // Before the code that they are for, so that this never runs under wider ones.
        self.store.put_rules(&server.name, &egress::rules(artifact.settings.egress.as_deref())).await?;
        // One with `auth` may be live with a key that follows from another API token.
        if live.as_ref() != Some(version) || artifact.settings.bearer_secret.is_some() {
            self.namespace.put(server.name.as_str(), &self.upload(server, version, &artifact)).await?;
        }
        let health = self.url_of(server, "health").await?;
        self.account.arrived(&artifact.settings, version, &health).await?;
        self.endpoint_of(server, Callers::with_token(artifact.settings.bearer_secret.is_some())).await
    }

    fn upload(&self, server: &ServerRef, version: &VersionId, artifact: &Artifact) -> Upload {
        let upload = Upload::of(artifact, version, "")
            .with_tag(self.account.tag(server.id))
            .with_tag(format!("{VERSION_TAG}{version}"));
        self.account.with_check_key(upload, artifact, server.id)
    }

    /// Without servers nothing is left of what serves them.
    async fn remove_front_if_idle(&self) -> Result<()> {
        if !self.namespace.list().await?.is_empty() {
            return Ok(());
        }
        let mut seen = self.front_seen.lock().await;
        self.front().remove().await?;
        *seen = false;
        // A server that came meanwhile found them still there.
        if self.namespace.list().await?.is_empty() { Ok(()) } else { self.front().ensure().await }
    }

    async fn published(&self, script: super::api::Script) -> Result<Option<PublishedServer>> {
        let tags = match script.tags {
            Some(tags) => tags,
            None => self.namespace.settings(&script.id).await?.and_then(|settings| settings.tags).unwrap_or_default(),
        };
        let server = self.account.owner(&script.id, &tags);
        Ok(server.map(|server| PublishedServer { server, active: live_version(&tags) }))
    }
}

#[async_trait]
impl Publisher for DispatchPublisher {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        self.stage_version(server, artifact).await.map_err(|error| error.with_operation("stage"))
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        self.activate_version(server, version).await.map_err(|error| error.with_operation("activate"))
    }

    /// [`CloudflareConfig::settle_time`](crate::CloudflareConfig::settle_time).
    fn settle_time(&self) -> Duration {
        self.account.client.config().settle_time()
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        drop(self.memory.take_staged(version));
        let live = self.find(server).await?.and_then(|found| found.version);
        if live.as_ref() == Some(version) {
            return Err(is_live(server, version));
        }
        self.store.remove(server.id, version).await.map_err(|error| error.with_operation("discard"))
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        let stored = self.store.list(server.id).await?;
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.find(server).await?.and_then(|found| found.version);
        Ok(stored.into_iter().map(|stored| stored.published(live.as_ref())).collect())
    }

    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        let scripts = self.namespace.list().await.map_err(|error| error.with_operation("list servers"))?;
        published(scripts, |script| self.published(script)).await
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        let found = self.find(server).await?.filter(|found| found.version.is_some());
        let callers = found.ok_or_else(|| not_live(server))?.callers;
        self.endpoint_of(server, callers).await
    }

    /// [`ErrorKind::Unsupported`]: Cloudflare tails scripts of the account only.
    async fn logs(&self, server: &ServerRef, _options: LogOptions) -> Result<Vec<LogLine>> {
        if self.find(server).await?.is_none() {
            return Ok(Vec::new());
        }
        let error = Error::new(ErrorKind::Unsupported, "Cloudflare tails no Workers of a dispatch namespace");
        Err(error.with_help("look into the namespace's Workers logs in the dashboard"))
    }

    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        let removed = async {
            self.store.check_placement().await?;
            if self.find(server).await?.is_some() {
                // First, so that they are found again if this ends in between.
                self.store.remove_rules(&server.name).await?;
                self.namespace.remove(server.name.as_str()).await?;
            }
            self.remove_front_if_idle().await?;
            self.store.remove_all(server.id).await
        };
        removed.await.map_err(|error| error.with_operation("unpublish"))
    }

    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()> {
        let set = async {
            self.ensure(server).await?;
            self.namespace.set_secret(server.name.as_str(), name, &value).await
        };
        set.await.map_err(|error| error.with_operation("set_secret"))
    }

    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        let removed = async {
            match self.find(server).await? {
                Some(found) if found.secrets.iter().any(|set| set == name.as_str()) => {
                    self.namespace.remove_secret(server.name.as_str(), name).await
                }
                _ => Ok(()),
            }
        };
        removed.await.map_err(|error| error.with_operation("remove_secret"))
    }

    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        let found = self.find(server).await.map_err(|error| error.with_operation("list_secret_names"))?;
        Ok(definable(found.map(|found| found.secrets).unwrap_or_default()))
    }
}

fn found(settings: Settings) -> Found {
    let version = live_version(&settings.tags.unwrap_or_default());
    let secrets: Vec<_> =
        settings.bindings.into_iter().filter(|bound| bound.kind == "secret_text").map(|bound| bound.name).collect();
    let callers = Callers::with_token(secrets.iter().any(|name| name == CHECK_KEY));
    Found { version, secrets, callers, made: false }
}

fn live_version(tags: &[String]) -> Option<VersionId> {
    tags.iter().find_map(|tag| tag.strip_prefix(VERSION_TAG)?.parse().ok())
}
