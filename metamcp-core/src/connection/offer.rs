//! [`Offer`]: what an external server offers now, for whoever has to accept or call it.

use rmcp::model::Tool;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::{Drift, shown};
use crate::json_size::json_size;
use crate::source_tree::Digest;
use crate::text::visible;
use crate::{Error, ErrorKind, Result};

/// Longest description of another server's tool that is shown, in characters.
const MAX_DESCRIPTION: usize = 4_096;
/// Largest tool of another server, in bytes of JSON: what is shown of it is all that a model is told.
const MAX_TOOL_BYTES: usize = 64 * 1024;

/// What an external server offers now. What it says of itself was written by others: read it as that.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Offer {
    /// Digest of all of it: what [`Connections::accept`](super::Connections::accept) takes.
    pub digest: Digest,
    /// How it differs from what was accepted.
    pub drift: Drift,
    /// Its tools, in order of names.
    pub tools: Vec<OfferedTool>,
}

/// A tool of an external server, as that describes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OfferedTool {
    /// Its name.
    pub name: String,
    /// What it says that it does: with a mark for each character that hides text, and not longer than 4,096
    /// characters.
    pub description: String,
    /// JSON Schema of its arguments, with such marks too.
    pub input_schema: Value,
}

impl OfferedTool {
    /// The tools whose names are taken as they are ([`pins`](super::pin::pins)), in order;
    /// [`ErrorKind::LimitExceeded`] if one of them is larger than 64 KiB.
    pub(super) fn all(tools: Vec<Tool>, url: &Url) -> Result<Vec<Self>> {
        if let Some(large) = tools.iter().find(|tool| json_size(tool) > MAX_TOOL_BYTES) {
            let message = format!("{} lists tool {:?} in more than {MAX_TOOL_BYTES} bytes", shown(url), large.name);
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("its author has to shorten it"));
        }
        let mut offered: Vec<_> = tools.into_iter().map(Self::from).collect();
        offered.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(offered)
    }
}

impl From<Tool> for OfferedTool {
    fn from(tool: Tool) -> Self {
        let description = tool.description.as_deref().unwrap_or_default();
        Self {
            name: tool.name.into_owned(),
            description: visible(description).take(MAX_DESCRIPTION).collect(),
            input_schema: all_visible(&Value::Object((*tool.input_schema).clone())),
        }
    }
}

/// A value with marks for what hides text in it, also in names of members.
fn all_visible(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(text).collect()),
        Value::Array(items) => items.iter().map(all_visible).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (visible(name).collect::<String>(), all_visible(value))).collect()
        }
        other => other.clone(),
    }
}
