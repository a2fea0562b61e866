//! Tools from a description of an API.

use std::future::ready;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    let import = ApiImport::read(&params.document, &options)?;
    let skipped = import.skipped.iter();
    let skipped =
        skipped.map(|skipped| Skipped { operation: skipped.operation.clone(), reason: skipped.reason.clone() });
    let record = call.edit(&key, |definition| ready(import.add_to(&definition))).await?;
    Ok(Imported {
        revision: record.revision.0,
        skipped: skipped.collect(),
        tools: import.tools.into_iter().map(|tool| tool.name).collect(),
        secrets: import.secrets,
    })
}
