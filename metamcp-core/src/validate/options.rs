//! What a definition tells its template, and what it must not take from it.

use serde_json::{Map, Value};

use super::problems::{Path, Problems, did_you_mean, quote};
use super::{orchestrator, routing, schema, task_manager};
use crate::definition::ServerDefinition;
use crate::name::TemplateKind;

/// The `format` of a text that names a tool of the definition.
const TOOL_NAME: &str = "tool-name";

/// The options with every default applied. Problems are noted; what is returned then is not used.
pub(super) fn check(
    path: &Path,
    template: TemplateKind,
    definition: &ServerDefinition,
    problems: &mut Problems,
) -> Map<String, Value> {
    let before = problems.len();
    let mut options = definition.options.clone();
    match &template.manifest().options {
        Some(schema) => {
            schema::check_options(path, schema, &options, problems);
            let known = definition.tools.iter().map(|tool| tool.name.as_str()).collect();
            let names = ToolNames { template, known };
            names.check(path, schema, &Value::Object(options.clone()), problems);
            fill_defaults(schema, &mut options);
        }
        None if options.is_empty() => {}
        None => problems.add(path, format!("the template {template} takes no options; remove them")),
    }
    if problems.len() == before {
        match template {
            TemplateKind::Routing => routing::check(path, &options, definition, problems),
            TemplateKind::OrchestratorWorkers => orchestrator::check(path, &options, definition, problems),
            TemplateKind::AgentTaskManager => task_manager::check(&options, definition, problems),
            _ => {}
        }
    }
    options
}

/// A tool must not have the name of one that the template brings, in whatever case.
pub(super) fn check_tool_name(path: &Path, template: TemplateKind, name: &str, problems: &mut Problems) {
    if template.manifest().tools.iter().any(|tool| tool.name.as_str().eq_ignore_ascii_case(name)) {
        let message = format!("{} is a tool of the template {template} itself; choose another name", quote(name));
        problems.add(path, message);
    }
}

/// The schema of an object's property, as far as the schemas of options go.
fn property_schema<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let properties = schema.get("properties").and_then(|properties| properties.get(name));
    properties.or_else(|| schema.get("additionalProperties"))
}

/// Gives each property that is missing its `default`, for objects within objects and lists too.
fn fill_defaults(schema: &Value, value: &mut Map<String, Value>) {
    schema::insert_defaults(schema, value);
    for (name, inner) in value {
        if let Some(schema) = property_schema(schema, name) {
            fill_inner(schema, inner);
        }
    }
}

fn fill_inner(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => fill_defaults(schema, object),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill_inner(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Where the schema says that a text is a tool's name, the definition must have that tool.
struct ToolNames<'a> {
    template: TemplateKind,
    known: Vec<&'a str>,
}

impl ToolNames<'_> {
    fn check(&self, path: &Path, schema: &Value, value: &Value, problems: &mut Problems) {
        match value {
            Value::String(name) => self.check_text(path, schema, name, problems),
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return };
                for (index, item) in items.iter().enumerate() {
                    self.check(&path.index(index), schema, item, problems);
                }
            }
            Value::Object(object) => {
                for (name, inner) in object {
                    let path = path.key(name);
                    if let Some(names) = schema.get("propertyNames") {
                        self.check_text(&path, names, name, problems);
                    }
                    if let Some(schema) = property_schema(schema, name) {
                        self.check(&path, schema, inner, problems);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_text(&self, path: &Path, schema: &Value, name: &str, problems: &mut Problems) {
        if schema.get("format").and_then(Value::as_str) != Some(TOOL_NAME) || self.known.contains(&name) {
            return;
        }
        let brought = self.template.manifest().tools.iter().any(|tool| tool.name.as_str() == name);
        let message = if brought {
            format!("{} is a tool of the template itself; name one of the definition's tools", quote(name))
        } else {
            let near = did_you_mean(name, self.known.iter().copied());
            format!("the definition has no tool {}{near}", quote(name))
        };
        problems.add(path, message);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "size": { "type": "integer", "default": 3 },
                "tools": {
                    "type": "object",
                    "propertyNames": { "format": "tool-name" },
                    "additionalProperties": { "properties": { "tries": { "default": 1 } } }
                },
                "steps": {
                    "type": "array",
                    "items": { "properties": { "tool": { "type": "string", "format": "tool-name" }, "at": { "default": 0 } } }
                }
            }
        })
    }

    #[test]
    fn defaults_reach_into_named_objects_and_lists() {
        let mut options = json!({ "tools": { "a": {}, "b": { "tries": 2 } }, "steps": [{ "tool": "a" }] });
        fill_inner(&schema(), &mut options);
        let filled = json!({
            "size": 3,
            "tools": { "a": { "tries": 1 }, "b": { "tries": 2 } },
            "steps": [{ "tool": "a", "at": 0 }]
        });
        assert_eq!(options, filled);
    }

    #[test]
    fn names_of_unknown_tools_are_refused_where_they_stand() {
        let options = json!({ "tools": { "add": {}, "ad": {} }, "steps": [{ "tool": "add" }, { "tool": "other" }] });
        let names = ToolNames { template: TemplateKind::RemoteMcpAuthless, known: vec!["add"] };
        let mut problems = Problems::default();
        names.check(&Path::root().key("options"), &schema(), &options, &mut problems);
        let errors = problems.finish(Some(())).unwrap_err();
        let told: Vec<_> =
            errors.problems().iter().map(|problem| format!("{} {}", problem.pointer, problem.message)).collect();
        assert_eq!(
            told,
            [
                "/options/steps/1/tool the definition has no tool \"other\"",
                "/options/tools/ad the definition has no tool \"ad\"; did you mean \"add\"?",
            ]
        );
    }
}
