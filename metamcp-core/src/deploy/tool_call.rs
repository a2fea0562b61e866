//! One call of a tool: on the live version, or on one that is staged for it and discarded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryFutureExt as _;
use rmcp::model::{CallToolRequestParams, CallToolResult, ErrorCode, ErrorData};
use rmcp::service::ServiceError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::call_limits::{CallLimits, CallTerms};
use super::{Deployments, not_live, pipeline, snapshot};
use crate::connection::effective;
use crate::event::EventSink;
use crate::json_size::json_size;
use crate::name::{ServerKey, VersionId};
use crate::publisher::{Endpoint, LogLine, LogListener, LogOptions};
use crate::registry::{DeploymentKind, LiveState, ServerRecord};
use crate::saga::Saga;
use crate::text;
use crate::trace::{traced, verb};
use crate::verify::{Cause, Failure, McpClient, settled};
use crate::{Error, ErrorKind, Result};

/// What connecting may take, and starting a server beside the call itself.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Most that a called tool may answer, in bytes of JSON: far more than any host shows to its model, and enough for a
/// picture. What is more is an error, and is not read to its end.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// Most that is read of one message: a stream that ends here does not say why, so that an answer which is too large is
/// better read a little further.
const MAX_MESSAGE: usize = 4 * MAX_RESULT_BYTES;
/// Lines of log that a test shows.
const TEST_LOG_LINES: usize = 50;
/// Lines of log that the error of a test shows, and how much of each, in characters.
const ERROR_LOG_LINES: usize = 8;
const ERROR_LINE_LENGTH: usize = 300;

/// What a tool answered, as MCP has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolAnswer {
    /// Whether the tool says that it failed: then `content` says why.
    pub is_error: bool,
    /// Content blocks.
    pub content: Vec<Value>,
    /// The answer as data, where the tool has an output schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// How long the call took, in milliseconds.
    pub latency_ms: u64,
}

/// What a test of a tool showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ToolTest {
    /// What the tool answered.
    pub answer: ToolAnswer,
    /// What the tested version wrote, oldest first.
    pub logs: Vec<LogLine>,
}

pub(super) async fn call(
    deployments: &Deployments,
    key: &ServerKey,
    tool: &str,
    arguments: Map<String, Value>,
) -> Result<ToolAnswer> {
    let record = deployments.backends.registry.get_server(key).await?;
    let Some(live) = &record.live else { return Err(not_live(&record)) };
    let limits = limits_of(deployments, &record, live).await?;
    let changed = live.revision != record.revision;
    let terms = limits.of_tool(tool).map_err(|error| if changed { undeployed(&record, tool, error) } else { error })?;
    let endpoint = deployments.backends.publisher.endpoint(&record.reference()).await?;
    let answer = call_at(&endpoint, tool, arguments, terms).await;
    answer.map_err(|error| limits.explain(error))
}

pub(super) async fn test(
    deployments: &Deployments,
    key: &ServerKey,
    tool: &str,
    arguments: Map<String, Value>,
    events: EventSink,
) -> Result<ToolTest> {
    let backends = deployments.backends.clone();
    let (record, lease) = deployments.lease(key, &events).await?;
    // Nothing of a test is recorded: the saga only carries what building and discarding need.
    let server = record.reference();
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Deploy, record.revision, events);
    let mut tested = attempt(&mut saga, &record, tool, arguments).await;
    if let Some(version) = &saga.record.version {
        saga.discard(version).await;
        if let Ok(Attempt { logs: logs @ None, .. }) = &mut tested {
            // Nothing of it runs any more, so whatever it wrote is there.
            *logs = Some(logs_of(&saga, version).await);
        }
    }
    saga.abandon().await;
    let Attempt { answer, logs } = tested?;
    let logs = logs.unwrap_or_default();
    match answer {
        Ok(answer) => Ok(ToolTest { answer, logs }),
        Err(error) => Err(with_log(error, &logs)),
    }
}

/// A call of a staged version.
struct Attempt {
    answer: Result<ToolAnswer>,
    /// What was heard meanwhile, where the target lets listen.
    logs: Option<Vec<LogLine>>,
}

async fn attempt(saga: &mut Saga, record: &ServerRecord, tool: &str, arguments: Map<String, Value>) -> Result<Attempt> {
    let definition = effective(&saga.backends, record).await?;
    let limits = CallLimits::of(&definition);
    let terms = limits.of_tool(tool)?;
    discard_leftovers(saga).await?;
    let artifact = pipeline::build(saga, &definition).await?;
    let staged = saga.backends.publisher.stage(saga.server(), &artifact).await?;
    saga.record.version = Some(staged.version.clone());
    let Some(preview) = &staged.preview else {
        let message =
            format!("this target has no previews, so server {} cannot be tested before it is live", record.name);
        return Err(Error::new(ErrorKind::Unsupported, message).with_help("deploy it, then call the tool"));
    };
    let settle_time = saga.backends.publisher.settle_time();
    let listener = saga.backends.publisher.listen(saga.server(), &staged.version).await;
    let answer = call_preview(settle_time, preview, tool, arguments, terms).await;
    let logs = heard(listener).await;
    Ok(Attempt { answer: answer.map_err(|error| limits.explain(error)), logs })
}

