//! Testing, deploying, calling and watching servers.

use futures::StreamExt;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::servers::text_of;
use super::{Done, OneServer};
use crate::deploy::{Deployment, ToolAnswer};
use crate::event::{DeployEvent, EventSink};
use crate::name::VersionId;
use crate::publisher::{LogLine, LogOptions};
use crate::server::call::{Call, ServerArg};
use crate::{Error, ErrorKind, Result};

/// Lines of log, unless more are asked for.
const LINES: usize = 30;
/// Versions, unless more are asked for.
const VERSIONS: usize = 10;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct CallTool {
    server_id: ServerArg,
    tool_name: String,
    /// The tool's
    #[serde(default)]
    arguments: Map<String, Value>,
    /// Calls a tool of this external server instead
    server_name: Option<String>,
}

pub(in crate::server) async fn call_tool(call: Call, params: CallTool) -> Result<CallToolResponse> {
    let CallTool { server_id, tool_name, arguments, server_name } = params;
    let key = call.server(&server_id).await?;
    let answer = match server_name {
        Some(name) => call.meta.connections().call_tool(&key, &name, &tool_name, arguments).await?,
        None => call.meta.deployments().call_tool(&key, &tool_name, arguments).await?,
    };
    to_response(answer, &[])
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct TestTool {
    server_id: ServerArg,
    tool_name: String,
    /// The tool's
    #[serde(default)]
    arguments: Map<String, Value>,
}

pub(in crate::server) async fn test_tool(call: Call, params: TestTool) -> Result<CallToolResponse> {
    let key = call.server(&params.server_id).await?;
    let TestTool { tool_name, arguments, .. } = params;
    let deployments = call.meta.deployments();
    let test =
        reporting(&call, |events| deployments.test_tool_with_events(&key, &tool_name, arguments, events)).await?;
    to_response(test.answer, &test.logs)
}

/// What the tool answered, as its own client would see it, and behind it what it logged.
fn to_response(answer: ToolAnswer, logs: &[LogLine]) -> Result<CallToolResponse> {
    let content: Result<Vec<ContentBlock>, _> = answer.content.into_iter().map(serde_json::from_value).collect();
    let mut content = content.map_err(|source| {
        Error::new(ErrorKind::Unexpected, "the tool's content cannot be passed on").with_source(source)
    })?;
    if !logs.is_empty() {
        let lines: Vec<_> = logs.iter().map(|line| line.text.as_str()).collect();
        content.push(ContentBlock::text(format!("log:\n{}", lines.join("\n"))));
    }
    let mut result = if answer.is_error { CallToolResult::error(content) } else { CallToolResult::success(content) };
    result.structured_content = answer.structured_content;
    Ok(result.into())
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Deployed {
    success: bool,
    url: String,
    version_id: String,
    revision: u64,
    /// What was checked on the live endpoint
    tools: usize,
    resources: usize,
    prompts: usize,
    calls: usize,
}

impl From<Deployment> for Deployed {
    fn from(deployment: Deployment) -> Self {
        let seen = deployment.verification;
        Self {
            success: true,
            url: deployment.url.into(),
            version_id: deployment.version.into(),
            revision: deployment.revision.0,
            tools: seen.tools,
            resources: seen.resources,
            prompts: seen.prompts,
            calls: seen.calls,
        }
    }
}

pub(in crate::server) async fn deploy(call: Call, params: OneServer) -> Result<Deployed> {
    let key = call.server(&params.server_id).await?;
    let deployments = call.meta.deployments();
    let deployed = reporting(&call, |events| deployments.deploy_with_events(&key, events)).await?;
    call.is_about(deployed.version.as_str());
    Ok(deployed.into())
}

/// Does what reports its steps, and tells the caller of each.
pub(super) async fn reporting<T, F: Future<Output = T>>(call: &Call, work: impl FnOnce(EventSink) -> F) -> T {
    let (sink, mut events) = EventSink::channel();
    let telling = async {
        while let Some(event) = events.next().await {
            call.report(words_for(&event)).await;
        }
    };
    tokio::join!(work(sink), telling).0
}

fn words_for(event: &DeployEvent) -> String {
    match event {
        DeployEvent::Waiting => "waiting for another deployment or test".to_owned(),
        DeployEvent::Started { revision } => format!("deploying revision {revision}"),
        DeployEvent::Queued { place } => format!("waiting for a container, number {place} in line"),
        DeployEvent::Generated { files, .. } => format!("generated {files} files"),
        DeployEvent::Built { cached: true, .. } => "built, from the cache".to_owned(),
        DeployEvent::Built { .. } => "built".to_owned(),
        DeployEvent::Unchanged { version } => format!("version {version} is live already"),
        DeployEvent::Staged { version } => format!("staged version {version}"),
        DeployEvent::Verified(_) => "the preview answers as defined".to_owned(),
        DeployEvent::Activated { url, .. } => format!("live at {url}"),
        DeployEvent::Confirmed(_) => "the live endpoint answers as defined".to_owned(),
        DeployEvent::Returned { version } => format!("version {version} is live again"),
        DeployEvent::Discarded { version } => format!("discarded version {version}"),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct ListVersions {
    server_id: ServerArg,
    /// Default 10
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Versions {
    versions: Vec<VersionState>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionState {
    version_id: String,
    revision: u64,
    live: bool,
    created_at: String,
}

pub(in crate::server) async fn versions(call: Call, params: ListVersions) -> Result<Versions> {
    let key = call.server(&params.server_id).await?;
    let live = call.meta.servers().get(&key).await?.live.map(|live| live.version);
    let listed = call.meta.deployments().versions(&key).await?;
    let versions = listed.into_iter().take(params.limit.unwrap_or(VERSIONS)).map(|record| VersionState {
        live: live.as_ref() == Some(&record.version),
        version_id: record.version.into(),
        revision: record.revision.0,
        created_at: text_of(record.created_at),
    });
    Ok(Versions { versions: versions.collect() })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Rollback {
    server_id: ServerArg,
    /// From `list_versions`
    version_id: String,
}

pub(in crate::server) async fn rollback(call: Call, params: Rollback) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    let version: VersionId = params.version_id.parse().map_err(|error: crate::NameError| {
        Error::from(error).with_help("list_versions shows the versions that are kept")
    })?;
    let deployments = call.meta.deployments();
    reporting(&call, |events| deployments.rollback_with_events(&key, &version, events)).await?;
    Ok(Done::YES)
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Health {
    healthy: bool,
    /// Milliseconds
    latency: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(in crate::server) async fn verify(call: Call, params: OneServer) -> Result<Health> {
    let key = call.server(&params.server_id).await?;
    match call.meta.deployments().verify(&key).await {
        Ok(verification) => Ok(Health { healthy: true, latency: verification.latency_ms, problem: None }),
        Err(error) if is_unhealthy(&error) => {
            Ok(Health { healthy: false, latency: 0, problem: Some(error.to_string()) })
        }
        Err(error) => Err(error),
    }
}

/// Whether this is about the server, not about the question.
fn is_unhealthy(error: &Error) -> bool {
    use ErrorKind::{TimedOut, Unauthenticated, Unavailable, VerificationFailed};
    matches!(error.kind(), VerificationFailed | Unavailable | TimedOut | Unauthenticated)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct GetLogs {
    server_id: ServerArg,
    /// Newest lines; default 30
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Logs {
    /// Oldest first
    lines: Vec<String>,
}

pub(in crate::server) async fn logs(call: Call, params: GetLogs) -> Result<Logs> {
    let key = call.server(&params.server_id).await?;
    let options = LogOptions { limit: params.limit.unwrap_or(LINES) };
    let lines = call.meta.deployments().logs(&key, options).await?;
    Ok(Logs { lines: lines.into_iter().map(|line| format!("{} {}", text_of(line.at), line.text)).collect() })
}
