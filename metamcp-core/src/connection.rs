//! [`Connections`]: MCP servers of others that a server works with. What they offer is written down when they are
//! connected; when it changes, nothing of theirs is called until somebody has accepted the change.

mod address;
mod pin;
mod upstreams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::deploy::{ToolAnswer, call_connected};
use crate::meta_mcp::Backends;
use crate::name::ServerKey;
use crate::publisher::Endpoint;
use crate::registry::{ClientConnection, ServerRecord};
use crate::source_tree::Digest;
use crate::verify::McpClient;
use crate::{Error, ErrorKind, Result};

pub use address::TrustedHosts;
pub(crate) use upstreams::{check_routes, effective};

/// How long connecting and listing may take.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// How long a call of an external tool may take beside that.
const CALL_LIMIT: Duration = Duration::from_secs(60);
const MAX_TOOLS: usize = 2_000;
const MAX_NAME: usize = 64;

/// How an external server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ConnectTransport {
    /// The HTTP+SSE transport of 2024, which is not supported.
    Sse,
    /// Streamable HTTP, in either protocol era.
    StreamableHttp,
    /// Whatever works; today that is streamable HTTP.
    #[default]
    Auto,
}

/// What is written down of a connection: [`ClientConnection::config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedServer {
    /// Where it answers.
    pub url: Url,
    /// The revision of MCP that was agreed on.
    pub protocol_version: String,
    /// Digest of what each tool says of itself, by its name.
    pub tools: BTreeMap<String, Digest>,
}

/// How what an external server offers now differs from what was written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Tools that are new.
    pub added: Vec<String>,
    /// Tools whose description, schema or annotations are others.
    pub changed: Vec<String>,
    /// Tools that are gone.
    pub removed: Vec<String>,
}

impl Drift {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    fn between(pinned: &PinnedServer, now: &PinnedServer) -> Self {
        let (old, new) = (&pinned.tools, &now.tools);
        Self {
            added: new.keys().filter(|name| !old.contains_key(*name)).cloned().collect(),
            changed: new
                .iter()
                .filter(|(name, digest)| old.get(*name).is_some_and(|old| old != *digest))
                .map(|(name, _)| name.clone())
                .collect(),
            removed: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        }
    }
}

/// External MCP servers. Cheap to clone.
///
/// Their tools are called by [`Connections::call_tool`]. A server of the template `routing` serves them beside its own
/// from its next deployment on, as an upstream each, and only those that are still what was accepted: what changes here
/// changes nothing that is live.
#[derive(Debug, Clone)]
pub struct Connections {
    backends: Arc<Backends>,
    trusted: Arc<TrustedHosts>,
}

impl Connections {
    pub(crate) fn new(backends: Arc<Backends>, trusted: Arc<TrustedHosts>) -> Self {
        Self { backends, trusted }
    }

    /// Connects a server to an external one: asks what it offers and writes that down. The same name and URL again is
    /// an update only if nothing differs; otherwise it is [`Connections::accept`]'s.
    ///
    /// [`ErrorKind::PermissionDenied`] for an address that is not public, unless its host is trusted;
    /// [`ErrorKind::Unsupported`] for the SSE transport; [`ErrorKind::Unavailable`] if it does not speak MCP;
    /// [`ErrorKind::AlreadyExists`] if the name is taken.
    pub async fn connect(
        &self,
        key: &ServerKey,
        name: &str,
        url: &Url,
        transport: ConnectTransport,
    ) -> Result<ClientConnection> {
        if transport == ConnectTransport::Sse {
            return Err(Error::new(ErrorKind::Unsupported, "the HTTP+SSE transport of 2024 is not supported")
                .with_help("use the server's streamable HTTP endpoint, often at /mcp"));
        }
        check_name(name)?;
        let server = self.backends.registry.get_server(key).await?;
        let seen = self.probe(url).await?;
        let known = self.backends.registry.list_connections(server.id).await?;
        let id = match known.iter().find(|known| known.name == name) {
            Some(known) => {
                let pinned = known.pinned()?;
                if pinned.url != *url || !Drift::between(&pinned, &seen.pinned).is_empty() {
                    return Err(Error::new(ErrorKind::AlreadyExists, format!("connection {name:?} exists already"))
                        .with_help("accept what changed, or remove the connection first"));
                }
                known.id
            }
            None => Uuid::new_v4(),
        };
        self.write(&server, id, name, seen).await
    }

    /// Connections of a server, in order of names.
    pub async fn list(&self, key: &ServerKey) -> Result<Vec<ClientConnection>> {
        let (id, _) = self.backends.registry.get_revision(key).await?;
        self.backends.registry.list_connections(id).await
    }

    /// How an external server differs now from what was written down.
    pub async fn drift(&self, key: &ServerKey, name: &str) -> Result<Drift> {
        let (_, connection) = self.find(key, name).await?;
        let pinned = connection.pinned()?;
        Ok(Drift::between(&pinned, &self.probe(&pinned.url).await?.pinned))
    }

    /// Writes down what the external server offers now, and what that changed.
    pub async fn accept(&self, key: &ServerKey, name: &str) -> Result<Drift> {
        let (server, connection) = self.find(key, name).await?;
        let old = connection.pinned()?;
        let seen = self.probe(&old.url).await?;
        let drift = Drift::between(&old, &seen.pinned);
        self.write(&server, connection.id, name, seen).await?;
        Ok(drift)
    }

