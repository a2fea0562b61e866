//! Schemas of OpenAPI as JSON Schema 2020-12: those of 3.0 are another dialect, those of 3.1 have words of their own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::Document;

/// Formats that a value is checked against; others say how a number or text is stored.
const FORMATS: [&str; 9] = ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"];
/// Where a schema is within another one.
const WITHIN: [&str; 12] = [
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
    "items",
];
const WITHIN_LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const WITHIN_MAP: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];
/// What is taken as it is.
const PLAIN: [&str; 24] = [
    "type",
    "title",
    "description",
    "enum",
    "const",
    "required",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "dependentRequired",
    "deprecated",
    "writeOnly",
];
/// Schemas of components that one tool may refer to.
const MOST_DEFINITIONS: usize = 200;
const DEEPEST: usize = 32;

/// Converts the schemas of one tool, and collects the components that they refer to.
pub(super) struct Schemas<'a> {
    document: &'a Document,
    definitions: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, definitions: BTreeMap::new() }
    }

    /// The `$defs` of what was converted.
    pub(super) fn into_definitions(self) -> Map<String, Value> {
        self.definitions.into_iter().collect()
    }

    pub(super) fn convert(&mut self, schema: &Value, pointer: &str) -> Result<Value, String> {
        self.within(schema, pointer, DEEPEST)
    }

    fn within(&mut self, schema: &Value, pointer: &str, levels: usize) -> Result<Value, String> {
        let Value::Object(written) = schema else {
            return if schema.is_boolean() { Ok(schema.clone()) } else { Err(format!("{pointer}: is no schema")) };
        };
        if levels == 0 {
            return Err(format!("{pointer}: nests deeper than {DEEPEST} levels"));
        }
        let mut converted = Map::new();
        if let Some(reference) = written.get("$ref") {
            converted.insert("$ref".into(), self.reference(reference, pointer, levels)?);
        }
        // In 3.0 whatever stands beside a reference means nothing.
        if !(self.document.is_3_0 && converted.contains_key("$ref")) {
            self.members(written, &mut converted, pointer, levels)?;
        }
        if self.document.is_3_0 {
            from_3_0(written, &mut converted);
        }
        Ok(Value::Object(converted))
    }

    fn members(
        &mut self,
        written: &Map<String, Value>,
        converted: &mut Map<String, Value>,
        pointer: &str,
        levels: usize,
    ) -> Result<(), String> {
        for (word, value) in written {
            let pointer = format!("{pointer}/{word}");
            let word = word.as_str();
            let value = match value {
                Value::Array(schemas) if WITHIN_LIST.contains(&word) => schemas
                    .iter()
                    .enumerate()
                    .map(|(index, schema)| self.within(schema, &format!("{pointer}/{index}"), levels - 1))
                    .collect::<Result<Value, _>>()?,
                Value::Object(schemas) if WITHIN_MAP.contains(&word) => schemas
                    .iter()
                    .filter(|(_, schema)| word != "properties" || !is_read_only(schema))
                    .map(|(name, schema)| {
                        Ok((name.clone(), self.within(schema, &format!("{pointer}/{name}"), levels - 1)?))
                    })
                    .collect::<Result<Value, String>>()?,
                schema if WITHIN.contains(&word) => self.within(schema, &pointer, levels - 1)?,
                value if PLAIN.contains(&word) => value.clone(),
                Value::String(format) if word == "format" && FORMATS.contains(&format.as_str()) => value.clone(),
                _ => continue,
            };
            converted.insert(word.to_owned(), value);
        }
        leave_out(written, converted);
        Ok(())
    }

    fn reference(&mut self, reference: &Value, pointer: &str, levels: usize) -> Result<Value, String> {
        let target = reference.as_str().unwrap_or_default();
        let Some(name) = target.strip_prefix("#/components/schemas/").filter(|name| is_plain(name)) else {
            return Err(format!("{pointer}/$ref: {target:?} is not a schema of this document's components"));
        };
        if !self.definitions.contains_key(name) {
            if self.definitions.len() == MOST_DEFINITIONS {
                return Err(format!("{pointer}/$ref: refers to more than {MOST_DEFINITIONS} schemas"));
            }
            let place = format!("/components/schemas/{name}");
            let schema = self.document.root.pointer(&place);
            let schema = schema.ok_or_else(|| format!("{pointer}/$ref: there is nothing at {target:?}"))?;
            // It is known before it is converted, since it may refer to itself.
            self.definitions.insert(name.to_owned(), Value::Bool(true));
            let converted = self.within(schema, &place, levels - 1)?;
            self.definitions.insert(name.to_owned(), converted);
        }
        Ok(format!("#/$defs/{name}").into())
    }
}

