use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::lock;
use crate::artifact::Artifact;
use crate::name::{EnvName, ServerName, VersionId};
use crate::publisher::{
    Endpoint, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged,
};
use crate::{Error, ErrorKind, Result};

/// A [`Publisher`] that keeps versions in memory and runs nothing.
///
/// Its endpoints are `memory://` URLs that nobody answers, unless a test lets something answer at another base
/// URL ([`MemoryPublisher::answering_at`]). [`MemoryPublisher::fail_next`] makes one call fail.
#[derive(Debug)]
pub struct MemoryPublisher {
    base: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    servers: BTreeMap<ServerName, Published>,
    failures: Vec<(&'static str, Error)>,
}

#[derive(Debug)]
struct Published {
    server: ServerRef,
    /// Oldest first.
    versions: Vec<Version>,
    active: Option<VersionId>,
    secrets: BTreeSet<EnvName>,
}

#[derive(Debug)]
struct Version {
    id: VersionId,
    artifact: Artifact,
    created_at: OffsetDateTime,
}

impl Default for MemoryPublisher {
    fn default() -> Self {
        Self { base: "memory://localhost".to_owned(), state: Mutex::default() }
    }
}

impl MemoryPublisher {
    /// A publisher without servers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A publisher whose endpoints are `{base}/{server}/mcp` and, for previews, `{base}/{server}/{version}/mcp`.
    pub fn answering_at(base: &Url) -> Self {
        Self { base: base.as_str().trim_end_matches('/').to_owned(), state: Mutex::default() }
    }

    /// Makes the next call of a method (`"stage"`, `"activate"`, `"discard"` or `"unpublish"`) fail with
    /// `error`, before it changes anything.
    pub fn fail_next(&self, method: &'static str, error: Error) {
        lock(&self.state).failures.push((method, error));
    }

    /// The artifact of a listed version.
    pub fn artifact(&self, server: &ServerRef, version: &VersionId) -> Option<Artifact> {
        let state = lock(&self.state);
        state.of(server)?.find(version).map(|version| version.artifact.clone())
    }

    fn endpoint_below(&self, path: &str) -> Result<Endpoint> {
        let url = format!("{}/{path}/mcp", self.base);
        let parsed = url.parse::<Url>().map_err(|source| {
            Error::new(ErrorKind::ConfigInvalid, "the base URL of the memory publisher has no paths")
                .with_source(source)
        })?;
        Ok(Endpoint::new(parsed))
    }
}

impl State {
    fn fail(&mut self, method: &str) -> Result<()> {
        match self.failures.iter().position(|(name, _)| *name == method) {
            Some(index) => Err(self.failures.remove(index).1),
            None => Ok(()),
        }
    }

    fn of(&self, server: &ServerRef) -> Option<&Published> {
        self.servers.get(&server.name).filter(|published| published.server.id == server.id)
    }

