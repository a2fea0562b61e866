//! [`ApiImport`]: the operations of an API, which an OpenAPI document describes, as tools.
//!
//! *Invariant:* pure. Names and texts of the document reach a tool's body only within one JSON literal, which is data;
//! the code beside it is the same for all.

mod document;
mod earlier;
mod name;
mod operation;
mod parameters;
mod schema;
mod security;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::Url;

use self::document::Document;
use self::earlier::Owners;
use crate::definition::{ServerDefinition, ToolDefinition};
use crate::edit;
use crate::text;
use crate::validate::validate;
use crate::{Error, ErrorKind, Result};

/// Largest document, in bytes.
const DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Operations that are taken from one document: an agent that has to choose among more is lost anyway.
const MOST_OPERATIONS: usize = 500;
/// What to do about a tool that is there already.
const EXISTS: &str = "import with `replace` if an earlier import wrote it; else leave it out by `operations`, or remove it \
                      first (remove_mcp_tool)";

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
    /// A tool for each operation that could be taken, by path and method.
    pub tools: Vec<ToolDefinition>,
    /// Names of the secrets with which the tools authenticate. Where an API also answers without, its tools work before
    /// they are set.
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
    /// another host; in what the API answers, their values are replaced by `***`. No output schema is set: what an
    /// API answers is often not what its document says, and a result that does not fit its schema is an error. So
    /// answers are passed on as the text that they are.
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
        if let Some(base) = &options.base_url {
            operation::plain_base(base.clone()).map_err(|problem| Error::new(ErrorKind::InvalidDefinition, problem))?;
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
        extend(&mut self.secrets, read.secrets());
        extend(&mut self.hosts, vec![read.host]);
    }

    /// The same, as it is added to a definition: a secret's name that is declared there already, but not for tools of
    /// the same base URL, becomes one of its own, so that no API is sent what is another's.
    #[must_use]
    pub fn beside(&self, definition: &ServerDefinition) -> Self {
        let owners = Owners::of(definition);
        let mut import = Self { secrets: Vec::new(), ..self.clone() };
        for tool in &mut import.tools {
            extend(&mut import.secrets, owners.name_apart(tool));
        }
        import
    }

    /// A definition with the tools, and the secrets they need, under the names that [`ApiImport::beside`] says. Where
    /// it names hosts that it may call, theirs are added; where it has no tools yet, theirs are the only ones.
    /// [`ErrorKind::AlreadyExists`] for a tool that is there already and is another.
    pub fn add_to(&self, definition: &ServerDefinition) -> Result<ServerDefinition> {
        self.beside(definition).put_in(definition, edit::add_tool)
    }

    /// As [`ApiImport::add_to`], but tools of the same names that an import wrote are replaced. They are known by how
    /// their bodies begin; what else was changed of them is lost. Tools that the document no longer has stay, and so do
    /// secrets and hosts.
    pub fn replace_in(&self, definition: &ServerDefinition) -> Result<ServerDefinition> {
        self.beside(definition).put_in(definition, |definition, tool| {
            let is_earlier = |other: &ToolDefinition| other.name == tool.name && earlier::is_imported(other);
            if definition.tools.iter().any(is_earlier) {
                edit::update_tool(definition, tool)
            } else {
                edit::add_tool(definition, tool)
            }
        })
    }

    fn put_in(
        &self,
        definition: &ServerDefinition,
        put: impl Fn(&ServerDefinition, ToolDefinition) -> Result<ServerDefinition>,
    ) -> Result<ServerDefinition> {
        let mut new = definition.clone();
        if self.tools.is_empty() {
            return Ok(new);
        }
        if new.tools.is_empty() && new.resources.is_empty() && new.prompts.is_empty() {
            new.egress.get_or_insert_default();
        }
        for tool in &self.tools {
            new = put(&new, tool.clone()).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => error.with_help(EXISTS),
                _ => error,
            })?;
        }
        new.secrets.extend(self.secrets.iter().filter(|name| !definition.secrets.contains(name)).cloned());
        if let Some(hosts) = &mut new.egress {
            let known: Vec<_> = self.hosts.iter().filter(|host| !hosts.contains(host)).cloned().collect();
            hosts.extend(known);
        }
        Ok(new)
    }
}

/// Adds what is not there yet.
fn extend(list: &mut Vec<String>, new: Vec<String>) {
    for item in new {
        if !list.contains(&item) {
            list.push(item);
        }
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
