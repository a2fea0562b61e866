//! [`MetaMcpServer`]: what rmcp asks of a server.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rmcp::model::{
    ArgumentInfo, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CustomRequest,
    CustomResult, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation, InputRequiredResult,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinError;
use tracing::Instrument;

use super::access::Access;
use super::audit::audited;
use super::call::Call;
use super::elicit::{Asked, Questions};
use super::metrics::Metrics;
use super::tool::{Effect, ToolEntry, error_response};
use super::traced_call::Called;
use super::{malformed, resources, table};
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Longest call of a tool: every wait inside has its own, shorter limit.
const CALL_LIMIT: Duration = Duration::from_secs(900);

/// How often a call that goes on says so: often enough that no proxy takes the stream for dead.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

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
    metrics: Option<Arc<Metrics>>,
    /// What persons are asked for.
    questions: Questions,
    /// How often a call that goes on says so.
    progress_interval: Duration,
}

impl MetaMcpServer {
    /// A server whose one caller has this access.
    pub fn new(meta: MetaMcp, access: Access) -> Self {
        Self::of(meta, Some(Arc::new(access)), None)
    }

    /// Has calls that go on say so this often, instead of every 10 s, to callers who asked for progress.
    #[must_use]
    pub fn with_progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// A server whose callers are those of each request, as the guard says, and whose calls are counted.
    pub(super) fn guarded(meta: MetaMcp, metrics: Arc<Metrics>) -> Self {
        Self::of(meta, None, Some(metrics))
    }

    fn of(meta: MetaMcp, access: Option<Arc<Access>>, metrics: Option<Arc<Metrics>>) -> Self {
        Self { meta, access, metrics, questions: Questions::default(), progress_interval: PROGRESS_INTERVAL }
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
        entry: &'static ToolEntry,
        mut request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let access = self.access(&context)?;
        if !access.allows(entry.scope) {
            let message = format!("{} needs scope {}, which {} has not", entry.name(), entry.scope, access.actor());
            return Err(Error::new(ErrorKind::PermissionDenied, message).with_help("ask for a key with that scope"));
        }
        let call = Call::new(self.meta.clone(), access.clone())
            .with_progress(context.peer.clone(), context.meta.get_progress_token());
        if entry.name() == "set_secret"
            && let Some(again) = self.ask(&call, &mut request, &context).await?
        {
            return Ok(again.into());
        }
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let server = arguments.get("serverId").and_then(Value::as_str).map(str::to_owned);
        let caller = call.clone();
        let work = audited(call, entry, arguments);
        let work = match entry.effect {
            Effect::Reads | Effect::Runs => work.boxed(),
            // Who stops waiting does not stop a change half-way, nor its entry in the audit log.
            Effect::Adds | Effect::Changes => {
                tokio::spawn(work.in_current_span()).map(|ended| ended.unwrap_or_else(panicked)).boxed()
            }
        };
        let work = caller.report_while(work, self.progress_interval);
        let answered = tokio::select! {
            answered = tokio::time::timeout(CALL_LIMIT, work) => answered.unwrap_or_else(|_| Err(too_long(entry.name()))),
            () = context.ct.cancelled() => Err(Error::new(ErrorKind::TimedOut, "the call was cancelled").with_help(GOES_ON)),
        };
        match (answered, server) {
            (Err(error), Some(server)) if error.kind() == ErrorKind::NotFound => {
                Err(caller.meant(&server, error).await)
            }
            (answered, _) => answered,
        }
    }

    /// Has a person say the value that a call of `set_secret` leaves out; what the client has to do first, if anything.
    async fn ask(
        &self,
        call: &Call,
        request: &mut CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<InputRequiredResult>> {
        let asked = context.ct.run_until_cancelled(self.questions.secret(call, request, context)).await;
        let asked = asked.unwrap_or_else(|| Err(Error::new(ErrorKind::TimedOut, "the call was cancelled")))?;
        match asked {
            Some(Asked::Again(again)) => Ok(Some(again)),
            Some(Asked::Typed(value)) => {
                let value = Value::from(value.expose_secret());
                request.arguments.get_or_insert_default().insert("value".to_owned(), value);
                Ok(None)
            }
            None => Ok(None),
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
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        only_page(request)?;
        let access = self.access(&context).map_err(to_protocol)?;
        let allowed = table::tools().iter().filter(|entry| access.allows(entry.scope));
        Ok(ListToolsResult::with_all_items(allowed.map(|entry| entry.tool.clone()).collect()))
    }

    /// Whatever goes wrong in a tool is a result with `isError`: what an error of the protocol says, many hosts do not
    /// show. That there is no such tool is the protocol's to say.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let called = Called::new(&request);
        let span = called.span(&context.meta);
        let found = table::find(&request.name).map_err(|near| unknown_tool(&request.name, near));
        let is_known = found.is_ok();
        let response = match found {
            Ok(entry) => self.call(entry, request, context).instrument(span.clone()).await,
            Err(unknown) => Err(unknown),
        };
        called.end(&span, &response, self.metrics.as_deref());
        match response {
            Err(unknown) if !is_known => Err(ErrorData::invalid_params(unknown.to_string(), None)),
            response => Ok(response.unwrap_or_else(|error| error_response(&error))),
        }
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
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        only_page(request)?;
        let access = self.access(&context).map_err(to_protocol)?;
        resources::templates(&access).map_err(to_protocol)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let access = self.access(&context).map_err(to_protocol)?;
        let read = resources::read(&self.meta, &access, &request.uri).await;
        let error = |error| ErrorData { data: Some(json!({ "uri": request.uri })), ..to_protocol(error) };
        Ok(read.map_err(error)?.into())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        only_page(request)?;
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

    /// What is no request of MCP: of a method that nobody knows, or with parameters that are not that method's.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(malformed::request(&request))
    }
}

/// Refuses a place to go on from in a list that is one page.
fn only_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        Some(_) => Err(ErrorData::invalid_params("the cursor is not ours: the list is one page", None)),
        None => Ok(()),
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
