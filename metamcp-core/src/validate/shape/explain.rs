//! What the schema's validator found, in words that say what to write instead.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::{Map, Value};

use super::super::errors::Problem;
use super::super::problems::{Path, did_you_mean, quote};

/// A flaw of shape.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) problem: Problem,
    /// Pointer of the value that is wrong, missing or not wanted.
    pub(super) place: String,
    pub(super) fault: Fault,
}

/// What kind of flaw it is, with the schema of what belongs there.
#[derive(Debug)]
pub(super) enum Fault {
    Unknown,
    Missing(Value),
    Wrong(Value),
}

/// Fields that models and other tools call by another name.
const ALIASES: &[(&str, &str)] = &[
    ("args", "arguments"),
    ("body", "implementation"),
    ("code", "implementation"),
    ("content", "template"),
    ("env", "vars"),
    ("function", "implementation"),
    ("handler", "implementation"),
    ("inputSchema", "parameters"),
    ("input_schema", "parameters"),
    ("output", "expected"),
    ("promptName", "name"),
    ("result", "expected"),
    ("schema", "parameters"),
    ("script", "implementation"),
    ("serverName", "name"),
    ("text", "template"),
    ("toolName", "name"),
];

/// The flaws that one finding of the validator stands for.
pub(super) fn explain(error: &ValidationError<'_>, root: &Value) -> Vec<Flaw> {
    let place = Path::root().join(error.instance_path().as_str());
    let path = error.schema_path().as_str();
    let schema = |path: &str| at(root, path).cloned().unwrap_or(Value::Bool(true));
    let (owner, _) = path.rsplit_once('/').unwrap_or_default();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = at(root, &format!("{owner}/properties")).and_then(Value::as_object);
            unexpected.iter().map(|name| unknown(&place, name, known)).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![missing(&place, name, schema(&format!("{owner}/properties/{name}")))]
        }
        ValidationErrorKind::Type { kind } => {
            let message = format!("is {}; must be {}", found(error.instance()), wanted(kind));
            vec![wrong(&place, message, schema(owner))]
        }
        ValidationErrorKind::Enum { options } => {
            vec![wrong(&place, format!("must be one of {options}"), schema(owner))]
        }
        ValidationErrorKind::AnyOf { .. } => {
            let schema = schema(owner);
            let what = schema["description"].as_str().unwrap_or("another value").to_owned();
            vec![wrong(&place, format!("must say {what}"), schema)]
        }
        _ => {
            let schema = schema(owner);
            vec![wrong(&place, error.masked_with("the value").to_string(), schema)]
        }
    }
}

fn unknown(object: &Path, name: &str, known: Option<&Map<String, Value>>) -> Flaw {
    let place = object.key(name);
    let names: Vec<_> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let alias = ALIASES.iter().find(|(alias, field)| *alias == name && names.contains(field));
    let near = alias
        .map_or_else(|| did_you_mean(name, names.iter().copied()), |(_, field)| format!("; did you mean {field:?}?"));
    let message = format!("{} is no field here{near}; fields are {}", quote(name), names.join(", "));
    Flaw { problem: problem(&place, message), place: place.as_str().to_owned(), fault: Fault::Unknown }
}

fn missing(object: &Path, name: &str, schema: Value) -> Flaw {
    let what = schema["description"].as_str().map_or_else(String::new, |what| format!(": {what}"));
    Flaw {
        problem: problem(object, format!("field {name:?} is missing{what}")),
        place: object.key(name).as_str().to_owned(),
        fault: Fault::Missing(schema),
    }
}

fn wrong(place: &Path, message: String, schema: Value) -> Flaw {
    Flaw { problem: problem(place, message), place: place.as_str().to_owned(), fault: Fault::Wrong(schema) }
}

fn problem(place: &Path, message: String) -> Problem {
    Problem::new(place.as_str(), message)
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null (leave out what has no value)",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wanted(kind: &TypeKind) -> String {
    let TypeKind::Single(single) = kind else { return "of another type".to_owned() };
    let name = single.to_string();
    let words = match name.as_str() {
        "string" => "a text",
        "array" => "a list",
        "object" => "an object",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    };
    words.to_owned()
}

/// The part of the schema at a validation path, which goes through `$ref`.
pub(super) fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(root, |schema, part| match part {
        "$ref" => follow(root, schema),
        part => schema.get(part).or_else(|| schema.get(part.parse::<usize>().ok()?)),
    })
}

/// The schema itself, or the one it refers to.
pub(super) fn follow<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#')?),
        None => Some(schema),
    }
}