    /// The server, created if need be; refused if the name belongs to another one.
    fn of_mut(&mut self, server: &ServerRef) -> Result<&mut Published> {
        let published = self.servers.entry(server.name.clone()).or_insert_with(|| Published {
            server: server.clone(),
            versions: Vec::new(),
            active: None,
            secrets: BTreeSet::new(),
        });
        if published.server.id == server.id {
            return Ok(published);
        }
        let message = format!("the name \"{}\" belongs to another server here", server.name);
        Err(Error::new(ErrorKind::AlreadyExists, message).with_help("choose another name"))
    }
}

impl Published {
    fn find(&self, version: &VersionId) -> Option<&Version> {
        self.versions.iter().find(|candidate| candidate.id == *version)
    }
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged> {
        let mut state = lock(&self.state);
        state.fail("stage")?;
        let id = Uuid::new_v4().to_string();
        let preview = self.endpoint_below(&format!("{}/{id}", server.name))?;
        let id = VersionId::try_from(id)
            .map_err(|source| Error::new(ErrorKind::Unexpected, "a UUID is no version id").with_source(source))?;
        let version = Version { id: id.clone(), artifact: artifact.clone(), created_at: OffsetDateTime::now_utc() };
        state.of_mut(server)?.versions.push(version);
        Ok(Staged { version: id, preview: Some(preview) })
    }

    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint> {
        let mut state = lock(&self.state);
        state.fail("activate")?;
        let published = state.servers.get_mut(&server.name).filter(|published| published.server.id == server.id);
        let published = published.filter(|published| published.find(version).is_some()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("version \"{version}\" of server \"{}\" is not staged", server.name),
            )
        })?;
        published.active = Some(version.clone());
        self.endpoint_below(server.name.as_str())
    }

    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()> {
        let mut state = lock(&self.state);
        state.fail("discard")?;
        let Some(published) = state.servers.get_mut(&server.name).filter(|published| published.server.id == server.id)
        else {
            return Ok(());
        };
        if published.active.as_ref() == Some(version) {
            let message = format!("version \"{version}\" of server \"{}\" is live", server.name);
            return Err(Error::new(ErrorKind::Conflict, message).with_help("activate another version first"));
        }
        published.versions.retain(|candidate| candidate.id != *version);
        Ok(())
    }

    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>> {
        let state = lock(&self.state);
        let Some(published) = state.of(server) else { return Ok(Vec::new()) };
        let version = |version: &Version| PublishedVersion {
            version: version.id.clone(),
            artifact: version.artifact.digest(),
            active: published.active.as_ref() == Some(&version.id),
            created_at: version.created_at,
        };
        Ok(published.versions.iter().rev().map(version).collect())
    }

    async fn list_servers(&self) -> Result<Vec<PublishedServer>> {
        let state = lock(&self.state);
        let listed = state.servers.values().filter(|published| !published.versions.is_empty());
        Ok(listed
            .map(|published| PublishedServer { server: published.server.clone(), active: published.active.clone() })
            .collect())
    }

    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint> {
        let live = lock(&self.state).of(server).is_some_and(|published| published.active.is_some());
        if !live {
            return Err(Error::new(ErrorKind::NotFound, format!("server \"{}\" is not live", server.name)));
        }
        self.endpoint_below(server.name.as_str())
    }

    async fn logs(&self, _server: &ServerRef, _options: LogOptions) -> Result<Vec<LogLine>> {
        Ok(Vec::new())
    }

    async fn unpublish(&self, server: &ServerRef) -> Result<()> {
        let mut state = lock(&self.state);
        state.fail("unpublish")?;
        if state.of(server).is_some() {
            state.servers.remove(&server.name);
        }
        Ok(())
    }

    async fn set_secret(&self, server: &ServerRef, name: &EnvName, _value: SecretString) -> Result<()> {
        lock(&self.state).of_mut(server)?.secrets.insert(name.clone());
        Ok(())
    }

    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()> {
        let mut state = lock(&self.state);
        if let Some(published) =
            state.servers.get_mut(&server.name).filter(|published| published.server.id == server.id)
        {
            published.secrets.remove(name);
        }
        Ok(())
    }

    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>> {
        Ok(lock(&self.state)
            .of(server)
            .map(|published| published.secrets.iter().cloned().collect())
            .unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ServerId;

    #[tokio::test]
    async fn a_failure_is_forced_once() {
        let publisher = MemoryPublisher::new();
        let server = ServerRef { id: ServerId::random(), name: "weather".parse().unwrap() };
        publisher.fail_next("unpublish", Error::new(ErrorKind::Unavailable, "down"));
        assert_eq!(publisher.unpublish(&server).await.unwrap_err().kind(), ErrorKind::Unavailable);
        publisher.unpublish(&server).await.unwrap();
    }

    #[test]
    fn endpoints_stand_below_the_base_url() {
        let publisher = MemoryPublisher::answering_at(&"http://127.0.0.1:1/base/".parse().unwrap());
        let endpoint = publisher.endpoint_below("weather").unwrap();
        assert_eq!(endpoint.url.as_str(), "http://127.0.0.1:1/base/weather/mcp");
    }
}