/// An error of a call, and what was logged before it.
fn with_log(error: Error, logs: &[LogLine]) -> Error {
    if logs.is_empty() {
        return error;
    }
    let last = logs[logs.len().saturating_sub(ERROR_LOG_LINES)..].iter();
    let lines: Vec<String> =
        last.map(|line| text::message(&line.text).chars().take(ERROR_LINE_LENGTH).collect()).collect();
    let help = error.help().map(|help| format!("{help}; ")).unwrap_or_default();
    error.with_help(format!("{help}its log ends with: {}", lines.join(" | ")))
}

/// What a listener heard; `None` where there is none. A test does not fail for want of lines.
async fn heard(listener: Result<Option<Box<dyn LogListener>>>) -> Option<Vec<LogLine>> {
    let heard = match listener {
        Ok(None) => return None,
        Ok(Some(listener)) => traced(verb!(DEBUG, "listen.finish"), listener.finish()).await,
        Err(error) => Err(error),
    };
    let mut lines = heard.unwrap_or_else(|error| {
        tracing::warn!(%error, "a tested version could not be listened to");
        Vec::new()
    });
    lines.drain(..lines.len().saturating_sub(TEST_LOG_LINES));
    Some(lines)
}

/// Discards what a crash in an earlier test left: versions that nobody recorded and nobody is served by. The
/// lease is held, so no deployment is about to record them.
async fn discard_leftovers(saga: &Saga) -> Result<()> {
    let published = saga.backends.publisher.list_versions(saga.server()).await?;
    let recorded = saga.backends.registry.list_versions(saga.server().id).await?;
    let known: HashSet<_> = recorded.into_iter().map(|version| version.version).collect();
    for left in published.iter().filter(|version| !version.active && !known.contains(&version.version)) {
        saga.discard(&left.version).await;
    }
    Ok(())
}

/// The tested version's own lines; a test does not fail for want of them.
async fn logs_of(saga: &Saga, version: &VersionId) -> Vec<LogLine> {
    match saga.backends.publisher.logs(saga.server(), LogOptions { limit: TEST_LOG_LINES }).await {
        Ok(lines) => lines.into_iter().filter(|line| line.version == *version).collect(),
        Err(error) => {
            tracing::warn!(%error, "the log of a tested version could not be read");
            Vec::new()
        }
    }
}

/// What calls of the live version's tools may take beside connecting.
async fn limits_of(deployments: &Deployments, record: &ServerRecord, live: &LiveState) -> Result<Arc<CallLimits>> {
    let version = (record.id, live.version.clone(), live.revision);
    if let Some(known) = deployments.limits.get(&version) {
        return Ok(known);
    }
    let limits = Arc::new(CallLimits::of(&snapshot(&deployments.backends, record.id, &live.version).await?));
    deployments.limits.put(version, limits.clone());
    Ok(limits)
}

/// An error about an unknown tool, where the working definition may have it already.
fn undeployed(record: &ServerRecord, tool: &str, error: Error) -> Error {
    if record.definition.tools.iter().any(|defined| defined.name == tool) {
        return error.with_help("it was added after the last deployment: deploy the server first");
    }
    error
}

async fn call_at(
    endpoint: &Endpoint,
    tool: &str,
    arguments: Map<String, Value>,
    terms: CallTerms,
) -> Result<ToolAnswer> {
    call_connected(connect(endpoint, tool).await?, tool, arguments, starting(terms)).await
}

/// The same for an endpoint that may not answer yet.
async fn call_preview(
    settle_time: Duration,
    preview: &Endpoint,
    tool: &str,
    arguments: Map<String, Value>,
    terms: CallTerms,
) -> Result<ToolAnswer> {
    let client = settled(settle_time, || connect(preview, tool).map_err(Failure::of_asking)).await?;
    call_connected(client, tool, arguments, starting(terms)).await
}

/// The terms of a call for which its server may have to be started.
fn starting(terms: CallTerms) -> CallTerms {
    CallTerms { limit: CONNECT_LIMIT + terms.limit, ..terms }
}

async fn connect(endpoint: &Endpoint, tool: &str) -> Result<McpClient> {
    let connected = timeout(CONNECT_LIMIT, McpClient::connect_within(endpoint, MAX_MESSAGE)).await;
    connected.map_err(|_| unanswered(tool, CONNECT_LIMIT))?
}

