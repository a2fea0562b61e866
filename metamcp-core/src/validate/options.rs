//! What a definition tells its template, and what it must not take from it.

use serde_json::{Map, Value};

use super::problems::{Path, Problems, quote};
use super::schema;
use crate::definition::ServerDefinition;
use crate::name::TemplateKind;

/// The options with every default applied. Problems are noted; what is returned then is not used.
pub(super) fn check(
    path: &Path,
    template: TemplateKind,
    definition: &ServerDefinition,
    problems: &mut Problems,
) -> Map<String, Value> {
    let mut options = definition.options.clone();
    match &template.manifest().options {
        Some(schema) => {
            schema::check_options(path, schema, &options, problems);
            fill_defaults(schema, &mut options);
        }
        None if options.is_empty() => {}
        None => problems.add(path, format!("the template {template} takes no options; remove them")),
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

/// Gives each property that is missing its `default`, for objects within objects too.
fn fill_defaults(schema: &Value, value: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        if !value.contains_key(name)
            && let Some(default) = property.get("default")
        {
            value.insert(name.clone(), default.clone());
        }
        if let Some(Value::Object(inner)) = value.get_mut(name) {
            fill_defaults(property, inner);
        }
    }
}
