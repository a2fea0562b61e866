//! [`Connections`]: external MCP servers that a server works with. Connecting one pins what it offers; when that
//! changes, none of its tools is called until somebody accepts the change.

mod address;
mod drift;
mod offer;
mod old_transport;
mod pin;
mod upstreams;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::Tool;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::canonical::canonical_json;
use crate::deploy::{CallTerms, ToolAnswer, call_connected};
use crate::meta_mcp::Backends;
use crate::name::ServerKey;
use crate::publisher::Endpoint;
use crate::registry::{ClientConnection, ServerRecord};
use crate::source_tree::Digest;
use crate::text::is_unprintable;
use crate::trace::{traced, verb};
use crate::verify::{Allowance, McpClient};
use crate::{Error, ErrorKind, Result};

pub use address::TrustedHosts;
pub use drift::Drift;
pub use offer::{Offer, OfferedTool};
pub(crate) use upstreams::{check_routes, effective};

use drift::changed_meanwhile;
use upstreams::check_route;

/// How long connecting and listing may take.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// How long a call of an external tool may take beside that.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Size of one message of an external server: its list of tools is one, and larger than answers may be.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
const MAX_TOOLS: usize = 2_000;
/// Resources, and prompts, that are counted; none is kept.
const MAX_COUNTED: usize = 10_000;
/// All lists of an external server together, in bytes of JSON.
const MAX_LISTS: usize = 16 * 1024 * 1024;
/// External servers that are looked at at once: each may make this process hold its lists.
static LOOKS: Semaphore = Semaphore::const_new(8);
const MAX_NAME: usize = 64;

/// The transport to an external server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConnectTransport {
    /// The HTTP+SSE transport of 2024, which is not supported.
    Sse,
    /// Streamable HTTP, in either protocol era.
    StreamableHttp,
    /// Whichever works; today that is streamable HTTP.
    #[default]
    Auto,
}

/// The part of an external server that is pinned, stored as [`ClientConnection::config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PinnedServer {
    /// Its endpoint.
    pub url: Url,
    /// The revision of MCP that was negotiated.
    pub protocol_version: String,
    /// Digest of each tool's description and schemas, by its name.
    pub tools: BTreeMap<String, Digest>,
}

impl PinnedServer {
    /// Digest of everything that it offers to a model.
    pub fn digest(&self) -> Digest {
        Digest::of(canonical_json(&self.tools))
    }
}

/// External MCP servers. Cheap to clone.
///
/// [`Connections::call_tool`] calls their tools. A server of the template `routing` also serves these tools beside its
/// own, with each connection as an upstream, as far as they are still what was accepted. A change here takes effect at
/// its next deployment.
#[derive(Debug, Clone)]
pub struct Connections {
    backends: Arc<Backends>,
    trusted: Arc<TrustedHosts>,
}

impl Connections {
    pub(crate) fn new(backends: Arc<Backends>, trusted: Arc<TrustedHosts>) -> Self {
        Self { backends, trusted }
    }

    /// Connects a server to an external one and pins what that offers. Connecting the same name and URL again succeeds
    /// if nothing has changed; a change needs [`Connections::accept`].
    ///
    /// [`ErrorKind::PermissionDenied`] for an address that is not public, unless its host is trusted;
    /// [`ErrorKind::Unsupported`] for a server that speaks the HTTP+SSE transport only; [`ErrorKind::Unavailable`] if it
    /// cannot be reached or says that it cannot answer now; [`ErrorKind::VerificationFailed`] if what it answers is not
    /// MCP; [`ErrorKind::Unauthenticated`] if it asks for credentials; [`ErrorKind::AlreadyExists`] if the name is taken;
    /// [`ErrorKind::InvalidDefinition`] if the server routes and could not have it as an upstream of that name.
    pub async fn connect(
        &self,
        key: &ServerKey,
        name: &str,
        url: &Url,
        transport: ConnectTransport,
    ) -> Result<ClientConnection> {
        traced(verb!(INFO, "connections.connect", server = %key), async move {
            if transport == ConnectTransport::Sse {
                return Err(old_transport::unsupported("the HTTP+SSE transport of 2024-11-05 is not supported"));
            }
            check_name(name)?;
            let server = self.backends.registry.get_server(key).await?;
            let seen = self.probe(url).await?;
            let known = self.backends.registry.list_connections(server.id).await?;
            let id = match known.iter().find(|known| known.name == name) {
                Some(known) => {
                    let pinned = known.pinned()?;
                    if pinned.url != *url || !Drift::between(&pinned, &seen.pinned).is_empty() {
                        return Err(Error::new(
                            ErrorKind::AlreadyExists,
                            format!("connection {name:?} exists already"),
                        )
                        .with_help("accept what changed, or remove the connection first"));
                    }
                    known.id
                }
                None => Uuid::new_v4(),
            };
            self.write(&server, id, name, seen).await
        })
        .await
    }

