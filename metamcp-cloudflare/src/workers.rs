//! [`WorkerPublisher`]: servers as scripts of a Cloudflare account.
//!
//! A server is one script of its name, which carries a tag that makes it ours. Each version is uploaded as a version
//! of that script without being deployed, has a preview, and becomes live by a deployment. Until then a placeholder
//! answers. Versions can be uploaded again from D1, where their modules are kept, since an uploaded version has the
//! secrets of its time in it: one that is older than the last change of a secret is uploaded anew when it is activated.
//!
//! Cloudflare's own version history tells everything else: the annotation `workers/tag` of an upload names the version
//! of ours, and the newest upload has the present secrets.

mod api;
mod script;
mod store;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use metamcp_core::{
    Artifact, Endpoint, EnvName, Error, ErrorKind, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher,
    Result, ServerId, ServerName, ServerRef, Staged, VersionId,
};
use secrecy::SecretString;
use tokio::sync::OnceCell;
use url::Url;

use self::api::Scripts;
use self::script::OwnScript;
use self::store::Store;
use crate::client::Client;
use crate::d1::D1Executor;

/// Servers whose live version is asked for at once.
const CONCURRENT: usize = 8;

/// Publishes servers as Workers of an account.
///
/// What it cannot do: `egress` is [`ErrorKind::Unsupported`], since an account's scripts reach the whole internet; so
/// are [`Publisher::logs`] for now. A server with Durable Objects has no previews. Secrets are never rolled back.
#[derive(Debug, Clone)]
pub struct WorkerPublisher {
    scripts: Scripts,
    store: Store,
    client: Client,
    /// Tells this registry's scripts from others in the account.
    registry_id: Arc<str>,
    /// The account's name below `workers.dev`.
    subdomain: Arc<OnceCell<String>>,
}

impl WorkerPublisher {
    /// Publishes for the registry in `database`, where it also keeps what it published. Scripts are ours if they carry
    /// a tag with this database's id.
    pub async fn open(client: Client, database: D1Executor) -> Result<Self> {
        let registry_id = database.database_id().into();
        let store = Store::open(database).await.map_err(|error| error.with_operation("open publisher"))?;
        let scripts = Scripts::new(client.clone());
        Ok(Self { scripts, store, client, registry_id, subdomain: Arc::default() })
    }

    fn script<'a>(&'a self, server: &'a ServerRef) -> OwnScript<'a> {
        OwnScript { scripts: &self.scripts, store: &self.store, server, tag: self.tag(server.id) }
    }

    fn tag(&self, id: ServerId) -> String {
        format!("metamcp:{}:{id}", self.registry_id)
    }

    /// The id in a tag of ours.
    fn server_of(&self, tag: &str) -> Option<ServerId> {
        let (registry, id) = tag.strip_prefix("metamcp:")?.rsplit_once(':')?;
        (registry == &*self.registry_id).then(|| id.parse().ok().map(ServerId))?
    }

    /// Where a host name of the account answers.
    async fn url(&self, label: &str) -> Result<Url> {
        let subdomain = self.subdomain.get_or_try_init(|| self.scripts.account_subdomain()).await?;
        let host = format!("{label}.{subdomain}.workers.dev");
        let url = match self.client.config().workers_dev_url() {
            None => format!("https://{host}/mcp"),
            Some(base) => format!("{base}{host}/mcp"),
        };
        Url::parse(&url)
            .map_err(|error| Error::new(ErrorKind::Unexpected, format!("{url} is not a URL")).with_source(error))
    }

    async fn published(&self, script: api::Script) -> Result<Option<PublishedServer>> {
        let id = script.tags.iter().flatten().find_map(|tag| self.server_of(tag));
        let Some((id, name)) = id.zip(script.id.parse::<ServerName>().ok()) else { return Ok(None) };
        let server = ServerRef { id, name };
        let active = self.script(&server).live().await?.map(|(_, version)| version);
        Ok(Some(PublishedServer { server, active }))
    }
}

#[async_trait]
impl Publisher for WorkerPublisher {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        let (version, upload) =
            self.script(server).stage(artifact).await.map_err(|error| error.with_operation("stage"))?;
        let preview = match upload {
            Some(upload) if !artifact.settings.has_durable_state() => {
                let label = format!("{}-{}", upload.get(..8).unwrap_or(&upload), server.name);
                Some(Endpoint::new(self.url(&label).await?))
            }
            _ => None,
        };
        Ok(Staged { version, preview })
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        self.script(server).activate(version).await.map_err(|error| error.with_operation("activate"))?;
        Ok(Endpoint::new(self.url(server.name.as_str()).await?))
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        let live = self.script(server).live().await?;
        if live.is_some_and(|(_, live)| live == *version) {
            let message = format!("version {version} of server {} is live", server.name);
            return Err(Error::new(ErrorKind::Conflict, message).with_help("activate another version first"));
        }
        // Cloudflare removes no single version; it keeps the newest hundred.
        self.store.remove(server.id, version).await.map_err(|error| error.with_operation("discard"))
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        let stored = self.store.list(server.id).await?;
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.script(server).live().await?.map(|(_, version)| version);
        let published = |stored: store::StoredVersion| PublishedVersion {
            active: live.as_ref() == Some(&stored.version),
            version: stored.version,
            artifact: stored.artifact,
            created_at: stored.created_at,
        };
        Ok(stored.into_iter().map(published).collect())
    }

    /// Asks for each server's live version, with two requests for each.
    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        let scripts = self.scripts.list().await.map_err(|error| error.with_operation("list servers"))?;
        let published = stream::iter(scripts).map(|script| self.published(script)).buffer_unordered(CONCURRENT);
        let mut published: Vec<_> = published.try_filter_map(async |server| Ok(server)).try_collect().await?;
        published.sort_by(|a, b| a.server.name.cmp(&b.server.name));
        Ok(published)
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        if self.script(server).live().await?.is_none() {
            let error = Error::new(ErrorKind::NotFound, format!("server {} has no live version", server.name));
            return Err(error.with_help("deploy it first"));
        }
        Ok(Endpoint::new(self.url(server.name.as_str()).await?))
    }

    /// [`ErrorKind::Unsupported`]: a tail of a script begins when it is opened and has no lines of before.
    async fn logs(&self, server: &ServerRef, _options: LogOptions) -> Result<Vec<LogLine>> {
        if !self.script(server).exists().await? {
            return Ok(Vec::new());
        }
        let error = Error::new(ErrorKind::Unsupported, "logs of servers on Cloudflare cannot be read here yet");
        Err(error.with_help(format!("run `wrangler tail {}`, or open the Worker's logs in the dashboard", server.name)))
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