/// What the API fills in by itself is not asked for, nor sent for it.
fn leave_out(written: &Map<String, Value>, converted: &mut Map<String, Value>) {
    let properties = written.get("properties").and_then(Value::as_object);
    if let Some(Value::Array(required)) = converted.get_mut("required") {
        let answers = |name: &Value| {
            let property = properties.zip(name.as_str()).and_then(|(all, name)| all.get(name));
            property.is_some_and(is_read_only)
        };
        required.retain(|name| !answers(name));
    }
    if let Some(default) = written.get("default") {
        let told = converted.get("description").and_then(Value::as_str).unwrap_or_default();
        let told = format!("{told} (default: {default})").trim_start().to_owned();
        converted.insert("description".into(), told.into());
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn is_read_only(schema: &Value) -> bool {
    schema.get("readOnly") == Some(&Value::Bool(true))
}

/// Flags of 3.0 that are values in JSON Schema.
fn from_3_0(written: &Map<String, Value>, converted: &mut Map<String, Value>) {
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if written.get(flag).is_some_and(Value::is_boolean) {
            converted.remove(flag);
            if written[flag] == true
                && let Some(value) = converted.remove(bound)
            {
                converted.insert(flag.to_owned(), value);
            }
        }
    }
    if written.get("nullable") != Some(&Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(values)) = converted.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(kind) = converted.get_mut("type") {
        *kind = json!([kind.take(), "null"]);
    } else if !converted.contains_key("enum") {
        let schema = std::mem::take(converted);
        converted.insert("anyOf".into(), json!([schema, { "type": "null" }]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(version: &str, schema: &Value) -> (Value, Value) {
        let components = json!({ "schemas": { "Node": {
            "type": "object",
            "required": ["id", "next"],
            "properties": { "id": { "type": "integer", "readOnly": true }, "next": { "$ref": "#/components/schemas/Node" } }
        } } });
        let root = json!({ "openapi": version, "components": components });
        let document = Document::parse(&root.to_string()).unwrap();
        let mut schemas = Schemas::new(&document);
        let converted = schemas.convert(schema, "/schema").unwrap();
        (converted, Value::Object(schemas.into_definitions()))
    }

    #[test]
    fn the_dialect_of_3_0_becomes_json_schema() {
        for (written, expected) in [
            (json!({ "type": "string", "nullable": true }), json!({ "type": ["string", "null"] })),
            (json!({ "enum": ["a"], "nullable": true }), json!({ "enum": ["a", null] })),
            (json!({ "minimum": 1, "exclusiveMinimum": true }), json!({ "exclusiveMinimum": 1 })),
            (json!({ "maximum": 1, "exclusiveMaximum": false }), json!({ "maximum": 1 })),
            (
                json!({ "type": "integer", "format": "int64", "example": 1, "x-a": 2, "xml": {} }),
                json!({ "type": "integer" }),
            ),
            (
                json!({ "type": "string", "format": "uuid", "default": "x" }),
                json!({ "type": "string", "format": "uuid", "description": "(default: \"x\")" }),
            ),
            (
                json!({ "allOf": [{ "type": "object" }], "nullable": true }),
                json!({ "anyOf": [{ "allOf": [{ "type": "object" }] }, { "type": "null" }] }),
            ),
        ] {
            assert_eq!(converted("3.0.3", &written).0, expected);
        }
    }

    #[test]
    fn components_are_taken_along_once_though_they_refer_to_themselves() {
        let (schema, definitions) = converted("3.1.0", &json!({ "items": { "$ref": "#/components/schemas/Node" } }));
        assert_eq!(schema, json!({ "items": { "$ref": "#/$defs/Node" } }));
        let node =
            json!({ "type": "object", "required": ["next"], "properties": { "next": { "$ref": "#/$defs/Node" } } });
        assert_eq!(definitions, json!({ "Node": node }));
    }
}
