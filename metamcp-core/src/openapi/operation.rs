//! One operation of an API: which there are, what is sent where, and the tool that sends it.

use std::collections::BTreeSet;
use std::slice;

use serde::Serialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::ImportOptions;
use super::document::{Document, escaped};
use super::name;
use super::parameters::{Arguments, Body, Field, arguments};
use super::security::{Key, keys};
use crate::definition::ToolDefinition;
use crate::text::without_hidden;
use crate::validate::nearest;
use crate::{Error, ErrorKind, Result};

/// Methods whose operations become tools; the others say something about an API and do nothing with it.
const METHODS: [&str; 6] = ["get", "put", "post", "delete", "patch", "head"];
/// Longest description, in characters: some hosts take no more.
const DESCRIPTION: usize = 1024;
/// Longest URL of an API.
const BASE_BYTES: usize = 2048;
/// How a tool's body begins, before the literal that says what it sends.
pub(super) const START: &str = "const operation = ";
/// How the code behind that literal begins, in this and all later versions: by it, tools of imports are known.
pub(super) const MARK: &str = "// Written by import_openapi:";
/// The code that carries an operation out.
const REQUEST: &str = include_str!("request.js");

/// An operation where it stands in the document.
pub(super) struct Found<'a> {
    method: &'static str,
    path: &'a str,
    item: &'a Value,
    item_pointer: String,
    operation: &'a Value,
}

impl Found<'_> {
    /// As `GET /path`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.method.to_ascii_uppercase(), self.path)
    }

    fn id(&self) -> Option<&str> {
        self.operation.get("operationId").and_then(Value::as_str)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.operation.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    fn has_tag(&self, tags: &[String]) -> bool {
        tags.is_empty() || self.tags().any(|tag| tags.iter().any(|wanted| wanted == tag))
    }

    fn is_named(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| Some(name.as_str()) == self.id() || *name == self.title())
    }
}

/// The operations that the options ask for, by path, then in the order of `METHODS`. A name or tag that none has is an
/// error.
pub(super) fn wanted<'a>(document: &'a Document, options: &ImportOptions) -> Result<Vec<Found<'a>>> {
    let mut all = Vec::new();
    for (path, item) in document.entries("/paths") {
        let pointer = format!("/paths/{}", escaped(path));
        let Ok((item, item_pointer)) = document.resolve(item, &pointer) else { continue };
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                all.push(Found { method, path, item, item_pointer: item_pointer.clone(), operation });
            }
        }
    }
    for name in &options.operations {
        if !all.iter().any(|found| found.is_named(slice::from_ref(name))) {
            let known = all.iter().map(|found| found.id().map_or_else(|| found.title(), str::to_owned));
            return Err(unknown("operation", name, &known.collect::<Vec<_>>()));
        }
    }
    for tag in &options.tags {
        if !all.iter().any(|found| found.has_tag(slice::from_ref(tag))) {
            let known: BTreeSet<_> = all.iter().flat_map(Found::tags).map(str::to_owned).collect();
            return Err(unknown("tag", tag, &Vec::from_iter(known)));
        }
    }
    Ok(all.into_iter().filter(|found| found.has_tag(&options.tags) && found.is_named(&options.operations)).collect())
}

fn unknown(what: &str, name: &str, known: &[String]) -> Error {
    let short: String = name.chars().take(128).collect();
    let help = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => format!("its operations have no {what}s"),
        None => format!("it has {}", known.iter().take(20).cloned().collect::<Vec<_>>().join(", ")),
    };
    Error::new(ErrorKind::NotFound, format!("the document has no {what} {short:?}")).with_help(help)
}

/// What a tool sends: the data that its body has as one literal.
#[derive(Debug, Serialize)]
pub(super) struct Operation {
    method: String,
    base: String,
    path: Vec<PathPart>,
    fields: Vec<Field>,
    keys: Vec<Key>,
    /// Whether it is sent without its keys where they are not set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    #[serde(skip)]
    pub(super) host: String,
    #[serde(skip)]
    said: Said,
}

/// What the tool says of itself.
#[derive(Debug)]
struct Said {
    id: Option<String>,
    title: String,
    description: String,
    schema: Map<String, Value>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum PathPart {
    Literal(String),
    Argument { argument: String },
}

/// Reads an operation; the error says why it cannot be a tool, and where in the document that is.
pub(super) fn read(document: &Document, found: &Found<'_>, options: &ImportOptions) -> Result<Operation, String> {
    let pointer = format!("{}/{}", found.item_pointer, found.method);
    let base = base_of(document, found, options)?;
    let Arguments { fields, body, schema } =
        arguments(document, (found.item, &found.item_pointer), (found.operation, &pointer))?;
    let path = path_parts(found.path, &fields)?;
    let (keys, optional) = keys(document, found.operation)?;
    let host = match base.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        _ => base.host_str().unwrap_or_default().to_owned(),
    };
    let fields = fields.into_iter().filter(|field| field.place != "path").collect();
    Ok(Operation {
        method: found.method.to_ascii_uppercase(),
        base: base.as_str().trim_end_matches('/').to_owned(),
        path,
        fields,
        keys,
        optional,
        body,
        host,
        said: Said { id: found.id().map(str::to_owned), title: found.title(), description: description(found), schema },
    })
}

