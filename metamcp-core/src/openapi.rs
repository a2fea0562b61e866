//! [`ApiImport`]: the operations of an API, which an OpenAPI document describes, as tools.
//!
//! *Invariant:* pure. Names and texts of the document reach a tool's body only within one JSON literal, which is data;
//! the code beside it is the same for all.

mod document;
mod name;
mod operation;
mod parameters;
mod schema;
mod security;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::Url;

use self::document::Document;
use crate::definition::{ServerDefinition, ToolDefinition};
use crate::edit;
use crate::text;
use crate::validate::validate;
use crate::{Error, ErrorKind, Result};

/// Largest document, in bytes.
const DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Operations that are taken from one document: an agent that has to choose among more is lost anyway.
const MOST_OPERATIONS: usize = 500;

/// What is taken from a document, and where its API is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Where the API is, in place of what the document says. Only here may it be plain HTTP.
    #[serde(default)]
    pub base_url: Option<Url>,
    /// Only operations with one of these tags; empty means all.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only these operations, by `operationId` or as `GET /path`; empty means all.
    #[serde(default)]
    pub operations: Vec<String>,
}

/// What became of a document.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ApiImport {
    /// A tool for each operation that could be taken, in the document's order.
    pub tools: Vec<ToolDefinition>,
    /// Names of the secrets with which the tools authenticate.
    pub secrets: Vec<String>,
    /// The hosts that the tools call.
    pub hosts: Vec<String>,
    /// What could not be taken.
    pub skipped: Vec<SkippedOperation>,
}

/// An operation that is no tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkippedOperation {
    /// As `GET /path`.
    pub operation: String,
    /// Why, with the place in the document; at most 1,000 characters.
    pub reason: String,
}

impl ApiImport {
    /// Reads a document, JSON or YAML, of OpenAPI 3.0 or 3.1, and makes tools of its operations.
    ///
    /// Parameters of all kinds become arguments of one schema, a request's body the argument `body`. Values in a path
    /// are encoded, so that they cannot lead elsewhere. Redirects are not followed, since they could take the secrets to
    /// another host. No output schema is set: what an API answers is often not what its document says, and a result
    /// that does not fit its schema is an error.
    ///
    /// [`ErrorKind::InvalidDefinition`] for what cannot be read; [`ErrorKind::Unsupported`] for other versions;
    /// [`ErrorKind::LimitExceeded`] above 4 MiB or 500 operations.
    ///
    /// ```
    /// use metamcp_core::{ApiImport, ImportOptions};
    ///
    /// let import = ApiImport::read(
    ///     r"
    ///       openapi: 3.1.0
    ///       info: { title: Weather, version: '1' }
    ///       servers: [{ url: 'https://api.example.com/v1' }]
    ///       paths:
    ///         /cities/{city}:
    ///           get:
    ///             operationId: city_weather
    ///             summary: Tells the weather of a city
    ///             parameters: [{ name: city, in: path, required: true, schema: { type: string } }]
    ///     ",
    ///     &ImportOptions::default(),
    /// )?;
    /// assert_eq!(import.tools[0].name, "city_weather");
    /// assert_eq!(import.hosts, ["api.example.com"]);
    /// # Ok::<(), metamcp_core::Error>(())
    /// ```
    pub fn read(text: &str, options: &ImportOptions) -> Result<Self> {
        if text.len() > DOCUMENT_BYTES {
            let message = format!("the document has {} bytes, at most {DOCUMENT_BYTES} are read", text.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let document = Document::parse(text)?;
        let wanted = operation::wanted(&document, options)?;
        if wanted.len() > MOST_OPERATIONS {
            let message = format!("{} operations are wanted, at most {MOST_OPERATIONS} are taken", wanted.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("choose some by tags or operations"));
        }
        let mut import = Self::default();
        let mut names = BTreeSet::new();
        for found in wanted {
            let read = operation::read(&document, &found, options).and_then(|read| {
                let tool = read.tool(&names);
                check(&tool)?;
                Ok((tool, read))
            });
            match read {
                Ok((tool, read)) => {
                    names.insert(tool.name.to_ascii_lowercase());
                    import.add(tool, read);
                }
                Err(reason) => {
                    let reason = text::message(&reason);
                    import.skipped.push(SkippedOperation { operation: found.title(), reason });
                }
            }
        }
        Ok(import)
    }

    fn add(&mut self, tool: ToolDefinition, read: operation::Operation) {
        self.tools.push(tool);
        for (list, new) in [(&mut self.secrets, read.secrets()), (&mut self.hosts, vec![read.host])] {
            for item in new {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
    }

    /// A definition with the tools, and the secrets they need. Where it names hosts that it may call, theirs are added;
    /// where it has no tools yet, theirs are the only ones. [`ErrorKind::AlreadyExists`] for a tool that is there
    /// already and is another.
    pub fn add_to(&self, definition: &ServerDefinition) -> Result<ServerDefinition> {
        let mut new = definition.clone();
        if self.tools.is_empty() {
            return Ok(new);
        }
        if new.tools.is_empty() && new.resources.is_empty() && new.prompts.is_empty() {
            new.egress.get_or_insert_default();
        }
        for tool in &self.tools {
            new = edit::add_tool(&new, tool.clone())?;
        }
        new.secrets.extend(self.secrets.iter().filter(|name| !definition.secrets.contains(name)).cloned());
        if let Some(hosts) = &mut new.egress {
            let known: Vec<_> = self.hosts.iter().filter(|host| !hosts.contains(host)).cloned().collect();
            hosts.extend(known);
        }
        Ok(new)
    }
}

/// Whether a definition takes the tool: what it says is the reason why not.
fn check(tool: &ToolDefinition) -> Result<(), String> {
    let mut alone: ServerDefinition =
        serde_json::from_value(serde_json::json!({ "name": "a", "description": "A server." }))
            .map_err(|error| error.to_string())?;
    alone.tools.push(tool.clone());
    validate(&alone).map(|_| ()).map_err(|errors| {
        let problems = errors.problems().iter();
        let told: Vec<_> = problems.map(|problem| format!("{} {}", problem.pointer, problem.message)).take(5).collect();
        format!("as a tool it would not be valid: {}", told.join("; ")).replace("/tools/0", "")
    })
}
