//! An OpenAPI document as it was written, and what its references refer to.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// References from one to the next, at most: more are a circle.
const LONGEST_CHAIN: usize = 16;
/// Words of a schema whose values are no schemas.
const VALUES: [&str; 5] = ["const", "default", "enum", "example", "examples"];

/// A document of OpenAPI 3.0 or 3.1.
pub(super) struct Document {
    pub(super) root: Value,
    /// Whether its schemas are in the dialect of 3.0, which is not JSON Schema.
    pub(super) is_3_0: bool,
}

impl Document {
    /// Reads JSON, and YAML where it is no JSON.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let root: Value = match serde_json::from_str(text) {
            Ok(root) => root,
            Err(_) if !text.trim_start().starts_with('{') => serde_saphyr::from_str(text).map_err(unreadable)?,
            Err(error) => return Err(unreadable(error)),
        };
        match root.get("openapi").and_then(Value::as_str) {
            Some(version) if version.starts_with("3.0.") => Ok(Self { root, is_3_0: true }),
            Some(version) if version.starts_with("3.1.") => Ok(Self { root, is_3_0: false }),
            Some(version) => Err(unsupported(&format!("OpenAPI {:?}", version.chars().take(16).collect::<String>()))),
            None if root.get("swagger").is_some() => Err(unsupported("Swagger 2.0")),
            None => Err(Error::new(ErrorKind::InvalidDefinition, "the document has no field `openapi`")
                .with_help("pass an OpenAPI 3.0 or 3.1 document")),
        }
    }

    /// What stands there, through `$ref`s; the pointer of where it was found.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value, pointer: &str) -> Result<(&'a Value, String), String> {
        let (mut value, mut pointer) = (value, pointer.to_owned());
        for _ in 0..LONGEST_CHAIN {
            let Some(reference) = value.get("$ref") else { return Ok((value, pointer)) };
            let target = reference.as_str().unwrap_or_default();
            let Some(inside) = target.strip_prefix('#') else {
                return Err(format!("{pointer}/$ref: {target:?} is in another document, which is not fetched"));
            };
            value =
                self.root.pointer(inside).ok_or_else(|| format!("{pointer}/$ref: there is nothing at {target:?}"))?;
            inside.clone_into(&mut pointer);
        }
        Err(format!("{pointer}/$ref: refers to itself"))
    }

    /// Whether a schema, or one that it refers to, has bytes that are no text.
    pub(super) fn has_file(&self, schema: &Value) -> bool {
        let mut seen = BTreeSet::new();
        let mut schemas = vec![schema];
        while let Some(schema) = schemas.pop() {
            let text = |word: &str| schema.get(word).and_then(Value::as_str);
            if text("format") == Some("binary") || text("contentMediaType").or(text("contentEncoding")).is_some() {
                return true;
            }
            let target = text("$ref").filter(|target| seen.insert(*target)).and_then(|target| target.strip_prefix('#'));
            schemas.extend(target.and_then(|target| self.root.pointer(target)));
            match schema {
                Value::Object(members) => {
                    schemas
                        .extend(members.iter().filter(|(word, _)| !VALUES.contains(&word.as_str())).map(|(_, it)| it));
                }
                Value::Array(items) => schemas.extend(items),
                _ => {}
            }
        }
        false
    }

    /// The members of an object of the document, or nothing.
    pub(super) fn entries(&self, pointer: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.root.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
    }
}

/// A name as a part of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    // The first line says what and where; others would show the text around it.
    let first = error.to_string().lines().next().unwrap_or_default().to_owned();
    Error::new(ErrorKind::InvalidDefinition, format!("the document cannot be read: {first}"))
        .with_help("pass an OpenAPI 3.0 or 3.1 document as JSON or YAML")
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} is not read")).with_help("convert it to OpenAPI 3.0 or 3.1")
}
