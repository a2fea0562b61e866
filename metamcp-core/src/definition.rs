//! A server as its author wrote it: plain data, checked by [`validate`](crate::validate()).
//!
//! Everything here is serde data in `camelCase`. Defaults that only fill a gap (a limit, a MIME type) are
//! applied by validation, so that what was written can be shown again unchanged.

mod new;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An MCP server described as data: the input of the whole pipeline.
///
/// ```
/// use metamcp_core::ServerDefinition;
///
/// let definition: ServerDefinition = serde_json::from_value(serde_json::json!({
///     "name": "greeter",
///     "description": "Says hello",
///     "tools": [{
///         "name": "greet",
///         "description": "Greets a person by name",
///         "parameters": { "name": { "type": "string", "required": true } },
///         "implementation": "return `Hello, ${parameters.name}!`;"
///     }]
/// }))?;
/// assert_eq!(definition.version, "1.0.0");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// The same in Rust: `new` takes what is needed, and the rest is assigned. It is checked as any other.
///
/// ```
/// use metamcp_core::{ServerDefinition, ToolDefinition, ToolExample, validate};
/// use serde_json::{Map, json};
///
/// let mut greet =
///     ToolDefinition::new("greet", "Greets a person by name", "return `Hello, ${parameters.name}!`;");
/// greet.parameters.insert("name".to_owned(), json!({ "type": "string", "required": true }));
/// let ada = Map::from_iter([("name".to_owned(), "Ada".into())]);
/// greet.examples = vec![ToolExample::new(ada, "Hello, Ada!")];
/// greet.limits.timeout_ms = Some(1_000);
///
/// let mut definition = ServerDefinition::new("greeter", "Says hello");
/// definition.tools = vec![greet];
/// definition.vars.insert("GREETING".to_owned(), "Hello".into());
/// validate(&definition)?;
/// # Ok::<(), metamcp_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerDefinition {
    /// Unique name: lower-case letters, digits and `-`, at most 53 characters, never of UUID form.
    /// It is part of the URL, so it is fixed after the first deploy.
    pub name: String,
    /// What the server is for; shown to people and models.
    pub description: String,
    /// Semantic version of the server itself; default `1.0.0`.
    #[serde(default = "default_version")]
    pub version: String,
    /// Which template it is generated from; default `remote-mcp-authless`.
    #[serde(default = "default_template")]
    pub template: String,
    /// What the template is told beside the definition itself; each template's README lists its options.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Tools, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// Resources and resource templates, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceDefinition>,
    /// Prompts, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<PromptDefinition>,
    /// npm packages and their versions; a body imports one by `await import("name")`. Any entry needs a builder with
    /// a container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependencies: BTreeMap<String, String>,
    /// Plain values that bodies read as `env.NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Value>,
    /// Names of secrets that bodies read as `env.NAME`; the values are set apart from the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Platform resources that bodies reach as `env.NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bindings: BTreeMap<String, Binding>,
    /// Hosts the server may call: `host`, `*.host`, an IP address or a CIDR block. Absent: the public
    /// internet. A private address is reachable only if it stands here as an IP address or CIDR block, which callers of
    /// the MCP server may write only where [`MetaMcp::with_private_egress`](crate::MetaMcp::with_private_egress) allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// Whether clients of the 2025 revisions get sessions, without which they cannot be asked anything (`ctx.elicit`,
    /// `ctx.sample`, `ctx.listRoots`), and whether clients of any revision can listen for changes of resources
    /// (`ctx.resourceUpdated`). Default `false`: clients are served statelessly.
    ///
    /// Each session is a Durable Object, so a switch of versions holds calls for a moment, and the server does not
    /// sleep. At most 1,000 sessions are kept, and a session that is not used for a day ends. At most 1,000 streams of
    /// clients without a session are open at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions: bool,
    /// How long clients may keep the lists of tools, resources and prompts; default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheHint>,
    /// Who may call the server; default: everybody who reaches it.
    #[serde(default)]
    pub auth: Auth,
    /// Limits for every tool, resource and prompt that sets none of its own.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// A call that is safe at any time, made when a deployment is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// A tool: its schema and a JavaScript function body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ToolDefinition {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ . -`; no two of one server may differ in case only.
    pub name: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does and when to use it; a model decides by this text.
    pub description: String,
    /// The shorthand `{"city": {"type": "string", "required": true}}` or a JSON Schema 2020-12 object.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// JSON Schema 2020-12 of `structuredContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// MCP tool annotations (`readOnlyHint`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, Value>>,
    /// Limits of this tool, where they differ from the server's.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Calls with their expected results, run before a version goes live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ToolExample>,
    /// Body of an async JavaScript function that binds exactly `parameters`, `env` and `ctx`.
    pub implementation: String,
}

