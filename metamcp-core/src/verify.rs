//! [`verify`]: is a deployed server what its definition says? An open port is not health.

mod client;

use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequestParams, CallToolResult, JsonObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use client::McpClient;

use crate::definition::ToolExample;
use crate::number::as_doubles;
use crate::publisher::Endpoint;
use crate::trace::{traced, verb};
use crate::validate::{ResourceAddress, ValidDefinition};
use crate::{Error, ErrorKind, Result};

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The MCP revision that was agreed on.
    pub protocol_version: String,
    /// Number of tools that are listed as defined.
    pub tools: usize,
    /// Number of resources and resource templates that are listed as defined.
    pub resources: usize,
    /// Number of prompts that are listed as defined.
    pub prompts: usize,
    /// Number of calls made: the probe and the tools' examples.
    pub calls: usize,
    /// How long all of it took, in milliseconds.
    pub latency_ms: u64,
}

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Handshake and lists.
    Lists,
    /// Handshake, lists, the probe and every tool's examples.
    Calls,
}

/// Speaks MCP to `endpoint` and compares what it offers with `definition`.
///
/// [`ErrorKind::VerificationFailed`] lists every difference; [`ErrorKind::Unavailable`] if it does not speak MCP;
/// [`ErrorKind::TimedOut`] after `limit`.
pub async fn verify(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    limit: Duration,
) -> Result<Verification> {
    let span = verb!(INFO, "verify", server = %definition.name(), depth = ?depth);
    // Boxed: it holds a whole MCP client.
    traced(span, Box::pin(check_within(endpoint, definition, depth, limit))).await
}

async fn check_within(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    limit: Duration,
) -> Result<Verification> {
    let started = Instant::now();
    let checked = tokio::time::timeout(limit, check(endpoint, definition, depth));
    let mut verification = checked.await.map_err(|_| {
        let message = format!("{} did not answer all checks within {} s", endpoint.url, limit.as_secs());
        Error::new(ErrorKind::TimedOut, message).with_operation("verify")
    })??;
    verification.latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(verification)
}

async fn check(endpoint: &Endpoint, definition: &ValidDefinition, depth: Depth) -> Result<Verification> {
    let client = McpClient::connect(endpoint).await?;
    let mut differences = Vec::new();
    compare_tools(&client, definition, &mut differences).await?;
    compare_resources(&client, definition, &mut differences).await?;
    compare_prompts(&client, definition, &mut differences).await?;
    let mut calls = 0;
    if depth == Depth::Calls && differences.is_empty() {
        calls = run_calls(&client, definition, &mut differences).await?;
    }
    let protocol_version = client.protocol_version();
    client.close().await;
    if !differences.is_empty() {
        let message = format!("the server differs from its definition: {}", differences.join("; "));
        return Err(Error::new(ErrorKind::VerificationFailed, message).with_operation("verify"));
    }
    Ok(Verification {
        protocol_version,
        tools: definition.tools().len(),
        resources: definition.resources().len(),
        prompts: definition.prompts().len(),
        calls,
        latency_ms: 0,
    })
}

async fn compare_tools(client: &McpClient, definition: &ValidDefinition, differences: &mut Vec<String>) -> Result<()> {
    let expected: Vec<_> = definition.listed_tools().collect();
    if expected.is_empty() {
        return Ok(());
    }
    let mut listed = client.list_tools().await?;
    if definition.template().manifest().dynamic_tools {
        // The others come and go with what the server is connected to.
        listed.truncate(expected.len());
    }
    let names = expected.iter().map(|tool| tool.name.as_str());
    compare_names("tools", names, listed.iter().map(|tool| tool.name.as_ref()), differences);
    for (tool, seen) in expected.iter().zip(&listed).filter(|(tool, seen)| tool.name.as_str() == seen.name) {
        if seen.description.as_deref() != Some(tool.description) {
            differences.push(format!("tool {} has another description", tool.name));
        }
        let [seen, wanted] = [&*seen.input_schema, tool.input_schema].map(|schema| as_doubles(&schema.clone().into()));
        if seen != wanted {
            differences.push(format!("tool {} has another input schema", tool.name));
        }
    }
    Ok(())
}

