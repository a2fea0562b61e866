//! What an operation is called with: its parameters and its body, as arguments of one tool.

use std::collections::BTreeMap;

use http::HeaderName;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::schema::Schemas;

/// Headers that OpenAPI says are described elsewhere, or that belong to the connection.
const OTHERS: [&str; 8] =
    ["accept", "content-type", "authorization", "host", "content-length", "connection", "cookie", "transfer-encoding"];

/// Parameters of one operation: nothing that a model fills in has so many.
const MOST_PARAMETERS: usize = 500;

/// Where an argument goes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Field {
    pub(super) argument: String,
    pub(super) name: String,
    #[serde(rename = "in")]
    pub(super) place: String,
    style: &'static str,
    explode: bool,
    separator: &'static str,
}

/// What is sent as the body.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    argument: String,
    kind: &'static str,
    media_type: String,
}

/// Everything that a tool passes on, and the schema of its arguments.
pub(super) struct Arguments {
    pub(super) fields: Vec<Field>,
    pub(super) body: Option<Body>,
    pub(super) schema: Map<String, Value>,
}

struct Collector<'a> {
    document: &'a Document,
    schemas: Schemas<'a>,
    fields: Vec<Field>,
    properties: Map<String, Value>,
    required: Vec<String>,
}

/// Reads the parameters of a path and those of the operation, which come before them, and the body.
pub(super) fn arguments(
    document: &Document,
    (path_item, path_pointer): (&Value, &str),
    (operation, pointer): (&Value, &str),
) -> Result<Arguments, String> {
    let mut written = BTreeMap::new();
    for (place, pointer) in [(path_item, path_pointer), (operation, pointer)] {
        let list = place.get("parameters").and_then(Value::as_array).into_iter().flatten();
        for (index, parameter) in list.enumerate() {
            let (parameter, pointer) = document.resolve(parameter, &format!("{pointer}/parameters/{index}"))?;
            let text = |field: &str| parameter.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            if text("name").is_empty() {
                return Err(format!("{pointer}/name: is missing"));
            }
            written.insert((text("name"), text("in")), (parameter, pointer));
        }
    }
    if written.len() > MOST_PARAMETERS {
        return Err(format!("{pointer}/parameters: are more than {MOST_PARAMETERS}"));
    }
    let mut collector = Collector {
        document,
        schemas: Schemas::new(document),
        fields: Vec::new(),
        properties: Map::new(),
        required: Vec::new(),
    };
    for ((name, place), (parameter, pointer)) in written {
        if place != "header" || !OTHERS.contains(&name.to_ascii_lowercase().as_str()) {
            collector.parameter(&name, &place, parameter, &pointer)?;
        }
    }
    let body = collector.body(operation, pointer)?;
    Ok(collector.finish(body))
}

