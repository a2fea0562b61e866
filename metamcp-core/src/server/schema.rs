//! JSON Schemas of the tools' arguments and results, in the form that the strictest hosts take, and the check of
//! arguments against them.

use std::sync::Arc;

use jsonschema::Validator;
use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::validate::{Problem, check_shape};

/// The schema of a tool's arguments.
pub(super) fn of_arguments<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = plain(settings, SchemaGenerator::into_root_schema_for::<T>);
    if let Some(root) = schema.as_object_mut() {
        root.insert("additionalProperties".to_owned(), false.into());
    }
    schema
}

/// The schema of a tool's result.
pub(super) fn of_result<T: JsonSchema>() -> Arc<JsonObject> {
    let mut schema = plain(SchemaSettings::draft2020_12().for_serialize(), SchemaGenerator::into_root_schema_for::<T>);
    without_minimum(&mut schema);
    match schema {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

/// That a count in an answer is not negative goes without saying.
fn without_minimum(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.retain(|key, value| key != "minimum" || *value != 0);
            object.values_mut().for_each(without_minimum);
        }
        Value::Array(items) => items.iter_mut().for_each(without_minimum),
        _ => {}
    }
}

/// Without references and titles, since some hosts follow no `$ref`, and as short as it can be said: every agent pays
/// for reading it.
fn plain(mut settings: SchemaSettings, generate: impl FnOnce(SchemaGenerator) -> Schema) -> Value {
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = generate(settings.into_generator()).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
        root.remove("description");
        root.entry("properties").or_insert_with(|| json!({}));
    }
    simplify(&mut schema);
    schema
}

fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("format");
            object.retain(|key, value| key != "default" || !is_nothing(value));
            object.retain(|key, value| key != "additionalProperties" || *value != true);
            optional_is_never_null(object);
            options_as_enum(object);
            object.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Whether a default says no more than that the field may be left out.
fn is_nothing(default: &Value) -> bool {
    [json!(null), json!(false), json!([]), json!({})].contains(default)
}

/// A property that may be left out is left out where it has no value: some hosts take one type only.
fn optional_is_never_null(object: &mut Map<String, Value>) {
    let required = object.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|other| other == name));
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let optional = properties.iter_mut().filter(|(name, _)| !is_required(name));
    optional.filter_map(|(_, property)| property.as_object_mut()).for_each(never_null);
}

/// `["string", "null"]` becomes `"string"`, and "this or null" becomes this.
fn never_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// A choice of described constants becomes an `enum`.
fn options_as_enum(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let constants: Option<Vec<_>> = choices.iter().map(|choice| choice.get("const").cloned()).collect();
    if let Some(constants) = constants {
        object.remove("oneOf");
        object.remove("description");
        object.insert("type".to_owned(), "string".into());
        object.insert("enum".to_owned(), constants.into());
    }
}

/// Every problem of some arguments, each with its pointer.
pub(super) fn problems(validator: &Validator, schema: &Value, arguments: &Value) -> Vec<Problem> {
    check_shape(validator, schema, arguments)
}
