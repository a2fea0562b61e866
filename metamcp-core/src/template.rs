//! What a template brings beside its files: its own tools, Durable Objects and options.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::name::{ItemName, TemplateKind};
use crate::settings::DurableObjectClass;
use crate::validate::{EffectiveLimits, ValidDefinition};

/// A template's `template.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TemplateManifest {
    /// What it is for, in one sentence.
    pub summary: String,
    /// The tools it brings, listed behind the definition's own.
    #[serde(default)]
    pub tools: Vec<TemplateTool>,
    /// Whether its servers list further tools, which are known at run time only.
    #[serde(default)]
    pub dynamic_tools: bool,
    /// The Durable Object classes it exports.
    #[serde(default)]
    pub durable_objects: Vec<DurableObjectClass>,
    /// npm packages that its code needs. The toolchain pins the same versions, since it bundles the code.
    #[serde(default)]
    pub dependencies: BTreeMap<String, String>,
    /// JSON Schema 2020-12 of `options`; absent where there are none. A text of `"format": "tool-name"` is the name of
    /// one of the definition's tools, where it is the name of a property too (`propertyNames`).
    #[serde(default)]
    pub options: Option<Value>,
}

/// A tool that a template brings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct TemplateTool {
    /// Its name, which no tool of the definition may have.
    pub name: ItemName,
    /// Name for people.
    #[serde(default)]
    pub title: Option<String>,
    /// What it does.
    pub description: String,
    /// JSON Schema 2020-12 of the arguments.
    pub input_schema: Map<String, Value>,
    /// JSON Schema 2020-12 of `structuredContent`.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// MCP tool annotations.
    #[serde(default)]
    pub annotations: Option<Map<String, Value>>,
    /// How long a call may take, where that differs from the server's limit.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Name of the option that says how long a call may take, where there is one.
    #[serde(default)]
    pub timeout_option: Option<String>,
}

impl TemplateTool {
    /// Its limits on a server with these limits and options.
    pub fn limits(&self, server: EffectiveLimits, options: &Map<String, Value>) -> EffectiveLimits {
        let option = self.timeout_option.as_ref().and_then(|name| options.get(name)).and_then(Value::as_u64);
        EffectiveLimits { timeout_ms: option.or(self.timeout_ms).unwrap_or(server.timeout_ms), ..server }
    }
}

/// A tool as a server lists it, whoever brought it.
#[derive(Debug)]
pub(crate) struct ListedTool<'a> {
    pub(crate) name: &'a ItemName,
    pub(crate) title: Option<&'a str>,
    pub(crate) description: &'a str,
    pub(crate) input_schema: &'a Map<String, Value>,
    pub(crate) output_schema: Option<&'a Value>,
    pub(crate) annotations: Option<&'a Map<String, Value>>,
    pub(crate) limits: EffectiveLimits,
    /// Whether its body is the definition's; the template's own tools are code of the template.
    pub(crate) has_body: bool,
}

impl ValidDefinition {
    /// The definition's tools, then the template's: the order in which the server lists them.
    pub(crate) fn listed_tools(&self) -> impl Iterator<Item = ListedTool<'_>> {
        let own = self.tools().iter().map(|tool| ListedTool {
            name: &tool.name,
            title: tool.title.as_deref(),
            description: &tool.description,
            input_schema: &tool.input_schema,
            output_schema: tool.output_schema.as_ref(),
            annotations: tool.annotations.as_ref(),
            limits: tool.limits,
            has_body: true,
        });
        let template = self.template().manifest().tools.iter().map(|tool| ListedTool {
            name: &tool.name,
            title: tool.title.as_deref(),
            description: &tool.description,
            input_schema: &tool.input_schema,
            output_schema: tool.output_schema.as_ref(),
            annotations: tool.annotations.as_ref(),
            limits: tool.limits(self.limits(), self.options()),
            has_body: false,
        });
        own.chain(template)
    }
}

impl TemplateKind {
    /// What the template brings beside its files.
    #[expect(clippy::missing_panics_doc, reason = "the manifests are embedded, and a test reads each")]
    pub fn manifest(self) -> &'static TemplateManifest {
        static MANIFESTS: [OnceLock<TemplateManifest>; TemplateKind::ALL.len()] = [const { OnceLock::new() }; _];
        MANIFESTS[self as usize]
            .get_or_init(|| serde_json::from_str(self.embedded().manifest).expect("embedded manifests are read"))
    }

    pub(crate) fn embedded(self) -> &'static metamcp_templates::Template {
        match self {
            Self::RemoteMcpAuthless => &metamcp_templates::REMOTE_MCP_AUTHLESS,
            Self::OrchestratorWorkers => &metamcp_templates::ORCHESTRATOR_WORKERS,
            Self::AgentScheduler => &metamcp_templates::AGENT_SCHEDULER,
            Self::ToolCalling => &metamcp_templates::TOOL_CALLING,
            Self::Routing => &metamcp_templates::ROUTING,
            Self::Parallelisation => &metamcp_templates::PARALLELISATION,
            Self::AgentTaskManager => &metamcp_templates::AGENT_TASK_MANAGER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_read_and_its_schemas_are_schemas() {
        for kind in TemplateKind::ALL {
            assert_eq!(kind.embedded().name, kind.as_str());
            let manifest = kind.manifest();
            assert!(!manifest.summary.is_empty(), "{kind}");
            let inputs = manifest.tools.iter().map(|tool| Value::Object(tool.input_schema.clone()));
            let outputs = manifest.tools.iter().filter_map(|tool| tool.output_schema.clone());
            for schema in inputs.chain(outputs).chain(manifest.options.clone()) {
                jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{kind}: {error}"));
            }
        }
    }
}
