//! [`Publisher`]: makes built versions of a server live, one of them at a time.

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;

use crate::artifact::Artifact;
use crate::name::{EnvName, ServerId, ServerName, VersionId};
use crate::{Result, source_tree::Digest};

/// Which server a publisher acts on: the id tells ours from foreign ones, the name is part of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRef {
    /// Id in the registry.
    pub id: ServerId,
    /// Unique name.
    pub name: ServerName,
}

/// Where an MCP server answers.
#[derive(Clone)]
#[non_exhaustive]
pub struct Endpoint {
    /// URL of the MCP endpoint. Over a socket its host is only the `Host` header.
    pub url: Url,
    /// Unix socket to connect to instead of the URL's host.
    pub socket: Option<PathBuf>,
    /// Headers every request needs; values are never shown.
    pub headers: Vec<(String, SecretString)>,
}

impl Endpoint {
    /// An endpoint that needs nothing but its URL.
    pub fn new(url: Url) -> Self {
        Self { url, socket: None, headers: Vec::new() }
    }

    /// An endpoint behind a Unix socket.
    pub fn unix(socket: PathBuf, url: Url) -> Self {
        Self { url, socket: Some(socket), headers: Vec::new() }
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: SecretString) -> Self {
        self.headers.push((name.into(), value));
        self
    }
}

impl Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .field("socket", &self.socket)
            .field("headers", &names)
            .finish()
    }
}

/// A version that is uploaded but not live.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The publisher's name for it.
    pub version: VersionId,
    /// Where it answers before it is live; `None` where the target has no previews, and verification has to
    /// follow activation.
    pub preview: Option<Endpoint>,
}

/// A version as the publisher knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedVersion {
    /// The publisher's name for it.
    pub version: VersionId,
    /// Digest of its artifact.
    pub artifact: Digest,
    /// Whether it is the one that is served.
    pub active: bool,
    /// When it was staged.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A server as the publisher knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedServer {
    /// Id and name.
    pub server: ServerRef,
    /// The version that is served; `None` if only staged versions exist.
    pub active: Option<VersionId>,
}

/// Which lines of a server's log to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOptions {
    /// At most so many lines, the newest.
    pub limit: usize,
}

impl LogOptions {
    /// At most so many lines.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::new(200)
    }
}

/// One line a server wrote, or (beginning with `metamcp:`) its target about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was received.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The version that wrote it.
    pub version: VersionId,
    /// The line, cut at 8 KiB; values of secrets are replaced where the target knows them (nobody can read them back on
    /// Cloudflare).
    pub text: String,
}

/// Listening to one version of a server; see [`Publisher::listen`]. What is dropped unfinished may take a listener's
/// place at the target until that forgets it.
#[async_trait]
pub trait LogListener: Debug + Send {
    /// Ends listening after a call of a tool, and gives what was written since it began, oldest first. Waits for what is
    /// still on its way, but not for long: without it there are fewer lines.
    async fn finish(self: Box<Self>) -> Result<Vec<LogLine>>;
}

/// Stages, activates and removes versions of servers on one target.
///
/// A publisher keeps the artifacts it needs to activate any listed version again, content-addressed and
/// checked when read. Callers hold the server's lease while they have it change something.
///
/// ```
/// use metamcp_core::memory::{MemoryBuilder, MemoryPublisher};
/// use metamcp_core::{Builder, Publisher, ServerDefinition, ServerId, ServerRef, WorkerSettings, generate, validate};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let valid = validate(&ServerDefinition::new("dice", "Rolls dice."))?;
/// let artifact = MemoryBuilder::new().build(&generate(&valid)?, &WorkerSettings::of(&valid)).await?;
/// let server = ServerRef { id: ServerId::random(), name: valid.name().clone() };
///
/// let publisher = MemoryPublisher::new();
/// let first = publisher.stage(&server, &artifact).await?;
/// publisher.activate(&server, &first.version).await?;
/// let second = publisher.stage(&server, &artifact).await?;
/// publisher.activate(&server, &second.version).await?;
/// publisher.activate(&server, &first.version).await?; // a rollback
/// publisher.discard(&server, &second.version).await?;
/// assert_eq!(publisher.list_versions(&server).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Publisher: Debug + Send + Sync + 'static {
    /// Uploads a version without making it live. Not idempotent: each call makes a new version.
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) names every setting the target cannot offer;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name belongs to a foreign server;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the version does not start, with its log.
    /// After an error nothing of the version is left.
    async fn stage(&self, server: &ServerRef, artifact: &Artifact) -> Result<Staged>;

    /// Makes a listed version the live one and returns where it answers; the version that was live stays
    /// listed. Idempotent. Requests in flight end on the version they began on. Until the new version can take
    /// requests the old one is served; after an error it still is.
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for an unknown version.
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if the target took it and goes on as before for longer than
    /// [`Publisher::settle_time`]: it may still become live, unless another one is activated. What cannot be undone by
    /// activating an older version (a Durable Object migration on Cloudflare) is refused there with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    async fn activate(&self, server: &ServerRef, version: &VersionId) -> Result<Endpoint>;

    /// How long after [`Publisher::stage`] and [`Publisher::activate`] the target may go on as if they had not been, if
    /// only at some places: a preview or a first version that does not answer, an older version that does. Zero where
    /// they take effect at once, which is the default.
    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Removes a version that is not live; an absent one succeeds.
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) for the live one.
    async fn discard(&self, server: &ServerRef, version: &VersionId) -> Result<()>;

    /// A server's versions, newest first; empty if the server is unknown.
    async fn list_versions(&self, server: &ServerRef) -> Result<Vec<PublishedVersion>>;

    /// Every server of ours on this target, in order of names; foreign ones are never listed.
    async fn list_servers(&self) -> Result<Vec<PublishedServer>>;

    /// Where the live version answers; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if none is live.
    async fn endpoint(&self, server: &ServerRef) -> Result<Endpoint>;

    /// The newest lines a server wrote, oldest first; empty if the server is unknown.
    async fn logs(&self, server: &ServerRef, options: LogOptions) -> Result<Vec<LogLine>>;

    /// Begins to listen to a version, on a target that tells what is written only to those who listen meanwhile. `None`,
    /// which is the default, where [`Publisher::logs`] tells it afterwards.
    async fn listen(&self, server: &ServerRef, version: &VersionId) -> Result<Option<Box<dyn LogListener>>> {
        let _unheard = (server, version);
        Ok(None)
    }

    /// Stops a server and removes its versions, state and secrets. Idempotent.
    async fn unpublish(&self, server: &ServerRef) -> Result<()>;

    /// Sets a secret's value; a live version sees it from its next request on.
    async fn set_secret(&self, server: &ServerRef, name: &EnvName, value: SecretString) -> Result<()>;

    /// Removes a secret; an absent one succeeds.
    async fn remove_secret(&self, server: &ServerRef, name: &EnvName) -> Result<()>;

    /// Names of the secrets that have a value, sorted. Values cannot be read back.
    async fn list_secret_names(&self, server: &ServerRef) -> Result<Vec<EnvName>>;

    /// Stops everything this process runs for the publisher; deployed servers are served again when the
    /// target is opened again. Idempotent.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