/// A call and what it must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ToolExample {
    /// Arguments of the call.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// What the call must answer: the `structuredContent`, or the text of the only content block (parsed
    /// as JSON where this is not a string), or a whole `{"content": […]}` result.
    pub expected: Value,
}

/// A resource (`uri`) or a resource template (`uriTemplate`): exactly one of the two is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ResourceDefinition {
    /// Absolute URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// RFC 6570 URI template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_template: Option<String>,
    /// Name, unique within the server.
    pub name: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it holds.
    #[serde(default)]
    pub description: String,
    /// Default `text/plain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// MCP annotations (`audience`, `priority`, `lastModified`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, Value>>,
    /// Values offered by `completion/complete` for the variables of a `uriTemplate`, by variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub completion: BTreeMap<String, Vec<String>>,
    /// How long clients may keep what a read answers; default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheHint>,
    /// Limits of this resource, where they differ from the server's.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Body of an async JavaScript function that binds exactly `uri`, `variables`, `env` and `ctx`.
    pub implementation: String,
}

/// A prompt: a `template` with `{{variable}}` placeholders, or an `implementation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct PromptDefinition {
    /// The same rules as for a tool's name.
    pub name: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    pub description: String,
    /// Text with `{{variable}}` placeholders, each a declared argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Body of an async JavaScript function that binds exactly `parameters`, `env` and `ctx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// Arguments, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<PromptArgument>,
    /// Limits of this prompt, where they differ from the server's.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// An argument of a prompt. MCP passes all of them as strings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct PromptArgument {
    /// Name of the placeholder: letters, digits and `_`.
    pub name: String,
    /// What to pass.
    #[serde(default)]
    pub description: String,
    /// Whether a call without it is refused; default `false`.
    #[serde(default)]
    pub required: bool,
    /// Values offered by `completion/complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub completion: Vec<String>,
}

/// How long, and by whom, an answer may be kept; clients of MCP 2026-07-28 are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheHint {
    /// Milliseconds for which it stays fresh (0 to 31,536,000,000, a year).
    pub ttl_ms: u64,
    /// Who may keep it; default `private`.
    #[serde(default)]
    pub cache_scope: CacheScope,
}

/// Who may keep an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CacheScope {
    /// Anybody: it is the same for every caller.
    Public,
    /// The caller alone.
    #[default]
    Private,
}

/// A platform resource behind `env.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Binding {
    /// What is bound.
    #[serde(rename = "type")]
    pub kind: BindingKind,
    /// What it points to: a KV namespace, D1 database, queue, bucket or service, by name.
    /// Default: the binding's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A target that cannot offer it leaves `env.NAME` undefined instead of refusing the deploy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The kinds of [`Binding`]; which of them a target offers is the publisher's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BindingKind {
    /// Workers KV namespace.
    Kv,
    /// D1 database.
    D1,
    /// R2 bucket.
    R2,
    /// Producer of a queue.
    Queue,
    /// Another Worker.
    Service,
    /// Workers AI.
    Ai,
    /// Cloudflare Images.
    Images,
    /// Vectorize index.
    Vectorize,
    /// Browser rendering.
    Browser,
}

/// Who may call a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Auth {
    /// Everybody who reaches it.
    #[default]
    None,
    /// Callers that send `Authorization: Bearer <value of the secret>`.
    Bearer {
        /// Name of a declared secret.
        secret: String,
    },
}

/// Limits as written; what is absent is taken from the server's, then from [`EffectiveLimits::default`].
///
/// [`EffectiveLimits::default`]: crate::EffectiveLimits
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// How long one call may take, in milliseconds (1 to 600,000; default 30,000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Memory of the server's process, in MiB (64 to 12,288; default 512). Only for the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Calls at once (1 to 10,000; default 64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Size of one result as JSON, in bytes (1,024 to 26,214,400; default 4 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited beyond the defaults.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A tool call that is safe at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Probe {
    /// Name of the tool.
    pub tool: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

fn default_version() -> String {
    "1.0.0".to_owned()
}

fn default_template() -> String {
    "remote-mcp-authless".to_owned()
}
