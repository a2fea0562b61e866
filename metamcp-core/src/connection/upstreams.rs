//! What a server is generated from: its working definition, and for one that routes its external servers too.

use serde_json::{Value, json};

use crate::definition::ServerDefinition;
use crate::meta_mcp::Backends;
use crate::name::TemplateKind;
use crate::registry::{ClientConnection, ServerRecord};
use crate::validate::ValidDefinition;
use crate::validated::validated;
use crate::{Error, ErrorKind, Result};

/// The checked definition that a server is generated from now. For the template `routing`, every connection is an
/// upstream after those of `options`, with the tools that were accepted; a version's snapshot is this definition.
pub(crate) async fn effective(backends: &Backends, record: &ServerRecord) -> Result<ValidDefinition> {
    let written = validated(record.definition.clone()).await?;
    if written.template() != TemplateKind::Routing {
        return Ok(written);
    }
    routed(&record.definition, &backends.registry.list_connections(record.id).await?).await
}

/// Refuses an external server that could not be served once its router is deployed. Other templates serve none, and call
/// them whatever their names are.
pub(super) async fn check_route(definition: &ServerDefinition, connection: &ClientConnection) -> Result<()> {
    if definition.template != TemplateKind::Routing.as_str() {
        return Ok(());
    }
    routed(definition, std::slice::from_ref(connection)).await.map(drop)
}

async fn routed(definition: &ServerDefinition, connections: &[ClientConnection]) -> Result<ValidDefinition> {
    validated(with_connections(definition, connections)?).await.map_err(|error| {
        let names: Vec<_> = connections.iter().map(|connection| format!("{:?}", connection.name)).collect();
        error.with_help(format!("the last of the upstreams are its external servers {}", names.join(", ")))
    })
}

/// A router without upstreams is not made live: it would offer nothing of what it is for.
pub(crate) fn check_routes(definition: &ValidDefinition) -> Result<()> {
    let upstreams = definition.options().get("upstreams").and_then(Value::as_array);
    if definition.template() != TemplateKind::Routing || upstreams.is_some_and(|upstreams| !upstreams.is_empty()) {
        return Ok(());
    }
    let message = format!("server {} routes to nothing", definition.name());
    Err(Error::new(ErrorKind::InvalidDefinition, message)
        .with_help("connect an external server to it, or name upstreams in `options`"))
}

fn with_connections(definition: &ServerDefinition, connections: &[ClientConnection]) -> Result<ServerDefinition> {
    let mut merged = definition.clone();
    let upstreams = merged.options.entry("upstreams").or_insert_with(|| json!([]));
    let Value::Array(upstreams) = upstreams else { return Ok(merged) };
    for connection in connections {
        let pinned = connection.pinned()?;
        upstreams.push(json!({
            "name": connection.name,
            "replicas": [{ "url": pinned.url }],
            "pins": pinned.tools,
        }));
    }
    Ok(merged)
}
