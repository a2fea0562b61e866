//! Tool parameters and output schemas: the shorthand or JSON Schema 2020-12. A schema is taken only if the runtime and
//! the crate `jsonschema` read it alike, and anything that looks like a mistake is refused.
//!
//! **Shorthand or schema?** `parameters` is a JSON Schema if it has a key that begins with `$` or a `type` that
//! is not an object. Otherwise it is the shorthand: each key names a parameter and each value is an object, so
//! that a parameter may itself be called `type`.

mod keywords;
mod multiple_of;
mod pattern;
mod pattern_size;
mod references;
mod shorthand;
mod verdict;
mod walk;
mod work;

pub(super) use keywords::is_on_every_object;
pub(super) use verdict::Verdict;

use serde_json::{Map, Value};

use super::problems::{Path, Problems};

/// Largest schema, as compact JSON.
const SCHEMA_BYTES: usize = 64 * 1024;
/// Deepest nesting of a schema, counted in JSON levels.
const SCHEMA_DEPTH: usize = 48;
/// Problems reported by the meta-schema.
const META_PROBLEMS: usize = 20;

/// The JSON Schema of a tool's arguments, or `None` if it has problems, which are noted.
pub(super) fn of_parameters(
    path: &Path,
    written: &Map<String, Value>,
    problems: &mut Problems,
) -> Option<Map<String, Value>> {
    let before = problems.len();
    let value = Value::Object(written.clone());
    if !is_within_bounds(path, &value, problems) {
        return None;
    }
    let schema = if is_json_schema(written) {
        if written.get("type").and_then(Value::as_str) != Some("object") {
            problems.add(&path.key("type"), "arguments are an object; the schema's own `type` must be \"object\"");
        }
        check(path, &value, problems);
        written.clone()
    } else {
        shorthand::expand(path, written, problems)
    };
    (problems.len() == before).then_some(schema)
}

/// A checked output schema, or `None` if it has problems, which are noted.
pub(super) fn of_output(path: &Path, written: &Value, problems: &mut Problems) -> Option<Value> {
    let before = problems.len();
    if !written.is_object() {
        problems.add(path, "is not an object; write a JSON Schema such as {\"type\": \"object\", \"properties\": {…}}");
    } else if is_within_bounds(path, written, problems) {
        check(path, written, problems);
    }
    (problems.len() == before).then(|| written.clone())
}

/// Checks a template's options against their schema.
pub(super) fn check_options(path: &Path, schema: &Value, options: &Map<String, Value>, problems: &mut Problems) {
    if let Some(verdict) = Verdict::noted(path, schema, problems) {
        verdict.check(path, &options.clone().into(), "does not match the template's options", problems);
    }
}

/// Gives each property that is missing its `default`.
pub(super) fn insert_defaults(schema: &Value, value: &mut Map<String, Value>) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if !value.contains_key(name)
            && let Some(default) = property.get("default")
        {
            value.insert(name.clone(), default.clone());
        }
    }
}

/// The same for objects within objects too, and for nothing else: so does the runtime with the arguments of a call.
pub(super) fn fill_defaults(schema: &Value, value: &mut Map<String, Value>) {
    insert_defaults(schema, value);
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if let Some(Value::Object(inner)) = value.get_mut(name) {
            fill_defaults(property, inner);
        }
    }
}

/// The rule stated in the module's documentation.
fn is_json_schema(written: &Map<String, Value>) -> bool {
    written.keys().any(|key| key.starts_with('$')) || written.get("type").is_some_and(|kind| !kind.is_object())
}

/// Everything that can be wrong with a JSON Schema.
fn check(path: &Path, schema: &Value, problems: &mut Problems) {
    let before = problems.len();
    let outline = walk::walk(path, schema, problems);
    references::check(path, &outline, problems);
    if problems.len() == before {
        check_meta_schema(path, schema, problems);
    }
    if problems.len() == before
        && let Some(verdict) = Verdict::noted(path, schema, problems)
    {
        verdict.check_defaults(path, schema, problems);
    }
}

/// The published meta-schema: what the walk may have let through.
fn check_meta_schema(path: &Path, schema: &Value, problems: &mut Problems) {
    for error in jsonschema::draft202012::meta::validator().iter_errors(schema).take(META_PROBLEMS) {
        let place = path.join(error.instance_path().as_str());
        problems.add(&place, format!("is no valid JSON Schema 2020-12: {}", verdict::explain(&error)));
    }
}

fn is_within_bounds(path: &Path, schema: &Value, problems: &mut Problems) -> bool {
    if is_deeper_than(schema, SCHEMA_DEPTH) {
        problems.add(path, format!("nests deeper than {SCHEMA_DEPTH} levels; move inner parts to `$defs`"));
        return false;
    }
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES {
        problems.add(path, format!("is {bytes} bytes of JSON; at most {SCHEMA_BYTES} are allowed"));
        return false;
    }
    true
}

/// Whether a value nests deeper than `limit`, looking no deeper than that.
pub(super) fn is_deeper_than(value: &Value, limit: usize) -> bool {
    match value {
        Value::Object(map) => limit == 0 || map.values().any(|value| is_deeper_than(value, limit - 1)),
        Value::Array(items) => limit == 0 || items.iter().any(|value| is_deeper_than(value, limit - 1)),
        _ => false,
    }
}