async fn compare_resources(
    client: &McpClient,
    definition: &ValidDefinition,
    differences: &mut Vec<String>,
) -> Result<()> {
    let (mut uris, mut templates) = (Vec::new(), Vec::new());
    for resource in definition.resources() {
        match &resource.address {
            ResourceAddress::Uri(uri) => uris.push(uri.as_str()),
            ResourceAddress::Template(template) => templates.push(template.as_str()),
        }
    }
    if !uris.is_empty() {
        let listed = client.list_resources().await?;
        compare_names("resources", uris.into_iter(), listed.iter().map(|seen| seen.uri.as_str()), differences);
    }
    if !templates.is_empty() {
        let listed = client.list_resource_templates().await?;
        let seen = listed.iter().map(|seen| seen.uri_template.as_str());
        compare_names("resource templates", templates.into_iter(), seen, differences);
    }
    Ok(())
}

async fn compare_prompts(
    client: &McpClient,
    definition: &ValidDefinition,
    differences: &mut Vec<String>,
) -> Result<()> {
    if definition.prompts().is_empty() {
        return Ok(());
    }
    let listed = client.list_prompts().await?;
    let expected = definition.prompts().iter().map(|prompt| prompt.name.as_str());
    compare_names("prompts", expected, listed.iter().map(|seen| seen.name.as_str()), differences);
    Ok(())
}

fn compare_names<'a>(
    what: &str,
    expected: impl Iterator<Item = &'a str>,
    listed: impl Iterator<Item = &'a str>,
    differences: &mut Vec<String>,
) {
    let (expected, listed): (Vec<_>, Vec<_>) = (expected.collect(), listed.collect());
    if expected != listed {
        let show = |names: &[&str]| names.iter().take(20).copied().collect::<Vec<_>>().join(", ");
        differences.push(format!("{what} are [{}], not [{}]", show(&listed), show(&expected)));
    }
}

async fn run_calls(client: &McpClient, definition: &ValidDefinition, differences: &mut Vec<String>) -> Result<usize> {
    let mut calls = 0;
    if let Some(probe) = definition.probe() {
        calls += 1;
        let result = client.call_tool(&probe.tool, probe.arguments.clone()).await?;
        if result.is_error == Some(true) {
            differences.push(format!("the probe of tool {} answers an error: {}", probe.tool, text_of(&result)));
        }
    }
    for tool in definition.tools() {
        for (index, example) in tool.examples.iter().enumerate() {
            calls += 1;
            let result = client.call_tool(tool.name.as_str(), example.arguments.clone()).await?;
            if !matches(example, &result) {
                differences.push(format!(
                    "example {index} of tool {} answers {}, not {}",
                    tool.name,
                    text_of(&result),
                    example.expected
                ));
            }
        }
    }
    Ok(calls)
}

/// The rules of [`ToolExample::expected`].
fn matches(example: &ToolExample, result: &CallToolResult) -> bool {
    if result.is_error == Some(true) {
        return false;
    }
    let expected = &example.expected;
    if expected.get("content").is_some_and(Value::is_array) {
        let content = serde_json::to_value(&result.content).unwrap_or_default();
        return expected.get("content") == Some(&content);
    }
    if let Some(structured) = &result.structured_content {
        return as_doubles(structured) == as_doubles(expected);
    }
    let [block] = result.content.as_slice() else { return false };
    let Some(text) = block.as_text() else { return false };
    match expected {
        Value::String(wanted) => text.text == *wanted,
        other => serde_json::from_str::<Value>(&text.text).is_ok_and(|value| as_doubles(&value) == as_doubles(other)),
    }
}

/// The first text of a result, cut: enough to see what went wrong.
fn text_of(result: &CallToolResult) -> String {
    let text = result.content.iter().find_map(|block| block.as_text()).map_or("no text", |text| text.text.as_str());
    let short: String = text.chars().take(300).collect();
    format!("{short:?}")
}

impl McpClient {
    /// Calls a tool; an `isError` result is `Ok`.
    async fn call_tool(&self, name: &str, arguments: JsonObject) -> Result<CallToolResult> {
        let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        self.peer().call_tool(params).await.map_err(|error| self.failed("tools/call", &error))
    }
}
