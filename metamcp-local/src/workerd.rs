//! [`WorkerdPublisher`]: every server in a supervised workerd process of its own, behind one gateway.

mod activity;
mod bundle;
mod call;
mod callee;
mod capnp;
mod config;
mod egress;
pub(crate) mod files;
mod gate;
mod health;
mod interruption;
mod launch;
mod leftovers;
mod lines;
mod live;
mod log;
mod memory;
mod named;
mod output;
mod process;
mod restarts;
mod run_folder;
mod sandbox;
mod secrets;
mod server;
mod servers;
mod shell;
mod silence;
mod socket;
mod store;
mod supervised;
mod supervision;
mod upstream;

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::{
    Artifact, Endpoint, EnvName, Error, ErrorKind, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher,
    Result, ServerName, ServerRef, Staged, VersionId,
};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::Instrument;
use url::Url;
use uuid::Uuid;

use self::launch::Launcher;
use self::sandbox::Sandbox;
use self::server::Server;
use self::store::{Store, unknown_version};
use self::supervision::STARTS_AT_ONCE;
use crate::blocking::blocking;
use crate::config::LocalConfig;
use crate::gateway::Gateway;
use crate::owner::DataDirectory;

pub(crate) use self::call::Call;
pub(crate) use self::callee::Callee;
pub(crate) use self::files::{read_json_if_whole, storage_error, write_json};
pub(crate) use self::health::INTERNAL_HOST;
#[cfg(feature = "docker")]
pub(crate) use self::lines::BoundedLines;
pub(crate) use self::servers::Servers;
#[cfg(feature = "docker")]
pub(crate) use self::supervised::{End, Lifeline, Supervised};
pub(crate) use self::upstream::{Connection, SendError};

/// How long a preview runs that is neither activated nor discarded, at least.
const PREVIEW_AGE: Duration = Duration::from_secs(600);

/// What a [`WorkerdPublisher`] is opened with.
#[derive(Debug)]
pub struct WorkerdConfig {
    /// The workerd binary.
    pub workerd: PathBuf,
    /// The data directory, owned by this process.
    pub directory: Arc<DataDirectory>,
    /// Everything else.
    pub local: LocalConfig,
}

/// Serves deployed servers on this machine.
///
/// Versions are kept in the data directory; a server runs while it is called and sleeps otherwise. One that
/// [runs by itself](metamcp_core::WorkerSettings::runs_by_itself) is started as the directory is opened, and again
/// whenever its process ends. Everything stops with this value: [`Publisher::close`] waits for it, dropping does not.
#[derive(Debug)]
pub struct WorkerdPublisher {
    launcher: Arc<Launcher>,
    servers: Arc<Servers>,
    gateway: Gateway,
    sleeper: JoinHandle<()>,
    directory: Arc<DataDirectory>,
}

impl WorkerdPublisher {
    /// Opens the publisher over a data directory: what was deployed is served again at the same URLs.
    ///
    /// [`ErrorKind::Conflict`] if the gateway's port is taken, naming the program where it can be found out;
    /// [`ErrorKind::ConfigInvalid`] for a workerd that is not there or an isolation that does not work here.
    pub async fn open(config: WorkerdConfig) -> Result<Arc<Self>> {
        let WorkerdConfig { workerd, directory, local } = config;
        if !workerd.is_file() {
            return Err(Error::new(ErrorKind::ConfigInvalid, format!("workerd is not at {}", workerd.display())));
        }
        let sandbox = Sandbox::choose(&local, &directory, &workerd).await?;
        let (owned, root) = (Arc::clone(&directory), directory.path().to_owned());
        let (store, run_folder) = blocking(move || {
            let run_folder = run_folder::path(&owned)?;
            leftovers::end_processes(&run_folder);
            run_folder::make_empty(&run_folder, owned.user())?;
            Ok((Store::open(&root)?, run_folder))
        })
        .await?;
        let listener = Gateway::bind(directory.path(), local.listen).await?;
        let hosts = Gateway::hosts(&listener, &local.allowed_hosts);
        let idle = local.idle_timeout;
        let launcher = Arc::new(Launcher {
            workerd,
            sandbox,
            run_folder,
            config: local,
            hosts: hosts.clone(),
            store,
            starts: Arc::new(Semaphore::new(STARTS_AT_ONCE)),
        });
        let servers = Arc::new(Servers::default());
        for (reference, active) in launcher.on_disk(kept_servers).await? {
            servers.get_or_insert(&reference, || Server::new(reference.clone(), Arc::clone(&launcher), active))?;
        }
        let gateway = Gateway::serve(listener, hosts, Arc::clone(&servers))?;
        let sleeper = tokio::spawn(put_to_sleep(Arc::downgrade(&servers), idle));
        Ok(Arc::new(Self { launcher, servers, gateway, sleeper, directory }))
    }

    /// Where a server of this name answers while a version of it is live: the same over all versions and
    /// restarts.
    pub fn url(&self, name: &ServerName) -> Result<Url> {
        parse_url(&format!("http://{}/{name}/mcp", self.gateway.address()))
    }

    fn preview_url(&self, name: &ServerName, label: Uuid) -> Result<Url> {
        parse_url(&format!("http://{}/{name}/preview/{label}/mcp", self.gateway.address()))
    }

    /// The data directory it owns.
    pub fn directory(&self) -> &DataDirectory {
        &self.directory
    }

    /// The server, made if there is none.
    fn server(&self, server: &ServerRef) -> Result<Arc<Server>> {
        let launcher = Arc::clone(&self.launcher);
        self.servers.get_or_insert(server, || Server::new(server.clone(), launcher, None))
    }

