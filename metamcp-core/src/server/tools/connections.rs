//! External MCP servers of a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Done, OneServer};
use crate::connection::{ConnectTransport, Drift};
use crate::registry::ClientConnection;
use crate::server::call::{Call, ServerArg};
use crate::{Error, ErrorKind, Result};

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

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Externals {
    connections: Vec<External>,
}

pub(in crate::server) async fn list(call: Call, params: OneServer) -> Result<Externals> {
    let key = call.server(&params.server_id).await?;
    let listed = call.meta.connections().list(&key).await?;
    Ok(Externals { connections: listed.into_iter().map(TryInto::try_into).collect::<Result<_>>()? })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct OneConnection {
    server_id: ServerArg,
    server_name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Accepted {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

pub(in crate::server) async fn accept(call: Call, params: OneConnection) -> Result<Accepted> {
    let key = call.server(&params.server_id).await?;
    let Drift { added, changed, removed } = call.meta.connections().accept(&key, &params.server_name).await?;
    Ok(Accepted { added, changed, removed })
}

pub(in crate::server) async fn remove(call: Call, params: OneConnection) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    call.meta.connections().remove(&key, &params.server_name).await?;
    Ok(Done::YES)
}