impl Collector<'_> {
    fn parameter(&mut self, name: &str, place: &str, parameter: &Value, pointer: &str) -> Result<(), String> {
        if place == "header" && HeaderName::try_from(name).is_err() {
            return Err(format!("{pointer}/name: {name:?} is no name of a header"));
        }
        let content = parameter.get("content").and_then(Value::as_object).and_then(|content| content.iter().next());
        let written = content.map_or(parameter, |(_, media)| media).get("schema").unwrap_or(&Value::Bool(true));
        let mut schema = self.schemas.convert(written, &format!("{pointer}/schema"))?;
        let (style, explode, separator) = style_of(place, parameter, content.is_some(), pointer)?;
        if let (Some(text), Value::Object(schema)) = (parameter.get("description").and_then(Value::as_str), &mut schema)
        {
            let more = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = if more.is_empty() || text.contains(more) { text.to_owned() } else { format!("{text} {more}") };
            schema.insert("description".into(), text.into());
        }
        let required = place == "path" || parameter.get("required") == Some(&Value::Bool(true));
        let argument = self.add(name, place, schema, required);
        self.fields.push(Field { argument, name: name.into(), place: place.into(), style, explode, separator });
        Ok(())
    }

    fn body(&mut self, operation: &Value, pointer: &str) -> Result<Option<Body>, String> {
        let Some(written) = operation.get("requestBody") else { return Ok(None) };
        let (body, pointer) = self.document.resolve(written, &format!("{pointer}/requestBody"))?;
        let required = body.get("required") == Some(&Value::Bool(true));
        let content = body.get("content").and_then(Value::as_object);
        let known = content.into_iter().flatten().filter_map(|(name, media)| Some((kind_of(name)?, name, media)));
        let best = known.min_by_key(|(kind, ..)| KINDS.iter().position(|known| known == kind));
        let Some((kind, media_type, media)) = best else {
            return if required {
                Err(format!("{pointer}/content: has no media type that can be sent"))
            } else {
                Ok(None)
            };
        };
        let written = media.get("schema").unwrap_or(&Value::Bool(true));
        let mut schema = self.schemas.convert(written, &format!("{pointer}/content/schema"))?;
        if kind == "multipart" && self.document.has_file(written) {
            return Err(format!("{pointer}/content: files cannot be sent"));
        }
        if matches!(kind, "form" | "multipart") {
            schema = json!({ "type": "object", "allOf": [schema] });
        }
        let argument = self.add("body", "request", schema, required);
        let media_type = if media_type.contains('*') { "application/json".to_owned() } else { media_type.clone() };
        Ok(Some(Body { argument, kind, media_type }))
    }

    /// Adds an argument and returns its name: the parameter's own, in the characters that hosts of models allow.
    fn add(&mut self, name: &str, place: &str, schema: Value, required: bool) -> String {
        let plain = |name: &str| {
            let parts: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_").chars().take(56).collect()
        };
        let mut argument: String = plain(name);
        if argument.is_empty() || self.properties.contains_key(&argument) {
            argument = plain(&format!("{place}_{name}"));
        }
        let first = argument.clone();
        for number in 2.. {
            if !self.properties.contains_key(&argument) {
                break;
            }
            argument = format!("{first}_{number}");
        }
        self.properties.insert(argument.clone(), schema);
        if required {
            self.required.push(argument.clone());
        }
        argument
    }

    fn finish(self, body: Option<Body>) -> Arguments {
        let mut schema = Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), Value::Object(self.properties)),
            ("additionalProperties".to_owned(), json!(false)),
        ]);
        if !self.required.is_empty() {
            schema.insert("required".into(), self.required.into());
        }
        let definitions = self.schemas.into_definitions();
        if !definitions.is_empty() {
            schema.insert("$defs".into(), Value::Object(definitions));
        }
        Arguments { fields: self.fields, body, schema }
    }
}

/// Kinds of bodies, the best first.
const KINDS: [&str; 4] = ["json", "form", "multipart", "text"];

fn kind_of(media_type: &str) -> Option<&'static str> {
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/json" | "*/*" | "application/*" => Some("json"),
        "application/x-www-form-urlencoded" => Some("form"),
        "multipart/form-data" => Some("multipart"),
        other if other.ends_with("+json") => Some("json"),
        other if other.starts_with("text/") => Some("text"),
        _ => None,
    }
}

/// How lists and objects are written: style, whether each member is a parameter of its own, else what stands between.
fn style_of(
    place: &str,
    parameter: &Value,
    is_content: bool,
    pointer: &str,
) -> Result<(&'static str, bool, &'static str), String> {
    let written = parameter.get("style").and_then(Value::as_str);
    let explode = parameter.get("explode").and_then(Value::as_bool);
    match (place, written) {
        ("query", _) if is_content => Ok(("json", false, ",")),
        ("query", None | Some("form")) => Ok(("form", explode.unwrap_or(true), ",")),
        ("query", Some("spaceDelimited")) => Ok(("form", explode.unwrap_or(false), " ")),
        ("query", Some("pipeDelimited")) => Ok(("form", explode.unwrap_or(false), "|")),
        ("query", Some("deepObject")) => Ok(("deepObject", true, ",")),
        ("path" | "header", None | Some("simple")) | ("cookie", None | Some("form")) => Ok(("simple", false, ",")),
        ("path" | "query" | "header" | "cookie", Some(style)) => {
            Err(format!("{pointer}/style: {style:?} cannot be written in a {place}"))
        }
        _ => Err(format!("{pointer}/in: {place:?} is no place of a parameter")),
    }
}
