//! Live servers as MCP resources, a prompt that teaches to make one, and completion of their names.

use rmcp::model::{
    CompleteResult, CompletionInfo, GetPromptResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, Prompt, PromptArgument, PromptMessage, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate, Role,
};
use serde_json::json;

use super::access::Access;
use super::visible;
use crate::keys::Scope;
use crate::name::{ServerKey, ServerName};
use crate::registry::{ListOptions, RecordStatus};
use crate::{Error, ErrorKind, MetaMcp, Result};

const PREFIX: &str = "metamcp://servers/";
const TEMPLATE: &str = "metamcp://servers/{name}";
const PROMPT: &str = "make_mcp_server";
/// Resources on one page.
const PAGE: u32 = 50;

/// How a good server is made; `{goal}` is the prompt's argument.
const GUIDE: &str = include_str!("guide.md");

/// Live servers that the caller may see, page by page.
pub(super) async fn list(meta: &MetaMcp, access: &Access, cursor: Option<String>) -> Result<ListResourcesResult> {
    may_read(access)?;
    let after = cursor.map(|cursor| cursor.parse::<ServerName>()).transpose();
    let after =
        after.map_err(|error| Error::new(ErrorKind::InvalidDefinition, format!("the cursor is not ours: {error}")))?;
    let options = ListOptions { limit: PAGE, after, status: Some(RecordStatus::Deployed), ..ListOptions::default() };
    let page = visible::page(meta, access, &options).await?;
    let resources = page.items.into_iter().map(|server| {
        Resource::new(format!("{PREFIX}{}", server.name), server.name.as_str())
            .with_description(server.description)
            .with_mime_type("application/json")
    });
    let mut result = ListResourcesResult::with_all_items(resources.collect());
    result.next_cursor = page.next.map(Into::into);
    Ok(result)
}

pub(super) fn templates(access: &Access) -> Result<ListResourceTemplatesResult> {
    may_read(access)?;
    let template = ResourceTemplate::new(TEMPLATE, "server")
        .with_description("A server: where it answers and its definition")
        .with_mime_type("application/json");
    Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
}

/// One server: where it answers and its whole definition, also if it is not live.
pub(super) async fn read(meta: &MetaMcp, access: &Access, uri: &str) -> Result<ReadResourceResult> {
    may_read(access)?;
    let unknown = || {
        let short: String = uri.chars().take(128).collect();
        Error::new(ErrorKind::NotFound, format!("there is no resource {short:?}")).with_help(format!("read {TEMPLATE}"))
    };
    let name: ServerName = uri.strip_prefix(PREFIX).and_then(|name| name.parse().ok()).ok_or_else(unknown)?;
    if !access.may_use(&name) {
        return Err(unknown());
    }
    let record = meta.servers().get(&ServerKey::Name(name)).await?;
    let text = json!({ "status": record.status, "live": record.live, "definition": record.definition });
    let contents = ResourceContents::text(text.to_string(), uri).with_mime_type("application/json");
    Ok(ReadResourceResult::new(vec![contents]))
}

pub(super) fn prompts() -> ListPromptsResult {
    let goal = PromptArgument::new("goal").with_description("What the server shall be able to do").with_required(true);
    let server = PromptArgument::new("serverId").with_description("A server to extend instead").with_required(false);
    let prompt = Prompt::new(PROMPT, Some("How to make a good MCP server here"), Some(vec![goal, server]));
    ListPromptsResult::with_all_items(vec![prompt])
}

pub(super) fn prompt(name: &str, argument: impl Fn(&str) -> Option<String>) -> Result<GetPromptResult> {
    if name != PROMPT {
        // Of prompts, unlike resources, the protocol says that this is an invalid argument.
        let short: String = name.chars().take(128).collect();
        let message = format!("there is no prompt {short:?}; there is {PROMPT}");
        return Err(Error::new(ErrorKind::InvalidDefinition, message));
    }
    let Some(goal) = argument("goal") else {
        return Err(Error::new(ErrorKind::InvalidDefinition, "the argument \"goal\" is missing"));
    };
    let place = argument("serverId").map_or_else(String::new, |server| format!("\nExtend the server {server:?}."));
    let text = format!("{}\n\nThe goal: {goal}{place}\n", GUIDE.trim_end());
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]))
}

/// Names of servers that begin so, for the variable of the template and the argument of the prompt.
pub(super) async fn complete(meta: &MetaMcp, access: &Access, argument: &str, begun: &str) -> Result<CompleteResult> {
    if !["name", "serverId"].contains(&argument) || !access.allows(Scope::Read) {
        return Ok(CompleteResult::default());
    }
    let (names, count) = visible::names(meta, access, begun, CompletionInfo::MAX_VALUES).await?;
    let has_more = count > names.len();
    let total = u32::try_from(count).ok();
    let values = CompletionInfo::with_pagination(names, total, has_more)
        .map_err(|text| Error::new(ErrorKind::Unexpected, text))?;
    Ok(CompleteResult::new(values))
}

fn may_read(access: &Access) -> Result<()> {
    if access.allows(Scope::Read) {
        return Ok(());
    }
    let message = format!("resources need scope read, which {} has not", access.actor());
    Err(Error::new(ErrorKind::PermissionDenied, message).with_help("ask for a key with that scope"))
}
