//! How an operation authenticates: with secrets, whose names are made of the names of its schemes.

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{Document, escaped};
use super::name;

/// What is sent to authenticate. Only names of secrets are known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(super) enum Key {
    Bearer { secret: String },
    Basic { username: String, secret: String },
    Header { name: String, secret: String },
    Query { name: String, secret: String },
    Cookie { name: String, secret: String },
}

impl Key {
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Basic { username, secret } => vec![username.clone(), secret.clone()],
            Self::Bearer { secret }
            | Self::Header { secret, .. }
            | Self::Query { secret, .. }
            | Self::Cookie { secret, .. } => vec![secret.clone()],
        }
    }
}

/// The first of the ways to authenticate that can be gone, and whether the API also answers without. Where it does, a
/// way with keys still comes first: it is what answers with more.
pub(super) fn keys(document: &Document, operation: &Value) -> Result<(Vec<Key>, bool), String> {
    let ways = operation.get("security").or_else(|| document.root.get("security")).and_then(Value::as_array);
    let Some(ways) = ways.filter(|ways| !ways.is_empty()) else { return Ok((Vec::new(), false)) };
    let is_open = |way: &Value| way.as_object().is_some_and(Map::is_empty);
    let optional = ways.iter().any(is_open);
    let mut problems = Vec::new();
    for way in ways.iter().filter(|way| !is_open(way)) {
        let schemes = way.as_object().into_iter().flatten();
        match schemes.map(|(scheme, _)| key(document, scheme)).collect() {
            Ok(keys) => return Ok((keys, optional)),
            Err(problem) => problems.push(problem),
        }
    }
    if optional {
        return Ok((Vec::new(), false));
    }
    Err(problems.join("; "))
}

fn key(document: &Document, scheme: &str) -> Result<Key, String> {
    let pointer = format!("/components/securitySchemes/{}", escaped(scheme));
    let written = document.root.pointer(&pointer).ok_or_else(|| format!("{pointer}: there is no such scheme"))?;
    let (written, pointer) = document.resolve(written, &pointer)?;
    let text = |field: &str| written.get(field).and_then(Value::as_str).unwrap_or_default();
    let secret = name::of_secret(scheme);
    if secret.is_empty() {
        return Err(format!("{pointer}: its name has no letter that a secret's name may have"));
    }
    let named = || match text("name") {
        "" => Err(format!("{pointer}/name: is missing")),
        name => Ok(name.to_owned()),
    };
    match (text("type"), text("scheme").to_ascii_lowercase().as_str(), text("in")) {
        ("http", "bearer", _) | ("oauth2" | "openIdConnect", ..) => Ok(Key::Bearer { secret }),
        ("http", "basic", _) => {
            Ok(Key::Basic { username: format!("{secret}_USERNAME"), secret: format!("{secret}_PASSWORD") })
        }
        ("apiKey", _, "header") => Ok(Key::Header { name: named()?, secret }),
        ("apiKey", _, "query") => Ok(Key::Query { name: named()?, secret }),
        ("apiKey", _, "cookie") => Ok(Key::Cookie { name: named()?, secret }),
        (kind, ..) => Err(format!("{pointer}: authentication of the type {kind:?} cannot be done")),
    }
}
