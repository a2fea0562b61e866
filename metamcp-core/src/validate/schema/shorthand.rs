//! The shorthand: `{"repo": {"type": "string", "required": true}}`.

use serde_json::{Map, Value, json};

use super::super::problems::{Path, Problems, quote};
use super::keywords;

/// Longest parameter name: what models' own tool interfaces accept.
const NAME_CHARACTERS: usize = 64;

/// The JSON Schema that a shorthand at `path` stands for. Parameters that are not listed are refused, so that a
/// model hears of an argument it misspelt.
pub(super) fn expand(path: &Path, parameters: &Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for (name, written) in parameters {
        let path = path.key(name);
        check_name(&path, name, problems);
        if let Some(property) = parameter(&path, name, written, problems) {
            if written.get("required") == Some(&Value::Bool(true)) {
                required.push(name.clone());
            }
            super::check(&path, &property, problems);
            properties.insert(name.clone(), property);
        }
    }
    object_schema(properties, required)
}

fn object_schema(properties: Map<String, Value>, required: Vec<String>) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema
}

fn check_name(path: &Path, name: &str, problems: &mut Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || name.len() > NAME_CHARACTERS || !name.chars().all(allowed) {
        let rule = format!("1 to {NAME_CHARACTERS} characters of A-Z, a-z, 0-9, '_', '.' and '-'");
        problems.add(path, format!("parameter name {} is not allowed; use {rule}", quote(name)));
    } else if keywords::is_on_every_object(name) {
        problems.add(path, "is a property that every JavaScript object has; choose another name");
    }
}

/// One parameter as a schema: `required` goes, `properties` and `items` are shorthand again.
fn parameter(path: &Path, name: &str, written: &Value, problems: &mut Problems) -> Option<Value> {
    let Value::Object(written) = written else {
        problems.add(path, not_a_parameter(name, written));
        return None;
    };
    if !["type", "enum", "const", "anyOf", "oneOf", "allOf"].iter().any(|key| written.contains_key(*key)) {
        let message = if matches!(name, "properties" | "items") {
            "parameter has no `type`; if this is meant as a JSON Schema, put \"type\": \"object\" beside it"
        } else {
            "parameter has no `type`; for example {\"type\": \"string\", \"description\": \"…\", \"required\": true}"
        };
        problems.add(path, message);
        return None;
    }
    Some(Value::Object(schema(path, written, problems)))
}

fn schema(path: &Path, written: &Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
    let mut schema = Map::new();
    for (keyword, value) in written {
        match (keyword.as_str(), value) {
            ("required", Value::Bool(_)) => {}
            ("required", Value::Array(_)) if !written.contains_key("properties") => {
                schema.insert(keyword.clone(), value.clone());
            }
            ("required", value) if !value.is_array() => {
                problems.add(&path.key("required"), "must be true or false");
            }
            ("required", _) => {}
            ("properties", Value::Object(members)) => {
                let listed = written.get("required").and_then(Value::as_array);
                nested(path, members, listed, &mut schema, problems);
            }
            ("items", Value::Object(item)) => {
                schema.insert(keyword.clone(), Value::Object(self::schema(&path.key("items"), item, problems)));
            }
            _ => {
                schema.insert(keyword.clone(), value.clone());
            }
        }
    }
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    schema
}

/// The properties of a nested object; those marked as required join a `required` list that may stand there too.
fn nested(
    path: &Path,
    members: &Map<String, Value>,
    listed: Option<&Vec<Value>>,
    schema: &mut Map<String, Value>,
    problems: &mut Problems,
) {
    let mut properties = Map::new();
    let mut required = listed.cloned().unwrap_or_default();
    for (name, written) in members {
        if written.get("required") == Some(&Value::Bool(true)) && !required.iter().any(|listed| listed == name) {
            required.push(name.clone().into());
        }
        let property = match written {
            Value::Object(member) => Value::Object(self::schema(&path.key("properties").key(name), member, problems)),
            other => other.clone(),
        };
        properties.insert(name.clone(), property);
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
}

fn not_a_parameter(name: &str, written: &Value) -> String {
    if matches!(name, "required" | "properties" | "additionalProperties" | "allOf" | "anyOf" | "oneOf") {
        return "is a keyword of JSON Schema; put \"type\": \"object\" beside it if this is meant as one".to_owned();
    }
    let meant = written.as_str().and_then(keywords::type_meant).unwrap_or("string");
    format!("is no parameter; write an object such as {{\"type\": {meant:?}, \"required\": true}}")
}