    /// The server, if there is one: perhaps one that could not be read when the directory was opened, and is made
    /// again from what the caller knows of it.
    async fn known(&self, server: &ServerRef) -> Result<Option<Arc<Server>>> {
        if let Some(found) = self.servers.get(server) {
            return Ok(Some(found));
        }
        let (reference, launcher) = (server.clone(), Arc::clone(&self.launcher));
        let made_again = move |store: &Store| {
            if !store.has_files(reference.id)? {
                return Ok(None);
            }
            store.put_server(&reference)?;
            let active = store.active(reference.id)?;
            Ok(Some(Server::new(reference, launcher, active)))
        };
        let Some(made) = self.launcher.on_disk(made_again).await? else { return Ok(None) };
        self.servers.get_or_insert(server, || made).map(Some)
    }
}

impl Drop for WorkerdPublisher {
    fn drop(&mut self) {
        self.sleeper.abort();
        self.servers.all().iter().for_each(|server| server.let_go());
    }
}

#[async_trait]
impl Publisher for WorkerdPublisher {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        config::check_supported(&artifact.settings, &self.launcher.config.service_workers)?;
        let known = self.known(server).await?;
        let is_new = known.is_none();
        let found = known.map_or_else(|| self.server(server), Ok)?;
        let staged = match found.stage(artifact).await {
            Ok(running) => running,
            Err(error) => {
                if is_new {
                    self.unpublish(server).await?;
                }
                return Err(error.with_operation("stage"));
            }
        };
        let url = self.preview_url(&server.name, staged.label)?;
        let preview = found.endpoint(Endpoint::new(url), &staged.version).await?;
        Ok(Staged { version: staged.version.clone(), preview: Some(preview) })
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        let known = self.known(server).await?;
        let found = known.ok_or_else(|| unknown_version(version).with_operation("activate"))?;
        found.activate(version).await.map_err(|error| error.with_operation("activate"))?;
        found.endpoint(Endpoint::new(self.url(&server.name)?), version).await
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        match self.known(server).await? {
            Some(found) => found.discard(version).await.map_err(|error| error.with_operation("discard")),
            None => Ok(()),
        }
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        let id = server.id;
        self.launcher.on_disk(move |store| store.versions(id)).await
    }

    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        let servers = self.servers.all().into_iter();
        Ok(servers
            .map(|server| PublishedServer { server: server.reference().clone(), active: server.active() })
            .collect())
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        let found = self.servers.get(server);
        let Some((found, active)) = found.and_then(|found| found.active().map(|active| (found, active))) else {
            let error = Error::new(ErrorKind::NotFound, format!("server {} has no live version", server.name));
            return Err(error.with_help("deploy it first"));
        };
        found.endpoint(Endpoint::new(self.url(&server.name)?), &active).await
    }

    async fn logs(&self, server: &ServerRef, options: LogOptions) -> Result<Vec<LogLine>> {
        Ok(self.servers.get(server).map(|found| found.log().newest(options.limit)).unwrap_or_default())
    }

    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        let Some(found) = self.known(server).await? else { return Ok(()) };
        // What is left of it can be removed again as long as it is one of the servers.
        found.remove().await.map_err(|error| error.with_operation("unpublish"))?;
        self.servers.forget(&found);
        Ok(())
    }

    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()> {
        let found = self.server(server)?;
        put_secret(found, name, Some(value)).await.map_err(|error| error.with_operation("set_secret"))
    }

    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        match self.known(server).await? {
            Some(found) => put_secret(found, name, None).await.map_err(|error| error.with_operation("remove_secret")),
            None => Ok(()),
        }
    }

    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        let id = server.id;
        self.launcher.on_disk(move |store| store.secret_names(id)).await
    }

    async fn close(&self) -> Result<()> {
        self.gateway.close().await;
        self.sleeper.abort();
        futures::future::join_all(self.servers.all().iter().map(|server| server.stop("was closed"))).await;
        Ok(())
    }
}

/// A task of its own: a caller that goes away leaves no write behind that another one could come before.
async fn put_secret(server: Arc<Server>, name: &EnvName, value: Option<SecretString>) -> Result<()> {
    let name = name.clone();
    let put = async move { server.put_secret(&name, value).await };
    tokio::spawn(put.in_current_span())
        .await
        .map_err(|error| Error::new(ErrorKind::Unexpected, "a change of a secret was cut off").with_source(error))?
}

/// Every server that is kept, with its live version.
fn kept_servers(store: &Store) -> Result<Vec<(ServerRef, Option<VersionId>)>> {
    let with_active = |server: ServerRef| {
        let active = files::told(store.active(server.id)).flatten();
        (server, active)
    };
    Ok(store.servers()?.into_iter().map(with_active).collect())
}

/// Stops what nobody uses, as long as the publisher lives.
async fn put_to_sleep(servers: Weak<Servers>, idle: Duration) {
    let mut interval = tokio::time::interval((idle / 4).clamp(Duration::from_millis(20), Duration::from_secs(30)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(servers) = servers.upgrade() else { return };
        for server in servers.all() {
            server.sleep_if_idle(idle).await;
            server.stop_old_previews(idle.max(PREVIEW_AGE)).await;
        }
    }
}

fn parse_url(text: &str) -> Result<Url> {
    Url::parse(text)
        .map_err(|error| Error::new(ErrorKind::Unexpected, format!("{text} is not a URL")).with_source(error))
}
