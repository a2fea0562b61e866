//! What the templates see. All naming is decided here, so that no template has logic.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::definition::{Auth, CacheHint, PromptArgument};
use crate::name::EnvName;
use crate::source_tree::Digest;
use crate::validate::{EffectiveLimits, ResourceAddress, ValidDefinition, ValidPromptSource};

/// The line of a body's module on which the body's own first line stands: the lines of `body.js.hbs` above it,
/// and one.
pub(super) const FIRST_BODY_LINE: u32 = 5;

/// One body and the module it becomes.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    /// Name of the module, without folder and extension.
    #[serde(skip)]
    pub(super) module: String,
    #[serde(rename = "body_type")]
    function_type: &'static str,
    parameters: &'static str,
    first_body_line: u32,
    #[serde(rename = "body")]
    text: &'a str,
}

/// The context of `bodies.js.hbs`.
#[derive(Debug, Serialize)]
pub(super) struct Imports<'a> {
    bodies: Vec<Import<'a>>,
    first_body_line: u32,
}

#[derive(Debug, Serialize)]
struct Import<'a> {
    module: &'a str,
    /// Import specifier, relative to `src/bodies.js`.
    path: String,
}

/// The imports of all bodies.
pub(super) fn imports<'a>(bodies: &'a [Body<'_>]) -> Imports<'a> {
    let import = |body: &'a Body<'_>| Import { module: &body.module, path: format!("./bodies/{}.js", body.module) };
    Imports { bodies: bodies.iter().map(import).collect(), first_body_line: FIRST_BODY_LINE }
}

/// Every body of a definition: tools, resources, then prompts, in listed order.
pub(super) fn bodies(definition: &ValidDefinition) -> Vec<Body<'_>> {
    let tools = definition
        .tools()
        .iter()
        .map(|tool| Body::new(Kind::Tool, tool.name.as_str(), tool.name.as_str(), &tool.implementation));
    let resources = definition.resources().iter().map(|resource| {
        Body::new(Kind::Resource, address(&resource.address), &resource.name, &resource.implementation)
    });
    let prompts = definition.prompts().iter().filter_map(|prompt| match &prompt.source {
        ValidPromptSource::Implementation(body) => {
            Some(Body::new(Kind::Prompt, prompt.name.as_str(), prompt.name.as_str(), body))
        }
        ValidPromptSource::Template(_) => None,
    });
    tools.chain(resources).chain(prompts).collect()
}

#[derive(Clone, Copy)]
enum Kind {
    Tool,
    Resource,
    Prompt,
}

impl<'a> Body<'a> {
    fn new(kind: Kind, identity: &str, name: &str, text: &'a str) -> Self {
        let (function_type, parameters) = match kind {
            Kind::Tool => ("ToolBody", "parameters, env, ctx"),
            Kind::Resource => ("ResourceBody", "uri, variables, env, ctx"),
            Kind::Prompt => ("PromptBody", "parameters, env, ctx"),
        };
        let module = module_name(kind, identity, name);
        Self { module, function_type, parameters, first_body_line: FIRST_BODY_LINE, text }
    }
}

/// `<slug>-<8 hex>`: readable, safe as a file name on every system, and unique, since the digits come from
/// kind and identity and not from the slug. It does not depend on the body, so that an edit shows as a diff.
fn module_name(kind: Kind, identity: &str, name: &str) -> String {
    let kind: &[u8] = match kind {
        Kind::Tool => b"tool",
        Kind::Resource => b"resource",
        Kind::Prompt => b"prompt",
    };
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().take(40).map(keep).collect();
    let slug = slug.trim_matches('-');
    let digest = Digest::of_parts([kind, identity.as_bytes()]).short(8);
    if slug.is_empty() { format!("body-{digest}") } else { format!("{slug}-{digest}") }
}

fn address(address: &ResourceAddress) -> &str {
    match address {
        ResourceAddress::Uri(text) | ResourceAddress::Template(text) => text,
    }
}

/// `definition.json`: what the runtime serves. Absent fields are left out, never null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Definition<'a> {
    name: &'a str,
    description: &'a str,
    version: &'a str,
    template: &'a str,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a CacheHint>,
    auth: &'a Auth,
    vars: Vec<&'a str>,
    secrets: Vec<&'a str>,
    bindings: Vec<&'a str>,
    options: &'a Map<String, Value>,
    tools: Vec<Tool<'a>>,
    resources: Vec<Resource<'a>>,
    prompts: Vec<Prompt<'a>>,
}

/// The limits the runtime itself keeps; memory is the publisher's business.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    timeout_ms: u64,
    response_bytes: u64,
    concurrency: u64,
}