    /// Forgets an external server; [`ErrorKind::NotFound`] if it is not connected.
    pub async fn remove(&self, key: &ServerKey, name: &str) -> Result<()> {
        let (_, connection) = self.find(key, name).await?;
        self.backends.registry.remove_connection(connection.id).await
    }

    /// Calls a tool of an external server, if that server still offers what was accepted. No credentials of the caller
    /// are passed on.
    ///
    /// [`ErrorKind::Conflict`] names what differs; nothing is called then.
    pub async fn call_tool(
        &self,
        key: &ServerKey,
        name: &str,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolAnswer> {
        let (_, connection) = self.find(key, name).await?;
        let pinned = connection.pinned()?;
        let (client, seen) = self.open(&pinned.url).await?;
        let drift = Drift::between(&pinned, &seen.pinned);
        if !drift.is_empty() {
            client.close().await;
            return Err(drifted(name, &drift));
        }
        if !pinned.tools.contains_key(tool) {
            client.close().await;
            return Err(Error::new(ErrorKind::NotFound, format!("external server {name:?} has no tool {tool:?}")));
        }
        call_connected(client, tool, arguments, CALL_LIMIT).await
    }

    async fn probe(&self, url: &Url) -> Result<Seen> {
        let (client, seen) = self.open(url).await?;
        client.close().await;
        Ok(seen)
    }

    /// Connects and lists, within the limit.
    async fn open(&self, url: &Url) -> Result<(McpClient, Seen)> {
        let http = self.trusted.client_for(url)?;
        let opened = timeout(PROBE_LIMIT, async {
            let client = McpClient::connect_with(&Endpoint::new(url.clone()), http).await?;
            let seen = look(&client, url).await?;
            Ok((client, seen))
        });
        opened.await.map_err(|_| {
            let message = format!("{} did not say what it offers within {} s", shown(url), PROBE_LIMIT.as_secs());
            Error::new(ErrorKind::TimedOut, message)
        })?
    }

    async fn find(&self, key: &ServerKey, name: &str) -> Result<(ServerRecord, ClientConnection)> {
        let server = self.backends.registry.get_server(key).await?;
        let known = self.backends.registry.list_connections(server.id).await?;
        if let Some(connection) = known.iter().find(|known| known.name == name) {
            return Ok((server, connection.clone()));
        }
        let names: Vec<_> = known.iter().map(|known| known.name.as_str()).collect();
        let short: String = name.chars().take(MAX_NAME).collect();
        let error = Error::new(ErrorKind::NotFound, format!("server {} has no connection {short:?}", server.name));
        Err(match names.as_slice() {
            [] => error.with_help("connect it first"),
            names => error.with_help(format!("its connections are: {}", names.join(", "))),
        })
    }

    async fn write(&self, server: &ServerRecord, id: Uuid, name: &str, seen: Seen) -> Result<ClientConnection> {
        let connection = ClientConnection {
            id,
            name: name.to_owned(),
            server_id: server.id,
            config: serde_json::to_value(&seen.pinned).unwrap_or_default(),
            capabilities: seen.capabilities,
            tools_count: count(seen.pinned.tools.len()),
            resources_count: count(seen.resources),
            prompts_count: count(seen.prompts),
            last_connected: Some(OffsetDateTime::now_utc()),
        };
        self.backends.registry.put_connection(&connection).await?;
        Ok(connection)
    }
}

impl ClientConnection {
    /// What was written down of the external server.
    pub fn pinned(&self) -> Result<PinnedServer> {
        serde_json::from_value(self.config.clone()).map_err(|error| {
            let message = format!("connection {:?} is not stored as it should be", self.name);
            Error::new(ErrorKind::Unexpected, message).with_source(error)
        })
    }
}

/// What an external server offers.
struct Seen {
    pinned: PinnedServer,
    capabilities: Value,
    resources: usize,
    prompts: usize,
}

async fn look(client: &McpClient, url: &Url) -> Result<Seen> {
    let capabilities = client.capabilities();
    let has = |what: &str| capabilities.get(what).is_some();
    let tools = if has("tools") { client.list_tools().await? } else { Vec::new() };
    if tools.len() > MAX_TOOLS {
        let message = format!("{} lists {} tools", shown(url), tools.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message).with_help(format!("at most {MAX_TOOLS} are taken")));
    }
    let resources = if has("resources") { client.list_resources().await?.len() } else { 0 };
    let prompts = if has("prompts") { client.list_prompts().await?.len() } else { 0 };
    let tools = pin::pins(&tools, url)?;
    let pinned = PinnedServer { url: url.clone(), protocol_version: client.protocol_version(), tools };
    Ok(Seen { pinned, capabilities, resources, prompts })
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn drifted(name: &str, drift: &Drift) -> Error {
    let Drift { added, changed, removed } = drift;
    let parts = [("new", added), ("changed", changed), ("gone", removed)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<_> = parts.map(|(word, names)| format!("{word}: {}", names.join(", "))).collect();
    let message = format!("external server {name:?} offers other tools than were accepted ({})", parts.join("; "));
    Error::new(ErrorKind::Conflict, message)
        .with_help("look at what it offers now, then accept it or remove the connection")
}

fn check_name(name: &str) -> Result<()> {
    if (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("a connection's name has 1 to {MAX_NAME} bytes without control characters");
    Err(Error::new(ErrorKind::InvalidDefinition, message))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
