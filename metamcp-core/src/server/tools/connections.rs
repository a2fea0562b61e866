//! External MCP servers of a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::Done;
use crate::connection::{ConnectTransport, Drift, Offer};
use crate::registry::ClientConnection;
use crate::server::call::{Call, ServerArg};
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, Result};

/// Tools whose descriptions and schemas are shown at once.
const SHOWN_TOOLS: usize = 50;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Connect {
    server_id: ServerArg,
    server_url: String,
    server_name: String,
    /// sse is not supported
    #[serde(default)]
    transport: ConnectTransport,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct External {
    server_name: String,
    server_url: String,
    protocol_version: String,
    tools: Vec<String>,
    resources_count: u32,
    prompts_count: u32,
}

impl TryFrom<ClientConnection> for External {
    type Error = Error;

    fn try_from(connection: ClientConnection) -> Result<Self> {
        let pinned = connection.pinned()?;
        Ok(Self {
            server_name: connection.name,
            server_url: pinned.url.into(),
            protocol_version: pinned.protocol_version,
            tools: pinned.tools.into_keys().collect(),
            resources_count: connection.resources_count,
            prompts_count: connection.prompts_count,
        })
    }
}

pub(in crate::server) async fn connect(call: Call, params: Connect) -> Result<External> {
    let key = call.server(&params.server_id).await?;
    let url: Url = params.server_url.parse().map_err(|error| {
        Error::new(ErrorKind::InvalidDefinition, "serverUrl is no URL such as https://example.com/mcp")
            .with_source(error)
    })?;
    call.meta.connections().connect(&key, &params.server_name, &url, params.transport).await?.try_into()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct ListExternal {
    server_id: ServerArg,
    server_name: Option<String>,
    /// Only this tool of it
    tool_name: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Externals {
    #[schemars(with = "Vec<Map<String, Value>>")]
    connections: Vec<External>,
    /// Schemas, digest, drift
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    offer: Option<Offer>,
}

pub(in crate::server) async fn list(call: Call, params: ListExternal) -> Result<Externals> {
    let key = call.server(&params.server_id).await?;
    let connections = call.meta.connections();
    let mut listed = connections.list(&key).await?;
    let offer = match &params.server_name {
        Some(name) => {
            listed.retain(|connection| connection.name == *name);
            Some(shown(connections.offer(&key, name).await?, name, params.tool_name.as_deref())?)
        }
        None => None,
    };
    Ok(Externals { connections: listed.into_iter().map(TryInto::try_into).collect::<Result<_>>()?, offer })
}

/// An offer with the tools that were asked for, if they are few enough.
fn shown(mut offer: Offer, server: &str, tool: Option<&str>) -> Result<Offer> {
    if let Some(tool) = tool {
        offer.tools.retain(|offered| offered.name == tool);
        if offer.tools.is_empty() {
            let message = format!("external server {server:?} offers no tool {tool:?}");
            return Err(Error::new(ErrorKind::NotFound, message).with_help("leave toolName out to see all"));
        }
    }
    if offer.tools.len() > SHOWN_TOOLS {
        let message = format!("external server {server:?} offers {} tools", offer.tools.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message)
            .with_help("name one of the listed tools in toolName to see its schema"));
    }
    Ok(offer)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Accept {
    server_id: ServerArg,
    server_name: String,
    /// From `list_external_mcp`
    digest: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Accepted {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

pub(in crate::server) async fn accept(call: Call, params: Accept) -> Result<Accepted> {
    let key = call.server(&params.server_id).await?;
    let shown: Digest = params.digest.parse().map_err(|_| {
        Error::new(ErrorKind::InvalidDefinition, "digest is none such as list_external_mcp shows with serverName")
    })?;
    let Drift { added, changed, removed } = call.meta.connections().accept(&key, &params.server_name, &shown).await?;
    Ok(Accepted { added, changed, removed })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct OneConnection {
    server_id: ServerArg,
    server_name: String,
}

pub(in crate::server) async fn remove(call: Call, params: OneConnection) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    call.meta.connections().remove(&key, &params.server_name).await?;
    Ok(Done::YES)
}