impl Operation {
    pub(super) fn secrets(&self) -> Vec<String> {
        self.keys.iter().flat_map(Key::secrets).collect()
    }

    /// The tool, under a name that is not among those that are taken.
    pub(super) fn tool(&self, taken: &BTreeSet<String>) -> ToolDefinition {
        let Said { id, title, description, schema } = &self.said;
        let literal = serde_json::to_string(self).unwrap_or_default();
        let annotations = json!({
            "readOnlyHint": matches!(self.method.as_str(), "GET" | "HEAD"),
            "destructiveHint": self.method == "DELETE",
            "idempotentHint": !matches!(self.method.as_str(), "POST" | "PATCH"),
            "openWorldHint": true,
        });
        let implementation = format!("{START}{literal};\n{REQUEST}");
        let name = name::of_tool(id.as_deref(), title, taken);
        let mut tool = ToolDefinition::new(name, description.as_str(), implementation);
        tool.parameters.clone_from(schema);
        tool.annotations = annotations.as_object().cloned();
        tool
    }
}

fn description(found: &Found<'_>) -> String {
    let text = |field: &str| found.operation.get(field).and_then(Value::as_str).unwrap_or_default().trim();
    let (summary, description) = (text("summary"), text("description"));
    let mut parts: Vec<_> = [summary, description].into_iter().filter(|part| !part.is_empty()).collect();
    parts.dedup();
    let title = found.title();
    let room = DESCRIPTION.saturating_sub(title.chars().count() + 4);
    // Characters that hide text would make the definition invalid; an API's author rarely means them.
    let said: String = without_hidden(&parts.join(": ")).take(room).collect();
    if said.is_empty() { title } else { format!("{said} ({title})") }
}

/// Where the API is: what the caller says, else the first server that the operation, its path or the document names.
fn base_of(document: &Document, found: &Found<'_>, options: &ImportOptions) -> Result<Url, String> {
    if let Some(base) = &options.base_url {
        return Ok(base.clone());
    }
    let server =
        [found.operation, found.item, &document.root].into_iter().find_map(|place| place.get("servers")?.get(0));
    let written = server.and_then(|server| server.get("url")).and_then(Value::as_str).unwrap_or("/");
    let variables = server.and_then(|server| server.get("variables")).and_then(Value::as_object);
    let text = filled(written, variables).ok_or_else(too_long)?;
    let base = Url::parse(&text)
        .map_err(|_| format!("/servers: {written:?} does not say where the API is; pass its base URL"))?;
    if base.scheme() != "https" {
        return Err(format!("/servers: {written:?} is not HTTPS; pass the base URL if that is meant"));
    }
    plain_base(base)
}

/// A URL with its variables' defaults, in which braces mean nothing; `None` if that is too long.
fn filled(written: &str, variables: Option<&Map<String, Value>>) -> Option<String> {
    let (mut text, mut rest) = (String::new(), written);
    while text.len() + rest.len() <= BASE_BYTES {
        let Some((before, after)) = rest.split_once('{') else { return Some(text + rest) };
        let known = after.split_once('}').and_then(|(name, behind)| Some((variables?.get(name)?, behind)));
        text.push_str(before);
        if let Some((variable, behind)) = known {
            text.push_str(variable.get("default").and_then(Value::as_str).unwrap_or_default());
            rest = behind;
        } else {
            text.push('{');
            rest = after;
        }
    }
    None
}

fn too_long() -> String {
    format!("/servers: the URL of the API has more than {BASE_BYTES} bytes")
}

/// The base URL, if requests can be sent to what it says.
pub(super) fn plain_base(base: Url) -> Result<Url, String> {
    if base.as_str().len() > BASE_BYTES {
        return Err(too_long());
    }
    let is_plain =
        base.query().is_none() && base.fragment().is_none() && base.username().is_empty() && base.password().is_none();
    if matches!(base.scheme(), "https" | "http") && base.host().is_some() && is_plain {
        return Ok(base);
    }
    Err("the base URL has to be one of HTTP, without credentials, query and fragment".to_owned())
}

/// The path's own text, and the arguments within it.
fn path_parts(path: &str, fields: &[Field]) -> Result<Vec<PathPart>, String> {
    let place = format!("/paths/{}", escaped(path));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c);
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
        if !literal.chars().all(is_plain) || literal.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(format!("{place}: has characters that a path cannot have"));
        }
        if !literal.is_empty() {
            parts.push(PathPart::Literal(literal.to_owned()));
        }
        if literal.len() == rest.len() {
            break;
        }
        let (name, after) = after.split_once('}').ok_or_else(|| format!("{place}: has a brace that is not closed"))?;
        let field = fields.iter().find(|field| field.place == "path" && field.name == name);
        let field = field.ok_or_else(|| format!("{place}: {name:?} is not among its parameters"))?;
        parts.push(PathPart::Argument { argument: field.argument.clone() });
        rest = after;
    }
    Ok(parts)
}
