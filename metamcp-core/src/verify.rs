//! [`verify`]: is a deployed server what its definition says? An open port is not health.

mod calls;
mod cause;
mod client;
mod settle;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) use cause::{Cause, refuse_redirects};
pub(crate) use client::{Allowance, McpClient};
pub(crate) use settle::{Before, Failure, Settling, settled};

use calls::run_calls;

use crate::number::as_doubles;
use crate::publisher::Endpoint;
use crate::trace::{traced, verb};
use crate::validate::{ResourceAddress, ValidDefinition};
use crate::{Error, ErrorKind, Result};

/// What a verification saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum Depth {
    /// Handshake and lists.
    Lists,
    /// Handshake, lists, the probe and every tool's examples.
    Calls,
}

/// Speaks MCP to `endpoint` and compares what it offers with `definition`.
///
/// ```
/// # use std::time::Duration;
/// # use metamcp_core::{Depth, Endpoint, ServerDefinition, validate, verify};
/// # async fn check(definition: &ServerDefinition) -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = Endpoint::new("http://127.0.0.1:8787/mcp".parse()?);
/// let seen = verify(&endpoint, &validate(definition)?, Depth::Calls, Duration::from_secs(30)).await?;
/// println!("{} tools over MCP {}", seen.tools, seen.protocol_version);
/// # Ok(())
/// # }
/// ```
///
/// [`ErrorKind::VerificationFailed`] lists every difference, or says what is answered instead of MCP;
/// [`ErrorKind::Unavailable`] if it cannot be reached or says that it cannot answer now; [`ErrorKind::TimedOut`] after
/// `limit`.
pub async fn verify(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    limit: Duration,
) -> Result<Verification> {
    verify_settling(endpoint, definition, depth, limit, Settling::default()).await
}

/// [`verify`] of what was changed just now: what may be a change that has not arrived is tried again. No attempt begins
/// after the time to settle, and none takes longer than `limit`.
pub(crate) async fn verify_settling(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    limit: Duration,
    settling: Settling<'_>,
) -> Result<Verification> {
    let span = verb!(INFO, "verify", server = %definition.name(), depth = ?depth);
    let started = Instant::now();
    let attempt = || check_within(endpoint, definition, depth, limit, settling.before);
    // Boxed: it holds a whole MCP client.
    let mut verification = traced(span, Box::pin(settled(settling.time, attempt))).await?;
    verification.latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(verification)
}

async fn check_within(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    limit: Duration,
    before: Before<'_>,
) -> Result<Verification, Failure> {
    let checked = tokio::time::timeout(limit, check(endpoint, definition, depth, before)).await;
    checked.unwrap_or_else(|_| {
        let message = format!("{} did not answer all checks within {} s", endpoint.url, limit.as_secs());
        Err(Failure::Own(Error::new(ErrorKind::TimedOut, message).with_operation("verify")))
    })
}

async fn check(
    endpoint: &Endpoint,
    definition: &ValidDefinition,
    depth: Depth,
    before: Before<'_>,
) -> Result<Verification, Failure> {
    let client = McpClient::connect(endpoint).await.map_err(Failure::of_asking)?;
    let checked = check_connected(&client, definition, depth, before).await;
    let protocol_version = client.protocol_version();
    client.close().await;
    let calls = checked?;
    Ok(Verification {
        protocol_version,
        tools: definition.tools().len(),
        resources: definition.resources().len(),
        prompts: definition.prompts().len(),
        calls,
        latency_ms: 0,
    })
}

/// Returns the number of calls.
async fn check_connected(
    client: &McpClient,
    definition: &ValidDefinition,
    depth: Depth,
    before: Before<'_>,
) -> Result<usize, Failure> {
    let differences = compare_lists(client, definition).await.map_err(Failure::of_asking)?;
    if !differences.is_empty() {
        return Err(Failure::Passing(differs(&differences)));
    }
    match depth {
        Depth::Lists => Ok(0),
        Depth::Calls => run_calls(client, definition, before).await,
    }
}

fn differs(differences: &[String]) -> Error {
    let message = format!("the server differs from its definition: {}", differences.join("; "));
    Error::new(ErrorKind::VerificationFailed, message).with_operation("verify")
}

async fn compare_lists(client: &McpClient, definition: &ValidDefinition) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    compare_tools(client, definition, &mut differences).await?;
    compare_resources(client, definition, &mut differences).await?;
    compare_prompts(client, definition, &mut differences).await?;
    Ok(differences)
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
