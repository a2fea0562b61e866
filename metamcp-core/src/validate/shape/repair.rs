//! A definition with its flaws of shape replaced by something harmless, so that the rest of it can be checked.

use serde_json::{Map, Value};

use super::super::errors::Problem;
use super::SCHEMA;
use super::explain::{Fault, Flaw, follow};

/// The definition without what is unknown, and with a placeholder for what is missing or of the wrong type.
pub(super) fn repair(value: &Value, flaws: &[Flaw]) -> Value {
    let mut repaired = value.clone();
    for (number, flaw) in flaws.iter().enumerate() {
        match &flaw.fault {
            Fault::Unknown => {
                if let Some((Value::Object(object), key)) = parent(&mut repaired, &flaw.place) {
                    object.remove(&key);
                }
            }
            Fault::Missing(schema) => {
                if let Some((Value::Object(object), key)) = parent(&mut repaired, &flaw.place) {
                    object.insert(key, placeholder(schema, number));
                }
            }
            Fault::Wrong(schema) => {
                if let Some(value) = repaired.pointer_mut(&flaw.place) {
                    *value = placeholder(schema, number);
                }
            }
        }
    }
    repaired
}

/// Whether a problem is there only because of a flaw: it stands at, below or above one, or reads it.
pub(super) fn is_consequence(problem: &Problem, flaws: &[Flaw]) -> bool {
    flaws.iter().any(|flaw| {
        is_at_or_below(&problem.pointer, &flaw.place)
            || is_at_or_below(&flaw.place, &problem.pointer)
            || readers(&flaw.place).iter().any(|reader| is_at_or_below(&problem.pointer, reader))
    })
}

/// Places whose check reads the value at `place`.
fn readers(place: &str) -> Vec<String> {
    let parts: Vec<_> = place.split('/').skip(1).collect();
    match parts.as_slice() {
        ["tools", index, "parameters", ..] => vec!["/probe".to_owned(), format!("/tools/{index}/examples")],
        ["tools", ..] => vec!["/probe".to_owned()],
        ["secrets", ..] => vec!["/auth".to_owned()],
        ["prompts", index, "arguments", ..] => vec![format!("/prompts/{index}/template")],
        _ => Vec::new(),
    }
}

fn is_at_or_below(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The container of the value at `place`, and the value's key.
fn parent<'a>(value: &'a mut Value, place: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = place.rsplit_once('/')?;
    Some((value.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

/// A value that a schema of definitions allows; texts differ, since many of them have to be unique.
fn placeholder(schema: &Value, number: usize) -> Value {
    let schema = follow(&SCHEMA, schema).unwrap_or(schema);
    if let Some(default) = schema.get("default").or_else(|| schema["enum"].get(0)).or_else(|| schema.get("minimum")) {
        return default.clone();
    }
    match schema["type"].as_str() {
        Some("string") => format!("placeholder{number}").into(),
        Some("array") => Value::Array(Vec::new()),
        Some("boolean") => false.into(),
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let members = required.map(|name| (name.to_owned(), placeholder(&schema["properties"][name], number)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