/// One call, then the end of the connection.
pub(crate) async fn call_connected(
    client: McpClient,
    tool: &str,
    arguments: Map<String, Value>,
    terms: CallTerms,
) -> Result<ToolAnswer> {
    let started = Instant::now();
    let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let answered = timeout(terms.limit, client.peer().call_tool(params)).await;
    let elapsed = started.elapsed();
    client.close().await;
    match answered {
        Ok(Ok(result)) => to_answer(tool, &result, elapsed),
        Ok(Err(error)) => Err(refused(tool, error, terms)),
        Err(_) => Err(perhaps_done(unanswered(tool, terms.limit), terms)),
    }
}

/// An error of a call of which nobody knows how far it came: making it again may do what it does twice.
fn perhaps_done(error: Error, terms: CallTerms) -> Error {
    if terms.is_repeatable {
        return error;
    }
    let help = error.help().unwrap_or("look at the server's log before you call it again");
    let help = format!("it may have been carried out; {help}");
    error.with_help(help).with_retryable(false)
}

fn unanswered(tool: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, format!("tool {tool:?} did not answer within {} s", limit.as_secs()))
        .with_help("look at the server's log, or raise the tool's limits")
}

fn refused(tool: &str, error: ServiceError, terms: CallTerms) -> Error {
    match (Cause::of_asking(&error), error) {
        (_, ServiceError::McpError(error)) => refused_by_server(tool, &error, terms),
        (Cause::TooLarge, _) => too_large(tool),
        (_, ServiceError::TransportClosed) => {
            let help = format!("look at the server's log; an answer may have {MAX_RESULT_BYTES} bytes at most");
            let error = Error::new(ErrorKind::Unavailable, format!("the answer of tool {tool:?} broke off"));
            perhaps_done(error.with_help(help), terms)
        }
        (cause, error) => {
            tracing::debug!(tool, %error, "a call of a tool failed");
            let may_be_done = cause.may_be_done();
            let error = cause.into_error(&format!("tool {tool:?} gave no answer"));
            if may_be_done { perhaps_done(error, terms) } else { error }
        }
    }
}

/// An error of the protocol: unlike an answer that says it failed, it does not tell how far the call came.
fn refused_by_server(tool: &str, error: &ErrorData, terms: CallTerms) -> Error {
    let said = text::message(&error.message);
    if is_unknown(tool, error) {
        return Error::new(ErrorKind::NotFound, format!("tool {tool:?} was not called: {said}"))
            .with_help("the server does not offer it now");
    }
    let message = format!("tool {tool:?} gave no result: {said}");
    if error.code == ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY {
        return Error::new(ErrorKind::Unsupported, message)
            .with_help("this tool asks its caller: connect to its URL with a client that can be asked");
    }
    perhaps_done(Error::new(told_kind(error), message), terms)
}

/// What kind of failure it is, where the answer says so, as the local target's does of a server that it had to stop.
fn told_kind(error: &ErrorData) -> ErrorKind {
    const TOLD: [ErrorKind; 3] = [ErrorKind::TimedOut, ErrorKind::LimitExceeded, ErrorKind::Unavailable];
    let told = error.data.as_ref().and_then(|data| data.get("kind")?.as_str());
    TOLD.into_iter().find(|kind| told == Some(kind.as_str())).unwrap_or(ErrorKind::Unexpected)
}

/// Whether a server says that it has no such tool, in the words of the SDKs: the code alone may be about its arguments.
fn is_unknown(tool: &str, error: &ErrorData) -> bool {
    let said = error.message.to_lowercase();
    let words = [format!("tool {} not found", tool.to_lowercase()), "tool not found".into(), "unknown tool".into()];
    error.code == ErrorCode::INVALID_PARAMS && words.iter().any(|words| said.starts_with(words))
}

fn too_large(tool: &str) -> Error {
    let message = format!("tool {tool:?} answers more than {MAX_RESULT_BYTES} bytes, which is not passed on");
    Error::new(ErrorKind::LimitExceeded, message)
        .with_help("have it answer less: a part at a time, a summary, or a link to the rest")
}

fn to_answer(tool: &str, result: &CallToolResult, elapsed: Duration) -> Result<ToolAnswer> {
    if json_size(result) > MAX_RESULT_BYTES {
        return Err(too_large(tool));
    }
    let content =
        result.content.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(|source| {
            Error::new(ErrorKind::Unexpected, "a tool's content cannot be read").with_source(source)
        })?;
    Ok(ToolAnswer {
        is_error: result.is_error == Some(true),
        content,
        structured_content: result.structured_content.clone(),
        latency_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}
