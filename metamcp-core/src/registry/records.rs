//! What a registry stores.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::definition::ServerDefinition;
use crate::name::{ServerId, ServerName, TemplateKind, VersionId};
use crate::publisher::ServerRef;
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, Result};

/// Counts the changes of one server's definition, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a writer believes to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No server of this name.
    Absent,
    /// The server at the revision that was read.
    Revision(Revision),
}

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordStatus {
    /// Defined, never live.
    Draft,
    /// Live.
    Deployed,
    /// Was live; its last change of state failed and nothing is served.
    Failed,
}

impl RecordStatus {
    /// The status as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Deployed => "deployed",
            Self::Failed => "failed",
        }
    }
}

/// A server with its working definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// Id, fixed at creation.
    pub id: ServerId,
    /// Unique name.
    pub name: ServerName,
    /// Revision of the working definition.
    pub revision: Revision,
    /// Where it stands.
    pub status: RecordStatus,
    /// The working definition, as it was written.
    pub definition: ServerDefinition,
    /// What is live, if anything is.
    pub live: Option<LiveState>,
    /// Id of the environment that was made for it last; it may be gone
    /// ([`Environments::of`](crate::Environments::of) looks).
    pub container_id: Option<String>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its definition or live state last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

impl ServerRecord {
    /// Id and name, as publishers take them.
    pub fn reference(&self) -> ServerRef {
        ServerRef { id: self.id, name: self.name.clone() }
    }
}

/// What is live of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveState {
    /// Where it stands.
    pub status: RecordStatus,
    /// Where it answers.
    pub url: Url,
    /// The version that is served.
    pub version: VersionId,
    /// The revision that version was made from.
    pub revision: Revision,
}

/// A server without its definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSummary {
    /// Id.
    pub id: ServerId,
    /// Unique name.
    pub name: ServerName,
    /// What it is for.
    pub description: String,
    /// Semantic version of the server.
    pub version: String,
    /// Template.
    pub template: TemplateKind,
    /// Revision of the working definition.
    pub revision: Revision,
    /// Where it stands.
    pub status: RecordStatus,
    /// What is live, if anything is.
    pub live: Option<LiveState>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its definition or live state last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Which servers to list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListOptions {
    /// At most so many (1 to 1,000; default 100).
    pub limit: u32,
    /// Continue behind this name: [`Page::next`] of the page before.
    pub after: Option<ServerName>,
    /// Only servers that stand here.
    pub status: Option<RecordStatus>,
    /// Only servers whose definition and live state did not change since.
    pub not_updated_since: Option<OffsetDateTime>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { limit: 100, after: None, status: None, not_updated_since: None }
    }
}

impl ListOptions {
    /// Refuses a limit out of its bounds; every registry calls it first.
    pub(crate) fn check(&self) -> Result<()> {
        if (1..=1_000).contains(&self.limit) {
            return Ok(());
        }
        let message = format!("a page of {} servers is out of bounds", self.limit);
        Err(Error::new(ErrorKind::LimitExceeded, message).with_help("ask for 1 to 1,000"))
    }
}

/// A tool of a working definition, without its schema and body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolSummary {
    /// Name of its server.
    pub server: ServerName,
    /// What its server is for.
    pub server_description: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Whether its server is live.
    pub live: bool,
}

/// A place in the list of all tools: a tool of a server, or with an empty name before all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolPlace {
    /// The server.
    pub server: ServerName,
    /// The tool.
    pub tool: String,
}

impl ToolSummary {
    /// Most tools that are listed at once.
    pub const MOST: u32 = 1_000;

    /// Where the list goes on behind it.
    pub fn place(&self) -> ToolPlace {
        ToolPlace { server: self.server.clone(), tool: self.name.clone() }
    }

    /// Refuses a limit out of its bounds; every registry calls it first.
    pub(crate) fn check_limit(limit: u32) -> Result<()> {
        if (1..=Self::MOST).contains(&limit) {
            return Ok(());
        }
        let message = format!("a list of {limit} tools is out of bounds");
        Err(Error::new(ErrorKind::LimitExceeded, message).with_help("ask for 1 to 1,000"))
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<ServerName>,
}

/// A version: what was built, and from which definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionRecord {
    /// The server.
    pub server_id: ServerId,
    /// The publisher's name for it.
    pub version: VersionId,
    /// The revision it was made from.
    pub revision: Revision,
    /// Digest of the artifact.
    pub artifact: Digest,
    /// The definition it was made from: what verification compares with.
    pub definition: ServerDefinition,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Id of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(pub Uuid);

/// What a deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeploymentKind {
    /// Makes a new version live.
    Deploy,
    /// Makes an older version live again.
    Rollback,
    /// Takes the server down and removes it.
    Remove,
}

