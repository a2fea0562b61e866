//! [`Servers`]: definitions in the registry.

use std::future::ready;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codegen::generate;
use crate::connection::effective;
use crate::definition::ServerDefinition;
use crate::meta_mcp::Backends;
use crate::name::{ServerKey, ServerName};
use crate::registry::{Expect, ListOptions, Page, ServerRecord, ServerSummary, ToolSummary};
use crate::source_tree::SourceTree;
use crate::trace::{traced, verb};
#[cfg(feature = "server")]
use crate::validate::ValidDefinition;
use crate::validated::validated;
use crate::{Error, ErrorKind, Result};

/// How often one edit is tried. Each failure means that somebody else's edit was made meanwhile, so this is how many may
/// be made at once and all succeed: as many as the MCP server lets one caller have under way.
const EDIT_TRIES: u32 = 64;

/// A tool that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
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
///
/// An edit takes the newest definition and returns the changed one. A result that is not valid is refused as a whole.
///
/// ```
/// use metamcp_core::{ErrorKind, MetaMcp, ServerDefinition, ServerKey, ToolDefinition, edit, memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let meta = MetaMcp::new(memory::backends());
/// let mut dice = ServerDefinition::new("dice", "Rolls dice.");
/// dice.tools = vec![ToolDefinition::new("roll", "Rolls a die.", "return 4;")];
/// meta.servers().create(&dice).await?;
///
/// let key: ServerKey = "dice".parse()?;
/// let edited = meta.servers().edit(&key, |dice| edit::rename_tool(dice, "roll", "roll_die")).await?;
/// assert_eq!(edited.revision.0, 2);
/// let found = meta.servers().search_tools("die", 10).await?;
/// assert_eq!((found[0].tool.as_str(), found[0].live), ("roll_die", false));
///
/// // What is wrong comes all at once, each problem with its JSON pointer.
/// let broken = |dice: &ServerDefinition| {
///     let mut dice = dice.clone();
///     dice.tools[0].implementation = "return [1;".to_owned();
///     Ok(dice)
/// };
/// let error = meta.servers().edit(&key, broken).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
/// assert_eq!(error.validation().unwrap().problems()[0].pointer, "/tools/0/implementation");
/// # Ok(())
/// # }
/// ```
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
    /// [`ErrorKind::InvalidDefinition`] with every problem;
    /// [`ErrorKind::AlreadyExists`] if the name is taken by another definition.
    pub async fn create(&self, definition: &ServerDefinition) -> Result<ServerRecord> {
        let create = async move {
            let valid = validated(definition.clone()).await?;
            self.backends.registry.put_server(&valid, Expect::Absent).await
        };
        traced(verb!(INFO, "servers.create"), create).await
    }

    /// [`Servers::create`] of a definition that was checked already.
    #[cfg(feature = "server")]
    pub(crate) async fn create_valid(&self, definition: &ValidDefinition) -> Result<ServerRecord> {
        traced(verb!(INFO, "servers.create"), self.backends.registry.put_server(definition, Expect::Absent)).await
    }

    /// A server with its working definition; [`ErrorKind::NotFound`] if there is none.
    pub async fn get(&self, key: &ServerKey) -> Result<ServerRecord> {
        traced(verb!(DEBUG, "servers.get", server = %key), self.backends.registry.get_server(key)).await
    }

    /// Servers in order of names, page by page.
    pub async fn list(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        traced(verb!(DEBUG, "servers.list"), self.backends.registry.list_servers(options)).await
    }

    /// Changes a definition: reads it, applies `edit` (such as a function of [`edit`](crate::edit)), checks the result
    /// and writes it. If somebody else has changed the definition meanwhile, `edit` is applied to the new one, so it may
    /// run more than once. What is live stays as it is until the next deployment.
    ///
    /// [`ErrorKind::InvalidDefinition`] with every problem of the result; [`ErrorKind::Unsupported`] if it has another
    /// name; [`ErrorKind::Conflict`] if others changed it during each of 64 tries: call again.
    pub async fn edit<F>(&self, key: &ServerKey, edit: F) -> Result<ServerRecord>
    where
        F: Fn(&ServerDefinition) -> Result<ServerDefinition>,
    {
        self.edit_by(key, |definition| ready(edit(&definition))).await
    }

    /// [`Self::edit`] by what takes its time.
    pub(crate) async fn edit_by<F, E>(&self, key: &ServerKey, edit: F) -> Result<ServerRecord>
    where
        F: Fn(ServerDefinition) -> E,
        E: Future<Output = Result<ServerDefinition>>,
    {
        traced(verb!(INFO, "servers.edit", server = %key), async move {
            let mut tried = 1;
            loop {
                let record = self.backends.registry.get_server(key).await?;
                let edited = edit(record.definition.clone());
                let edited = edited.await?;
                if edited.name != record.definition.name {
                    return Err(renamed(&record, &edited));
                }
                let valid = validated(edited).await?;
                match self.backends.registry.put_server(&valid, Expect::Revision(record.revision)).await {
                    Err(error) if error.kind() == ErrorKind::Conflict && tried < EDIT_TRIES => tried += 1,
                    written => return written,
                }
            }
        })
        .await
    }

    /// Tools of all servers whose name or description has words of `query`, the best first, at most `limit`.
    ///
    /// Working definitions are searched, all tools of them, a thousand at a time; [`FoundTool::live`] says whether the
    /// tool can be called already.
    pub async fn search_tools(&self, query: &str, limit: usize) -> Result<Vec<FoundTool>> {
        traced(verb!(DEBUG, "servers.search_tools"), async move {
            let words: Vec<String> = words_of(query).collect();
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let tools = self.backends.registry.list_tools(after, ToolSummary::MOST).await?;
                after = tools.last().filter(|_| tools.len() == ToolSummary::MOST as usize).map(ToolSummary::place);
                found.extend(tools.into_iter().filter_map(|tool| scored(tool, &words)));
                if after.is_none() {
                    break;
                }
            }
            found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
            Ok(found.into_iter().take(limit).map(|(_, tool)| tool).collect())
        })
        .await
    }

    /// The project that is generated from the working definition: all of its files.
    pub async fn code(&self, key: &ServerKey) -> Result<SourceTree> {
        traced(verb!(DEBUG, "servers.code", server = %key), async move {
            let record = self.backends.registry.get_server(key).await?;
            generate(&effective(&self.backends, &record).await?)
        })
        .await
    }
}

fn renamed(record: &ServerRecord, edited: &ServerDefinition) -> Error {
    let message = format!("server {} cannot be renamed to {:?}", record.name, edited.name);
    Error::new(ErrorKind::Unsupported, message)
        .with_help("its name is part of its URL: create a new server and remove this one")
}

/// Lower-case words, of which `_`, `-` and `.` are no part: names of tools are words too.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// A tool that has a word of the query, with its score: a word of the name counts three times. A query without words
/// finds everything.
fn scored(tool: ToolSummary, query: &[String]) -> Option<(usize, FoundTool)> {
    let score = |text: &str| {
        let words: Vec<_> = words_of(text).collect();
        // Short words are the beginning of too many others.
        let fits = |word: &String, wanted: &String| word == wanted || (wanted.len() > 2 && word.starts_with(wanted));
        query.iter().filter(|wanted| words.iter().any(|word| fits(word, wanted))).count()
    };
    let server = score(tool.server.as_str()) + score(&tool.server_description);
    let score = 3 * score(&tool.name) + 2 * score(&tool.description) + server;
    let ToolSummary { server, name, description, live, .. } = tool;
    (score > 0 || query.is_empty()).then_some((score, FoundTool { server, tool: name, description, live }))
}
