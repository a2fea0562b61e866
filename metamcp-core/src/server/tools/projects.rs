//! The generated project, and whole definitions in and out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::OneServer;
use super::servers::{as_object, text_of};
use crate::Result;
use crate::server::call::{Call, ServerArg};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Code {
    server_id: ServerArg,
    file_type: FileType,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FileType {
    Index,
    Wrangler,
    Package,
    All,
}

impl FileType {
    /// Whether it stands for this file. The index is the entry point and the bodies that it serves.
    fn holds(self, path: &str) -> bool {
        match self {
            Self::Index => path == "src/index.ts" || path == "src/definition.json" || path.starts_with("src/bodies"),
            Self::Wrangler => path == "wrangler.jsonc",
            Self::Package => path == "package.json",
            Self::All => true,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Files {
    files: BTreeMap<String, String>,
    generated_at: String,
}

pub(in crate::server) async fn code(call: Call, params: Code) -> Result<Files> {
    let key = call.server(&params.server_id).await?;
    let tree = call.meta.servers().code(&key).await?;
    let wanted = tree.iter().filter(|(path, _)| params.file_type.holds(path));
    let files = wanted.map(|(path, content)| (path.to_owned(), String::from_utf8_lossy(content).into_owned()));
    Ok(Files { files: files.collect(), generated_at: text_of(OffsetDateTime::now_utc()) })
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Exported {
    definition: Map<String, Value>,
}

pub(in crate::server) async fn export(call: Call, params: OneServer) -> Result<Exported> {
    let key = call.server(&params.server_id).await?;
    Ok(Exported { definition: as_object(&call.meta.servers().get(&key).await?.definition) })
}
