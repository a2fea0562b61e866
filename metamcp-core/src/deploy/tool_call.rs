//! One call of a tool: on the live version, or on one that is staged for it and discarded.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::ServiceError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{Deployments, not_live, pipeline};
use crate::connection::effective;
use crate::event::EventSink;
use crate::name::{ServerKey, VersionId};
use crate::publisher::{Endpoint, LogLine, LogOptions};
use crate::registry::{DeploymentKind, ServerRecord};
use crate::saga::Saga;
use crate::validate::{ValidDefinition, nearest};
use crate::verify::McpClient;
use crate::{Error, ErrorKind, Result};

/// What connecting may take, and starting a server beside the call itself.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Lines of log that a test shows.
const TEST_LOG_LINES: usize = 50;

/// What a tool answered, as MCP has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    let snapshot = deployments.snapshot(record.id, &live.version).await?;
    let changed = live.revision != record.revision;
    let limit =
        limit_of(&snapshot, tool).map_err(|error| if changed { undeployed(&record, tool, error) } else { error })?;
    let endpoint = deployments.backends.publisher.endpoint(&record.reference()).await?;
    call_at(&endpoint, tool, arguments, limit).await
}

pub(super) async fn test(
    deployments: &Deployments,
    key: &ServerKey,
    tool: &str,
    arguments: Map<String, Value>,
) -> Result<ToolTest> {
    let backends = deployments.backends.clone();
    let (id, _) = backends.registry.get_revision(key).await?;
    let lease = deployments.lease(id).await?;
    let record = match backends.registry.get_server(&id.into()).await {
        Ok(record) => record,
        Err(error) => {
            lease.release().await;
            return Err(error);
        }
    };
    // Nothing of a test is recorded: the saga only carries what building and discarding need.
    let (server, events) = (record.reference(), EventSink::default());
    let mut saga = Saga::new(backends, lease, server, DeploymentKind::Deploy, record.revision, events);
    let answer = attempt(&mut saga, &record, tool, arguments).await;
    let mut logs = Vec::new();
    if let Some(version) = &saga.record.version {
        saga.discard(version).await;
        // Nothing of it runs any more, so whatever it wrote is there.
        logs = logs_of(&saga, version).await;
    }
    saga.abandon().await;
    Ok(ToolTest { answer: answer?, logs })
}

async fn attempt(
    saga: &mut Saga,
    record: &ServerRecord,
    tool: &str,
    arguments: Map<String, Value>,
) -> Result<ToolAnswer> {
    let definition = effective(&saga.backends, record).await?;
    let limit = limit_of(&definition, tool)?;
    discard_leftovers(saga).await?;
    let artifact = pipeline::build(saga, &definition).await?;
    let staged = saga.backends.publisher.stage(saga.server(), &artifact).await?;
    saga.record.version = Some(staged.version.clone());
    let Some(preview) = &staged.preview else {
        let message =
            format!("this target has no previews, so server {} cannot be tested before it is live", record.name);
        return Err(Error::new(ErrorKind::Unsupported, message).with_help("deploy it, then call the tool"));
    };
    call_at(preview, tool, arguments, limit).await
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

/// How long a call of this tool may take; `NotFound` if the definition lists no such tool.
fn limit_of(definition: &ValidDefinition, tool: &str) -> Result<Duration> {
    if let Some(listed) = definition.listed_tools().find(|listed| listed.name.as_str() == tool) {
        return Ok(CONNECT_LIMIT + Duration::from_millis(listed.limits.timeout_ms));
    }
    if definition.template().manifest().dynamic_tools {
        return Ok(CONNECT_LIMIT + Duration::from_millis(definition.limits().timeout_ms));
    }
    let short: String = tool.chars().take(128).collect();
    let error = Error::new(ErrorKind::NotFound, format!("server {} has no tool {short:?}", definition.name()));
    let names = || definition.listed_tools().map(|listed| listed.name.as_str());
    Err(match nearest(tool, names()) {
        Some(near) => error.with_help(format!("did you mean {near:?}?")),
        None => error.with_help(format!("its tools are: {}", names().take(20).collect::<Vec<_>>().join(", "))),
    })
}

/// The same, where the working definition may have the tool already.
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
    limit: Duration,
) -> Result<ToolAnswer> {
    let connected = timeout(CONNECT_LIMIT, McpClient::connect(endpoint)).await;
    call_connected(connected.map_err(|_| unanswered(tool, CONNECT_LIMIT))??, tool, arguments, limit).await
}

/// One call, then the end of the connection.
pub(crate) async fn call_connected(
    client: McpClient,
    tool: &str,
    arguments: Map<String, Value>,
    limit: Duration,
) -> Result<ToolAnswer> {
    let started = Instant::now();
    let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let answered = timeout(limit, client.peer().call_tool(params)).await;
    let elapsed = started.elapsed();
    client.close().await;
    let result = answered.map_err(|_| unanswered(tool, limit))?.map_err(|error| refused(tool, error))?;
    to_answer(&result, elapsed)
}

fn unanswered(tool: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, format!("tool {tool:?} did not answer within {} s", limit.as_secs()))
        .with_help("look at the server's log, or raise the tool's limits")
}

fn refused(tool: &str, error: ServiceError) -> Error {
    match error {
        ServiceError::McpError(error) => {
            let message = format!("tool {tool:?} was not called: {}", error.message);
            Error::new(ErrorKind::Unexpected, message).with_help("look at the server's log")
        }
        error => Error::new(ErrorKind::Unavailable, format!("tool {tool:?} gave no answer")).with_source(error),
    }
}

fn to_answer(result: &CallToolResult, elapsed: Duration) -> Result<ToolAnswer> {
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
