//! The Container Manager's tools: commands and files in isolated environments.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Done;
use crate::Result;
use crate::builder::{Command, CommandOutput, EnvironmentInfo, with_queue_report};
use crate::server::call::{Call, ServerArg};

/// How long a command may run, unless more is asked for.
const TIMEOUT_MS: u64 = 60_000;
/// Bytes of a file or an output that are shown.
const SHOWN: usize = 30_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct CreateEnvironment {
    server_id: ServerArg,
    /// Default: the server's
    template: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct CreatedEnvironment {
    success: bool,
    container_id: String,
    environment: Installed,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Installed {
    node_version: String,
    npm_version: String,
    wrangler_version: String,
    available_templates: Vec<String>,
}

pub(in crate::server) async fn create(call: Call, params: CreateEnvironment) -> Result<CreatedEnvironment> {
    // Whoever may not use what comes of it may not take its place either.
    call.unlimited()?;
    let key = call.server(&params.server_id).await?;
    let template = params.template.map(|template| template.parse()).transpose()?;
    let (sender, mut places) = mpsc::unbounded_channel();
    let report = move |place| {
        // Who does not listen any more does not wait any more either.
        let _gone = sender.send(place);
    };
    let environments = call.meta.environments();
    let making = with_queue_report(report, environments.create(&key, template));
    tokio::pin!(making);
    let environment = loop {
        tokio::select! {
            made = &mut making => break made?,
            Some(place) = places.recv() => {
                call.report(format!("waiting for a container, number {place} in line")).await;
            }
        }
    };
    let EnvironmentInfo { container_id, node_version, npm_version, wrangler_version, available_templates } =
        environment.info().await?;
    call.is_about(container_id.as_str());
    let environment = Installed { node_version, npm_version, wrangler_version, available_templates };
    Ok(CreatedEnvironment { success: true, container_id, environment })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Execute {
    container_id: String,
    /// For sh -c
    command: String,
    /// In the workspace
    #[serde(default)]
    working_directory: String,
    /// Milliseconds; default 60000
    #[schemars(range(min = 1, max = 600_000))]
    timeout: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Executed {
    success: bool,
    /// Of both streams
    output: String,
    exit_code: i32,
    /// Milliseconds
    execution_time: u64,
}

impl From<CommandOutput> for Executed {
    fn from(output: CommandOutput) -> Self {
        Self {
            success: output.success(),
            output: shown(&format!("{}{}", output.stdout, output.stderr)),
            exit_code: output.exit_code,
            execution_time: u64::try_from(output.execution_time.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

pub(in crate::server) async fn execute(call: Call, params: Execute) -> Result<Executed> {
    call.unlimited()?;
    let environment = call.meta.environments().get(&params.container_id).await?;
    let timeout = Duration::from_millis(params.timeout.unwrap_or(TIMEOUT_MS));
    let command = Command { working_directory: params.working_directory, ..Command::new(params.command, timeout) };
    Ok(environment.exec(&command).await?.into())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Build {
    container_id: String,
    server_id: ServerArg,
}

pub(in crate::server) async fn build(call: Call, params: Build) -> Result<Executed> {
    call.unlimited()?;
    let key = call.server(&params.server_id).await?;
    Ok(call.meta.environments().build(&params.container_id, &key).await?.into())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct WriteFile {
    container_id: String,
    /// In the workspace
    path: String,
    content: String,
}

pub(in crate::server) async fn write_file(call: Call, params: WriteFile) -> Result<Done> {
    call.unlimited()?;
    let environment = call.meta.environments().get(&params.container_id).await?;
    environment.write_file(&params.path, Bytes::from(params.content)).await?;
    Ok(Done::YES)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct InContainer {
    container_id: String,
    /// In the workspace
    path: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct FileContent {
    success: bool,
    content: String,
}

pub(in crate::server) async fn read_file(call: Call, params: InContainer) -> Result<FileContent> {
    call.unlimited()?;
    let environment = call.meta.environments().get(&params.container_id).await?;
    let content = environment.read_file(&params.path).await?;
    Ok(FileContent { success: true, content: shown(&String::from_utf8_lossy(&content)) })
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct FileNames {
    success: bool,
    files: Vec<String>,
}

pub(in crate::server) async fn list_files(call: Call, params: InContainer) -> Result<FileNames> {
    call.unlimited()?;
    let environment = call.meta.environments().get(&params.container_id).await?;
    Ok(FileNames { success: true, files: environment.list_files(&params.path).await? })
}

pub(in crate::server) async fn delete_file(call: Call, params: InContainer) -> Result<Done> {
    call.unlimited()?;
    call.meta.environments().get(&params.container_id).await?.delete_file(&params.path).await?;
    Ok(Done::YES)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct OneContainer {
    container_id: String,
}

pub(in crate::server) async fn destroy(call: Call, params: OneContainer) -> Result<Done> {
    call.unlimited()?;
    call.meta.environments().get(&params.container_id).await?.destroy().await?;
    Ok(Done::YES)
}

/// The end of a text that is too long to be read: what went wrong stands there.
fn shown(text: &str) -> String {
    let Some(cut) = text.len().checked_sub(SHOWN).filter(|cut| *cut > 0) else { return text.to_owned() };
    let start = (cut..text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or(text.len());
    format!("… {start} bytes before\n{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_shown() {
        let long = shown(&"ä".repeat(SHOWN));
        assert!(long.starts_with("… 30000 bytes before\nä") && long.ends_with('ä'), "{}", &long[..40]);
        assert_eq!(shown("short"), "short");
    }
}