    /// Lists the connections of a server, in order of names.
    pub async fn list(&self, key: &ServerKey) -> Result<Vec<ClientConnection>> {
        traced(verb!(DEBUG, "connections.list", server = %key), async move {
            let (id, _) = self.backends.registry.get_revision(key).await?;
            self.backends.registry.list_connections(id).await
        })
        .await
    }

    /// Asks an external server what it offers now, with what an agent needs to call it.
    pub async fn offer(&self, key: &ServerKey, name: &str) -> Result<Offer> {
        traced(verb!(DEBUG, "connections.offer", server = %key), async move {
            let (_, connection) = self.find(key, name).await?;
            let pinned = connection.pinned()?;
            let seen = self.probe(&pinned.url).await?;
            let (digest, drift) = (seen.pinned.digest(), Drift::between(&pinned, &seen.pinned));
            Ok(Offer { digest, drift, tools: seen.tools })
        })
        .await
    }

    /// Pins what the external server offers now, provided that it is what was shown ([`Offer::digest`]), and returns the
    /// difference to what was pinned before.
    ///
    /// [`ErrorKind::Conflict`] if it has changed since; the error contains the new digest.
    pub async fn accept(&self, key: &ServerKey, name: &str, shown: &Digest) -> Result<Drift> {
        traced(verb!(INFO, "connections.accept", server = %key), async move {
            let (server, connection) = self.find(key, name).await?;
            let old = connection.pinned()?;
            let seen = self.probe(&old.url).await?;
            let offered = seen.pinned.digest();
            if offered != *shown {
                return Err(changed_meanwhile(name, shown, &offered));
            }
            let drift = Drift::between(&old, &seen.pinned);
            self.write(&server, connection.id, name, seen).await?;
            Ok(drift)
        })
        .await
    }

    /// Removes a connection; [`ErrorKind::NotFound`] if there is none.
    pub async fn remove(&self, key: &ServerKey, name: &str) -> Result<()> {
        traced(verb!(INFO, "connections.remove", server = %key), async move {
            let (_, connection) = self.find(key, name).await?;
            self.backends.registry.remove_connection(connection.id).await
        })
        .await
    }

