//! What validation gives: the definition with every name checked and every default applied.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::{Auth, Binding, CacheHint, Probe, PromptArgument, ServerDefinition, ToolExample};
use crate::name::{EnvName, ItemName, ServerName, TemplateKind};
use crate::source_tree::Digest;

/// A definition that [`validate`](crate::validate()) found good; there is no other way to one.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidDefinition {
    pub(super) written: ServerDefinition,
    pub(super) digest: Digest,
    pub(super) name: ServerName,
    pub(super) template: TemplateKind,
    pub(super) options: Map<String, Value>,
    pub(super) tools: Vec<ValidTool>,
    pub(super) resources: Vec<ValidResource>,
    pub(super) prompts: Vec<ValidPrompt>,
    pub(super) secrets: Vec<EnvName>,
    pub(super) vars: BTreeMap<EnvName, Value>,
    pub(super) bindings: BTreeMap<EnvName, Binding>,
    pub(super) egress: Option<Vec<EgressRule>>,
    pub(super) limits: EffectiveLimits,
}

impl ValidDefinition {
    /// The definition as it was written.
    pub fn written(&self) -> &ServerDefinition {
        &self.written
    }

    /// SHA-256 of the definition in canonical JSON: equal digests, equal definitions.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The server's name.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// The template it is generated from.
    pub fn template(&self) -> TemplateKind {
        self.template
    }

    /// The template's options, defaults applied.
    pub fn options(&self) -> &Map<String, Value> {
        &self.options
    }

    /// Tools in listed order; those of the template, which follow them in the list, are in its
    /// [`manifest`](TemplateKind::manifest).
    pub fn tools(&self) -> &[ValidTool] {
        &self.tools
    }

    /// Resources and resource templates in listed order.
    pub fn resources(&self) -> &[ValidResource] {
        &self.resources
    }

    /// Prompts in listed order.
    pub fn prompts(&self) -> &[ValidPrompt] {
        &self.prompts
    }

    /// Names of the declared secrets.
    pub fn secrets(&self) -> &[EnvName] {
        &self.secrets
    }

    /// Plain values by name.
    pub fn vars(&self) -> &BTreeMap<EnvName, Value> {
        &self.vars
    }

    /// Bindings by name.
    pub fn bindings(&self) -> &BTreeMap<EnvName, Binding> {
        &self.bindings
    }

    /// Where the server may connect to; `None` is the public internet.
    pub fn egress(&self) -> Option<&[EgressRule]> {
        self.egress.as_deref()
    }

    /// The server's own limits.
    pub fn limits(&self) -> EffectiveLimits {
        self.limits
    }

    /// Whether clients of the 2025 revisions get sessions.
    pub fn sessions(&self) -> bool {
        self.written.sessions
    }

    /// How long clients may keep its lists.
    pub fn cache(&self) -> Option<&CacheHint> {
        self.written.cache.as_ref()
    }

    /// Who may call it.
    pub fn auth(&self) -> &Auth {
        &self.written.auth
    }

    /// The secret a caller has to send as a bearer token, if any.
    pub fn bearer_secret(&self) -> Option<&EnvName> {
        match &self.written.auth {
            Auth::None => None,
            Auth::Bearer { secret } => self.secrets.iter().find(|name| name.as_str() == secret),
        }
    }

    /// The call made when a deployment is verified.
    pub fn probe(&self) -> Option<&Probe> {
        self.written.probe.as_ref()
    }
}

/// A checked tool.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValidTool {
    /// Checked name.
    pub name: ItemName,
    /// Name for people.
    pub title: Option<String>,
    /// What it does.
    pub description: String,
    /// JSON Schema 2020-12 of the arguments; always of type `object`.
    pub input_schema: Map<String, Value>,
    /// JSON Schema 2020-12 of `structuredContent`.
    pub output_schema: Option<Value>,
    /// MCP tool annotations.
    pub annotations: Option<Map<String, Value>>,
    /// Its limits, defaults applied.
    pub limits: EffectiveLimits,
    /// Calls run before a version goes live.
    pub examples: Vec<ToolExample>,
    /// JavaScript function body, parsed and found good.
    pub implementation: String,
}

/// A checked resource or resource template.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValidResource {
    /// URI or URI template.
    pub address: ResourceAddress,
    /// Name, unique within the server.
    pub name: String,
    /// Name for people.
    pub title: Option<String>,
    /// What it holds.
    pub description: String,
    /// MIME type, `text/plain` by default.
    pub mime_type: String,
    /// MCP annotations.
    pub annotations: Option<Map<String, Value>>,
    /// Values offered for the variables of a template.
    pub completion: BTreeMap<String, Vec<String>>,
    /// How long clients may keep what a read answers.
    pub cache: Option<CacheHint>,
    /// Its limits, defaults applied.
    pub limits: EffectiveLimits,
    /// JavaScript function body, parsed and found good.
    pub implementation: String,
}

/// How a resource is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceAddress {
    /// One absolute URI.
    Uri(String),
    /// An RFC 6570 template.
    Template(String),
}

/// A checked prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValidPrompt {
    /// Checked name.
    pub name: ItemName,
    /// Name for people.
    pub title: Option<String>,
    /// What it is for.
    pub description: String,
    /// Arguments in listed order.
    pub arguments: Vec<PromptArgument>,
    /// Its limits, defaults applied.
    pub limits: EffectiveLimits,
    /// Where its messages come from.
    pub source: ValidPromptSource,
}

/// Where a prompt's messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidPromptSource {
    /// Text with `{{variable}}` placeholders, all of them declared.
    Template(String),
    /// JavaScript function body, parsed and found good.
    Implementation(String),
}

/// Limits with every default applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EffectiveLimits {
    /// How long one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// Memory of the server's process, in MiB.
    pub memory_mb: u64,
    /// Calls at once.
    pub concurrency: u64,
    /// Size of one result as JSON, in bytes.
    pub response_bytes: u64,
}

impl Default for EffectiveLimits {
    fn default() -> Self {
        Self { timeout_ms: 30_000, memory_mb: 512, concurrency: 64, response_bytes: 4 * 1024 * 1024 }
    }
}

/// One entry of `egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EgressRule {
    /// Exactly this host name.
    Host(String),
    /// Every host name below this one (`*.example.com` is stored as `example.com`).
    HostsBelow(String),
    /// Every address of this block; a single address has the full prefix length.
    Block {
        /// First address of the block.
        address: IpAddr,
        /// Number of leading bits that are fixed.
        prefix: u8,
    },
}
