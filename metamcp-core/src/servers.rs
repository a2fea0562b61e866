//! [`Servers`]: definitions in the registry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codegen::generate;
use crate::connection::effective;
use crate::definition::ServerDefinition;
use crate::meta_mcp::Backends;
use crate::name::{ServerKey, ServerName};
use crate::registry::{Expect, ListOptions, Page, ServerRecord, ServerSummary};
use crate::source_tree::SourceTree;
use crate::validate::validate;
use crate::{ErrorKind, Result};

/// A tool that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundTool {
    /// Name of its server.
    pub server: ServerName,
    /// Its name.
    pub tool: String,
    /// What it does.
    pub description: String,
    /// Whether its server is live; the tool itself may have been added since.
    pub live: bool,
}

/// Definitions: create, read, change, list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Servers {
    backends: Arc<Backends>,
}

impl Servers {
    pub(crate) fn new(backends: Arc<Backends>) -> Self {
        Self { backends }
    }

    /// Records a new server. Recording the same definition twice is a no-op.
    ///
    /// [`ErrorKind::InvalidDefinition`](crate::ErrorKind::InvalidDefinition) with every problem;
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if the name is taken by another definition.
    pub async fn create(&self, definition: &ServerDefinition) -> Result<ServerRecord> {
        self.backends.registry.put_server(&validate(definition)?, Expect::Absent).await
    }

    /// A server with its working definition; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn get(&self, key: &ServerKey) -> Result<ServerRecord> {
        self.backends.registry.get_server(key).await
    }

    /// Servers in order of names, page by page.
    pub async fn list(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        self.backends.registry.list_servers(options).await
    }

    /// Changes a definition: reads it, applies `edit` (such as one of [`edit`](crate::edit)), checks the result and
    /// writes it if nobody else changed it meanwhile. What is live stays as it is until the next deploy.
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if somebody did: call again.
    pub async fn edit<F>(&self, key: &ServerKey, edit: F) -> Result<ServerRecord>
    where
        F: FnOnce(&ServerDefinition) -> Result<ServerDefinition>,
    {
        let record = self.backends.registry.get_server(key).await?;
        let edited = edit(&record.definition)?;
        if edited.name != record.definition.name {
            return Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                format!("server {} cannot be renamed to {:?}", record.name, edited.name),
            )
            .with_help("its name is part of its URL: create a new server and remove this one"));
        }
        self.backends.registry.put_server(&validate(&edited)?, Expect::Revision(record.revision)).await
    }

    /// Tools of all servers whose name or description has words of `query`, the best first, at most `limit`.
    ///
    /// Working definitions are searched, every one of them, so the cost grows with their number; [`FoundTool::live`] says whether the tool can be called already.
    pub async fn search_tools(&self, query: &str, limit: usize) -> Result<Vec<FoundTool>> {
        let words: Vec<String> = words_of(query).collect();
        let mut found = Vec::new();
        let mut list = ListOptions { limit: 1_000, ..ListOptions::default() };
        loop {
            let page = self.backends.registry.list_servers(&list).await?;
            for summary in page.items {
                let record = match self.backends.registry.get_server(&summary.id.into()).await {
                    Ok(record) => record,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                found.extend(matching_tools(&record, &words));
            }
            match page.next {
                Some(next) => list.after = Some(next),
                None => break,
            }
        }
        found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        Ok(found.into_iter().take(limit).map(|(_, tool)| tool).collect())
    }

    /// The project that is generated from the working definition: all of its files.
    pub async fn code(&self, key: &ServerKey) -> Result<SourceTree> {
        let record = self.backends.registry.get_server(key).await?;
        generate(&effective(&self.backends, &record).await?)
    }
}

/// Lower-case words, of which `_`, `-` and `.` are no part: names of tools are words too.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The tools of a server that have a word of the query, each with its score: a word of the name counts three times.
/// A query without words finds everything.
fn matching_tools(record: &ServerRecord, query: &[String]) -> Vec<(usize, FoundTool)> {
    let score = |text: &str| {
        let words: Vec<_> = words_of(text).collect();
        // Short words are the beginning of too many others.
        let fits = |word: &String, wanted: &String| word == wanted || (wanted.len() > 2 && word.starts_with(wanted));
        query.iter().filter(|wanted| words.iter().any(|word| fits(word, wanted))).count()
    };
    let server = score(record.name.as_str()) + score(&record.definition.description);
    let tools = record.definition.tools.iter().map(|tool| {
        let score = 3 * score(&tool.name) + 2 * score(&tool.description) + server;
        let found = FoundTool {
            server: record.name.clone(),
            tool: tool.name.clone(),
            description: tool.description.clone(),
            live: record.live.is_some(),
        };
        (score, found)
    });
    tools.filter(|(score, _)| *score > 0 || query.is_empty()).collect()
}