    /// Calls a tool of an external server, provided that the server still offers what was accepted. The caller's
    /// credentials are not passed on.
    ///
    /// [`ErrorKind::Conflict`] names what differs, and then nothing was called. [`ErrorKind::LimitExceeded`] for an answer
    /// of more than [`MAX_RESULT_BYTES`](crate::MAX_RESULT_BYTES). A call without an answer is retryable as in
    /// [`Deployments::call_tool`](crate::Deployments::call_tool), by the annotations that were accepted.
    pub async fn call_tool(
        &self,
        key: &ServerKey,
        name: &str,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolAnswer> {
        traced(verb!(INFO, "connections.call_tool", server = %key), async move {
            let (_, connection) = self.find(key, name).await?;
            let pinned = connection.pinned()?;
            let (client, seen) = self.open(&pinned.url).await?;
            let drift = Drift::between(&pinned, &seen.pinned);
            if !drift.is_empty() {
                client.close().await;
                return Err(drift.error(name, &seen.pinned.digest()));
            }
            if !pinned.tools.contains_key(tool) {
                client.close().await;
                return Err(Error::new(ErrorKind::NotFound, format!("external server {name:?} has no tool {tool:?}")));
            }
            let terms = CallTerms { limit: CALL_LIMIT, is_repeatable: seen.repeatable.contains(tool) };
            drop(seen);
            call_connected(client, tool, arguments, terms).await
        })
        .await
    }

    async fn probe(&self, url: &Url) -> Result<Seen> {
        let (client, seen) = self.open(url).await?;
        client.close().await;
        Ok(seen)
    }

    /// Connects and lists, within the limit.
    async fn open(&self, url: &Url) -> Result<(McpClient, Seen)> {
        let http = self.trusted.client_for(url)?;
        let Ok(Ok(_turn)) = timeout(PROBE_LIMIT, LOOKS.acquire()).await else {
            return Err(Error::new(ErrorKind::RateLimited, "too many external servers are being looked at"));
        };
        let opened = timeout(PROBE_LIMIT, async {
            let client = connected(url, http).await?;
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
        check_route(&server.definition, &connection).await?;
        self.backends.registry.put_connection(&connection).await?;
        Ok(connection)
    }
}

impl ClientConnection {
    /// The pinned part of the external server.
    pub fn pinned(&self) -> Result<PinnedServer> {
        serde_json::from_value(self.config.clone()).map_err(|error| {
            let message = format!("connection {:?} is not stored as it should be", self.name);
            Error::new(ErrorKind::Unexpected, message).with_source(error)
        })
    }
}

async fn connected(url: &Url, http: &reqwest::Client) -> Result<McpClient> {
    let error = match McpClient::connect_with(&Endpoint::new(url.clone()), http, MAX_MESSAGE).await {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::Unauthenticated => Err(error.with_help("servers that need credentials cannot be connected yet")),
        ErrorKind::VerificationFailed if old_transport::answers(http, url).await => {
            let url = shown(url);
            let message = format!("{url} speaks only the HTTP+SSE transport of 2024-11-05, which is not supported");
            Err(old_transport::unsupported(message))
        }
        ErrorKind::VerificationFailed => {
            Err(error.with_help("the address has to be that of its streamable HTTP endpoint, often at /mcp"))
        }
        _ => Err(error),
    }
}

/// What an external server offers.
struct Seen {
    pinned: PinnedServer,
    tools: Vec<OfferedTool>,
    /// Names of the tools of which it says that calling them again does nothing more.
    repeatable: HashSet<String>,
    capabilities: Value,
    resources: usize,
    prompts: usize,
}

async fn look(client: &McpClient, url: &Url) -> Result<Seen> {
    let capabilities = client.capabilities();
    let has = |what: &str| capabilities.get(what).is_some();
    let mut allowance = Allowance { items: MAX_TOOLS, bytes: MAX_LISTS };
    let tools = if has("tools") { client.list_tools_within(&mut allowance).await? } else { Vec::new() };
    allowance.items = MAX_COUNTED;
    let resources = if has("resources") { client.count_resources(&mut allowance).await? } else { 0 };
    let prompts = if has("prompts") { client.count_prompts(&mut allowance).await? } else { 0 };
    let pins = pin::pins(&tools, url)?;
    let pinned = PinnedServer { url: url.clone(), protocol_version: client.protocol_version(), tools: pins };
    let repeatable = tools.iter().filter(|tool| is_repeatable(tool)).map(|tool| tool.name.to_string()).collect();
    Ok(Seen { pinned, tools: OfferedTool::all(tools, url)?, repeatable, capabilities, resources, prompts })
}

fn is_repeatable(tool: &Tool) -> bool {
    let hints = tool.annotations.as_ref().map(|hints| [hints.read_only_hint, hints.idempotent_hint]);
    hints.is_some_and(|hints| hints.contains(&Some(true)))
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn check_name(name: &str) -> Result<()> {
    if (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(is_unprintable) {
        return Ok(());
    }
    let message = format!("a connection's name has 1 to {MAX_NAME} bytes without control and hidden characters");
    Err(Error::new(ErrorKind::InvalidDefinition, message))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
