//! Tools from a description of an API.

use std::future::ready;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::openapi::{ApiImport, ImportOptions};
use crate::server::call::{Call, ServerArg};
use crate::{Error, ErrorKind, Result};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Import {
    server_id: ServerArg,
    /// OpenAPI 3.0 or 3.1, JSON or YAML
    document: String,
    /// Where the API is, if not where the document says
    #[serde(default)]
    base_url: Option<String>,
    /// Only operations with one of them
    #[serde(default)]
    tags: Vec<String>,
    /// Only these: operationId, or `GET /path`
    #[serde(default)]
    operations: Vec<String>,
    /// Replace tools of an earlier import
    #[serde(default)]
    replace: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Imported {
    revision: u64,
    tools: Vec<String>,
    /// To be set before the tools work
    secrets: Vec<String>,
    skipped: Vec<Skipped>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Skipped {
    operation: String,
    reason: String,
}

pub(in crate::server) async fn import(call: Call, params: Import) -> Result<Imported> {
    let key = call.server(&params.server_id).await?;
    let base_url = params.base_url.as_deref().map(str::parse).transpose().map_err(|error| {
        Error::new(ErrorKind::InvalidDefinition, "baseUrl is no URL such as https://api.example.com/v1")
            .with_source(error)
    })?;
    let options = ImportOptions { base_url, tags: params.tags, operations: params.operations };
    // Off the threads that drive tasks: documents are large, and each of their tools is checked.
    let read = spawn_blocking(move || ApiImport::read(&params.document, &options)).await;
    let import = read.map_err(|error| {
        Error::new(ErrorKind::Unexpected, "the reading of the document broke down").with_source(error)
    })??;
    let skipped = import.skipped.iter();
    let skipped =
        skipped.map(|skipped| Skipped { operation: skipped.operation.clone(), reason: skipped.reason.clone() });
    let put = if params.replace { ApiImport::replace_in } else { ApiImport::add_to };
    let record = call.edit(&key, |definition| ready(put(&import, &definition))).await?;
    let import = import.beside(&record.definition);
    Ok(Imported {
        revision: record.revision.0,
        skipped: skipped.collect(),
        tools: import.tools.into_iter().map(|tool| tool.name).collect(),
        secrets: import.secrets,
    })
}