impl From<EffectiveLimits> for Limits {
    fn from(limits: EffectiveLimits) -> Self {
        let EffectiveLimits { timeout_ms, response_bytes, concurrency, memory_mb: _ } = limits;
        Self { timeout_ms, response_bytes, concurrency }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    description: &'a str,
    input_schema: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Map<String, Value>>,
    limits: Limits,
    /// The module of its body; a tool of the template has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri_template: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    description: &'a str,
    mime_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    completion: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a CacheHint>,
    limits: Limits,
    body: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Prompt<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    description: &'a str,
    arguments: &'a [PromptArgument],
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    limits: Limits,
}

/// The content of `definition.json`.
pub(super) fn definition(definition: &ValidDefinition) -> Definition<'_> {
    let written = definition.written();
    Definition {
        name: definition.name().as_str(),
        description: &written.description,
        version: &written.version,
        template: definition.template().as_str(),
        limits: definition.limits().into(),
        cache: definition.cache(),
        auth: definition.auth(),
        vars: names(definition.vars().keys()),
        secrets: names(definition.secrets()),
        bindings: names(definition.bindings().keys()),
        options: definition.options(),
        tools: tools(definition),
        resources: resources(definition),
        prompts: prompts(definition),
    }
}

fn names<'a>(names: impl IntoIterator<Item = &'a EnvName>) -> Vec<&'a str> {
    names.into_iter().map(EnvName::as_str).collect()
}

fn tools(definition: &ValidDefinition) -> Vec<Tool<'_>> {
    let tools = definition.listed_tools().map(|tool| Tool {
        name: tool.name.as_str(),
        title: tool.title,
        description: tool.description,
        input_schema: tool.input_schema,
        output_schema: tool.output_schema,
        annotations: tool.annotations,
        limits: tool.limits.into(),
        body: tool.has_body.then(|| module_name(Kind::Tool, tool.name.as_str(), tool.name.as_str())),
    });
    tools.collect()
}

fn resources(definition: &ValidDefinition) -> Vec<Resource<'_>> {
    let resources = definition.resources().iter().map(|resource| {
        let (uri, uri_template) = match &resource.address {
            ResourceAddress::Uri(uri) => (Some(uri.as_str()), None),
            ResourceAddress::Template(template) => (None, Some(template.as_str())),
        };
        Resource {
            uri,
            uri_template,
            name: &resource.name,
            title: resource.title.as_deref(),
            description: &resource.description,
            mime_type: &resource.mime_type,
            annotations: resource.annotations.as_ref(),
            completion: &resource.completion,
            cache: resource.cache.as_ref(),
            limits: resource.limits.into(),
            body: module_name(Kind::Resource, address(&resource.address), &resource.name),
        }
    });
    resources.collect()
}

fn prompts(definition: &ValidDefinition) -> Vec<Prompt<'_>> {
    let prompts = definition.prompts().iter().map(|prompt| {
        let (template, body) = match &prompt.source {
            ValidPromptSource::Template(template) => (Some(template.as_str()), None),
            ValidPromptSource::Implementation(_) => {
                (None, Some(module_name(Kind::Prompt, prompt.name.as_str(), prompt.name.as_str())))
            }
        };
        Prompt {
            name: prompt.name.as_str(),
            title: prompt.title.as_deref(),
            description: &prompt.description,
            arguments: &prompt.arguments,
            template,
            body,
            limits: prompt.limits.into(),
        }
    });
    prompts.collect()
}

/// What the project's README tells.
#[derive(Debug, Serialize)]
pub(super) struct Readme<'a> {
    name: &'a str,
    description: &'a str,
    version: &'a str,
    tools: Vec<Named<'a>>,
    resources: Vec<Named<'a>>,
    prompts: Vec<Named<'a>>,
    vars: Vec<&'a str>,
    secrets: Vec<&'a str>,
    bindings: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
}

/// The context of `README.md.hbs`.
pub(super) fn readme(definition: &ValidDefinition) -> Readme<'_> {
    let written = definition.written();
    Readme {
        name: definition.name().as_str(),
        description: &written.description,
        version: &written.version,
        tools: definition.tools().iter().map(|tool| Named { name: tool.name.as_str() }).collect(),
        resources: definition.resources().iter().map(|resource| Named { name: &resource.name }).collect(),
        prompts: definition.prompts().iter().map(|prompt| Named { name: prompt.name.as_str() }).collect(),
        vars: names(definition.vars().keys()),
        secrets: names(definition.secrets()),
        bindings: names(definition.bindings().keys()),
    }
}
