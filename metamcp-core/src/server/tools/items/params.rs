//! The arguments of the tools that add, change and remove items. Doc comments are what agents read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::server::call::ServerArg;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct AddTool {
    pub(super) server_id: ServerArg,
    pub(super) tool_name: String,
    /// What it does and when to use it
    pub(super) description: String,
    /// {"city":{"type":"string","required":true}}, or a JSON Schema of type object
    #[serde(default)]
    pub(super) parameters: Map<String, Value>,
    /// JavaScript function body, like `const r = await fetch(parameters.url); return r.text();`
    pub(super) implementation: String,
    #[serde(flatten)]
    pub(super) options: ToolOptions,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    /// JSON Schema of the returned data
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_schema: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Map<String, Value>>,
    /// timeoutMs, responseBytes
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Map<String, Value>>,
    /// {"arguments":{},"expected":…}: checked before each deployment
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) examples: Option<Vec<Map<String, Value>>>,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct UpdateTool {
    pub(super) server_id: ServerArg,
    pub(super) tool_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implementation: Option<String>,
    #[serde(flatten)]
    pub(super) options: ToolOptions,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct RemoveTool {
    pub(super) server_id: ServerArg,
    pub(super) tool_name: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct AddResource {
    pub(super) server_id: ServerArg,
    /// Like `config://settings`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri: Option<String>,
    /// RFC 6570, instead of uri, like `item://{id}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri_template: Option<String>,
    pub(super) name: String,
    pub(super) description: String,
    /// Default text/plain
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mime_type: Option<String>,
    /// JavaScript function body that sees `uri`, `variables`, `env`, `ctx` and returns text or bytes
    pub(super) implementation: String,
    #[serde(flatten)]
    pub(super) options: ResourceOptions,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Map<String, Value>>,
    /// Values offered, by variable
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completion: Option<Map<String, Value>>,
    /// ttlMs, cacheScope
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Map<String, Value>>,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct UpdateResource {
    pub(super) server_id: ServerArg,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mime_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implementation: Option<String>,
    #[serde(flatten)]
    pub(super) options: ResourceOptions,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct RemoveResource {
    pub(super) server_id: ServerArg,
    pub(super) name: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct AddPrompt {
    pub(super) server_id: ServerArg,
    pub(super) prompt_name: String,
    pub(super) description: String,
    #[serde(flatten)]
    pub(super) options: PromptOptions,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptOptions {
    /// Text with {{variable}} placeholders, each a declared argument
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    /// Instead of template: JavaScript function body that returns text or messages
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implementation: Option<String>,
    /// {"name","description","required","completion"}
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<Vec<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct UpdatePrompt {
    pub(super) server_id: ServerArg,
    pub(super) prompt_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(flatten)]
    pub(super) options: PromptOptions,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct RemovePrompt {
    pub(super) server_id: ServerArg,
    pub(super) prompt_name: String,
}
