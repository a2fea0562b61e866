//! [`MetaMcpServer`]: what rmcp asks of a server.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rmcp::model::{
    ArgumentInfo, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, ErrorData,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use tokio::task::JoinError;
use tracing::Instrument;

use super::access::Access;
use super::audit::audited;
use super::call::Call;
use super::tool::{Effect, error_response};
use super::traced_call::Called;
use super::{resources, table};
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Longest call of a tool: every wait inside has its own, shorter limit.
const CALL_LIMIT: Duration = Duration::from_secs(900);

const GOES_ON: &str = "a change that was begun goes on: get_mcp_server_details, list_versions and list_audit_log show \
    what became of it";

const INSTRUCTIONS: &str = "Makes MCP servers at run time. To add a capability you lack: search_mcp_tools; if there \
    is none, init_mcp_server, add_mcp_tool (a JavaScript body), test_mcp_tool until it answers right, \
    deploy_mcp_server, then call_mcp_tool. Changes are live after deploy_mcp_server; rollback undoes a deployment. serverId is a server's id or its name.";

/// Meta-MCP as an MCP server, for one caller or, behind the guard, for the caller of each request.
#[derive(Debug, Clone)]
pub struct MetaMcpServer {
    meta: MetaMcp,
    /// `None`: each HTTP request carries its own, which the guard has put there.
    access: Option<Arc<Access>>,
}

impl MetaMcpServer {
    /// A server whose one caller has this access.
    pub fn new(meta: MetaMcp, access: Access) -> Self {
        Self { meta, access: Some(Arc::new(access)) }
    }

    /// A server whose callers are those of each request, as the guard says.
    pub(super) fn guarded(meta: MetaMcp) -> Self {
        Self { meta, access: None }
    }

    fn access(&self, context: &RequestContext<RoleServer>) -> Result<Arc<Access>> {
        if let Some(access) = &self.access {
            return Ok(access.clone());
        }
        let parts = context.extensions.get::<::http::request::Parts>();
        let access = parts.and_then(|parts| parts.extensions.get::<Arc<Access>>());
        access.cloned().ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "the request did not pass the guard"))
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let entry = table::find(&request.name).map_err(|near| unknown_tool(&request.name, near))?;
        let access = self.access(&context)?;
        if !access.allows(entry.scope) {
            let message = format!("{} needs scope {}, which {} has not", entry.name(), entry.scope, access.actor());
            return Err(Error::new(ErrorKind::PermissionDenied, message).with_help("ask for a key with that scope"));
        }
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let call = Call::new(self.meta.clone(), access.clone())
            .with_progress(context.peer.clone(), context.meta.get_progress_token());
        let work = audited(call, entry, arguments);
        let work = match entry.effect {
            Effect::Reads | Effect::Runs => work.boxed(),
            // Who stops waiting does not stop a change half-way, nor its entry in the audit log.
            Effect::Adds | Effect::Changes => {
                tokio::spawn(work.in_current_span()).map(|ended| ended.unwrap_or_else(panicked)).boxed()
            }
        };
        tokio::select! {
            answered = tokio::time::timeout(CALL_LIMIT, work) => answered.unwrap_or_else(|_| Err(too_long(entry.name()))),
            () = context.ct.cancelled() => Err(Error::new(ErrorKind::TimedOut, "the call was cancelled").with_help(GOES_ON)),
        }
    }
}

impl ServerHandler for MetaMcpServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .enable_completions()
            .build();
        let implementation = Implementation::new("meta-mcp", env!("CARGO_PKG_VERSION")).with_title("Meta-MCP");
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    /// The tools that the caller may use, so that nobody pays for reading about others.
    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let access = self.access(&context).map_err(to_protocol)?;
        let allowed = table::tools().iter().filter(|entry| access.allows(entry.scope));
        Ok(ListToolsResult::with_all_items(allowed.map(|entry| entry.tool.clone()).collect()))
    }

    /// Whatever goes wrong is a result with `isError`: what an error of the protocol says, many hosts do not show.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let called = Called::new(&request);
        let span = called.span(&context.meta);
        let response = self.call(request, context).instrument(span.clone()).await;
        called.end(&span, &response);
        Ok(response.unwrap_or_else(|error| error_response(&error)))
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let access = self.access(&context).map_err(to_protocol)?;
        let cursor = request.and_then(|request| request.cursor);
        resources::list(&self.meta, &access, cursor).await.map_err(to_protocol)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let access = self.access(&context).map_err(to_protocol)?;
        Ok(resources::read(&self.meta, &access, &request.uri).await.map_err(to_protocol)?.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(resources::prompts())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let argument = |name: &str| Some(request.arguments.as_ref()?.get(name)?.as_str()?.to_owned());
        Ok(resources::prompt(&request.name, argument).map_err(to_protocol)?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let access = self.access(&context).map_err(to_protocol)?;
        let ArgumentInfo { name, value, .. } = &request.argument;
        resources::complete(&self.meta, &access, name, value).await.map_err(to_protocol)
    }
}

/// Where a tool's result cannot carry an error: the protocol's own, with its code.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` passes")]
fn to_protocol(error: Error) -> ErrorData {
    match error.kind() {
        ErrorKind::NotFound => ErrorData::resource_not_found(error.to_string(), None),
        ErrorKind::InvalidDefinition => ErrorData::invalid_params(error.to_string(), None),
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => ErrorData::invalid_request(error.to_string(), None),
        _ => ErrorData::internal_error(error.to_string(), None),
    }
}

fn unknown_tool(name: &str, near: Option<&str>) -> Error {
    let short: String = name.chars().take(128).collect();
    let error = Error::new(ErrorKind::NotFound, format!("there is no tool {short:?}"));
    match near {
        Some(near) => error.with_help(format!("did you mean {near:?}?")),
        None => error.with_help("tools of servers that were made here are called by call_mcp_tool"),
    }
}

fn too_long(tool: &str) -> Error {
    Error::new(ErrorKind::TimedOut, format!("{tool} took longer than {} s", CALL_LIMIT.as_secs())).with_help(GOES_ON)
}

fn panicked(error: JoinError) -> Result<CallToolResponse> {
    Err(Error::new(ErrorKind::Unexpected, "the call broke down").with_source(error))
}