/// The step a deployment is about to take, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeploymentStep {
    /// Generating and building; nothing outside has changed.
    Building,
    /// Uploading a version; it may exist without being recorded.
    Staging,
    /// Checking the preview of the staged version and then, without another write, making it live.
    Verifying,
    /// Making the version live and checking the live endpoint.
    Activating,
    /// Taking the server down.
    Removing,
    /// Ended well.
    Live,
    /// Ended badly, and undone.
    Failed,
}

impl DeploymentStep {
    /// The step as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Staging => "staging",
            Self::Verifying => "verifying",
            Self::Activating => "activating",
            Self::Removing => "removing",
            Self::Live => "live",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Live | Self::Failed)
    }
}

/// One deployment and how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// Id.
    pub id: DeploymentId,
    /// The server.
    pub server: ServerRef,
    /// What it does.
    pub kind: DeploymentKind,
    /// How far it came.
    pub step: DeploymentStep,
    /// The revision it deploys.
    pub revision: Revision,
    /// The version it makes live, once staged.
    pub version: Option<VersionId>,
    /// The version that was live before.
    pub previous: Option<VersionId>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, by the caller's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// The right to change something until a time, with a number that fences off older holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Higher than that of every lease of this name before it.
    pub fence: u64,
    /// When it ends unless renewed, by the database's clock.
    pub expires_at: OffsetDateTime,
}

/// Name of the lease under which one server is worked on.
pub(crate) fn server_lease(id: ServerId) -> String {
    format!("server:{id}")
}

/// Longest lease, and longest name and holder of one.
const MAX_LEASE: Duration = Duration::from_secs(86_400);
const MAX_LEASE_TEXT: usize = 512;

/// Refuses a lease out of its bounds; every registry calls it first.
pub(crate) fn check_lease(name: &str, holder: &str, ttl: Duration) -> Result<()> {
    let problem = if ttl > MAX_LEASE {
        format!("a lease of {} s is longer than a day", ttl.as_secs())
    } else if [name, holder].iter().any(|text| text.is_empty() || text.len() > MAX_LEASE_TEXT || text.contains('\0')) {
        "name and holder of a lease have 1 to 512 bytes without NUL".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::LimitExceeded, problem))
}

/// A connection to an external MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    /// Id.
    pub id: Uuid,
    /// Unique name.
    pub name: String,
    /// The server it serves.
    pub server_id: ServerId,
    /// URL, transport and pinned definitions.
    pub config: Value,
    /// What the other side said it can do.
    pub capabilities: Value,
    /// Number of its tools.
    pub tools_count: u32,
    /// Number of its resources.
    pub resources_count: u32,
    /// Number of its prompts.
    pub prompts_count: u32,
    /// When it last answered.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_connected: Option<OffsetDateTime>,
}

/// An API key: its hash and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyRecord {
    /// Id.
    pub id: Uuid,
    /// Name for people.
    pub name: String,
    /// SHA-256 of the key; the key itself is shown once and never stored.
    pub hash: Digest,
    /// What it allows.
    pub scopes: Vec<String>,
    /// Patterns of server names it is limited to; empty for all.
    pub servers: Vec<String>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// Entries that a registry keeps of its audit log; older ones are gone.
pub const AUDIT_ENTRIES: u32 = 100_000;

/// How far the work of an [`AuditEntry`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// It was begun. Where no other entry follows, it has not ended, or the process ended in the middle of it.
    Begun,
    /// It was done.
    Done,
    /// It failed, and may have been done in part.
    Failed,
    /// It was refused before anything was changed.
    Refused,
}

/// Who changed what. A registry keeps the newest [`AUDIT_ENTRIES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When, by the caller's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who: a key's name, `stdio`, or the embedding program.
    pub actor: String,
    /// What was done, as the API's verb.
    pub action: String,
    /// How far it came.
    pub outcome: AuditOutcome,
    /// What it was about, beside the server: such as a key's id and scopes, a secret's name, a version. Never a value
    /// that is secret.
    pub subject: Option<String>,
    /// The server's name, if it was about one.
    pub server: Option<String>,
    /// Digest of the definition before.
    pub before: Option<Digest>,
    /// Digest of the definition after.
    pub after: Option<Digest>,
}
