//! [`ContainerEnvironment`]: a container that the Container Manager keeps for us.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use metamcp_core::{
    Command, CommandOutput, Environment, EnvironmentInfo, Error, ErrorKind, OutputChunk, Result, SourceTree,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use super::job::{Job, Patience};
use crate::client::segment;

/// Largest file that is read or written, as the Container Manager has it.
const MAX_FILE_BYTES: usize = 16 << 20;
/// Files that are written at once when a workspace is filled.
const CONCURRENT: usize = 6;
/// What starting and ending a command may take beside its own time.
const GRACE: Duration = Duration::from_secs(60);
/// Lines of output shown in an error.
const ERROR_LINES: usize = 5;

/// An environment in a container of Cloudflare's.
///
/// One command runs at a time, others wait; files can be read and written meanwhile.
#[derive(Debug)]
pub(super) struct ContainerEnvironment {
    shared: Arc<Shared>,
    id: String,
}

/// What is installed, in the Container Manager's words.
#[derive(Deserialize)]
pub(super) struct Installed {
    #[serde(rename = "containerId")]
    container_id: String,
    node: String,
    npm: String,
    wrangler: String,
    templates: Vec<String>,
}

/// A command's output, in the Container Manager's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    stdout: String,
    stderr: String,
    exit_code: i32,
    ms: u64,
    timed_out: bool,
}

impl ContainerEnvironment {
    pub(super) fn new(shared: Arc<Shared>, id: String) -> Self {
        Self { shared, id }
    }

    /// Puts a project's files into the workspace.
    pub(super) async fn fill(&self, project: &SourceTree) -> Result<()> {
        let files: Vec<_> = project.iter().map(|(path, content)| (path.to_owned(), content.clone())).collect();
        let writing = stream::iter(files).map(async |(path, content)| self.write_file(&path, content).await);
        writing.buffer_unordered(CONCURRENT).try_collect().await
    }

    fn path(&self) -> String {
        path_of(&self.id)
    }

    /// Where a file is. As one part of the URL, so that nothing in it is resolved before it is looked at.
    fn file(&self, face: &str, path: &str) -> String {
        format!("{}/{face}/{}", self.path(), segment(path))
    }

    async fn start<'a>(&'a self, command: &Command) -> Result<Job<'a>> {
        command.check()?;
        let timeout_ms = u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let input = json!({
            "kind": "exec", "environment": self.id, "line": command.line, "cwd": command.working_directory,
            "timeoutMs": timeout_ms, "env": command.variables
        });
        let queue = self.shared.client.config().queue_timeout();
        Job::start(&self.shared.client, "a command", &input, Patience { queue, work: command.timeout + GRACE }).await
    }
}

/// The path of an environment.
pub(super) fn path_of(id: &str) -> String {
    format!("environments/{}", segment(id))
}

#[async_trait]
impl Environment for ContainerEnvironment {
    async fn info(&self) -> Result<EnvironmentInfo> {
        let installed: Installed = self.shared.client.get(&self.path()).await?;
        Ok(EnvironmentInfo {
            container_id: installed.container_id,
            node_version: installed.node,
            npm_version: installed.npm,
            wrangler_version: installed.wrangler,
            available_templates: installed.templates,
        })
    }

    async fn exec(&self, command: &Command) -> Result<CommandOutput> {
        output_of(command, self.start(command).await?.ended_silently().await?)
    }

    /// What is streamed is cut at half a million characters, which the Container Manager keeps of a log. A receiver that
    /// is slow does not slow the command.
    async fn exec_streaming(&self, command: &Command, output: mpsc::Sender<OutputChunk>) -> Result<CommandOutput> {
        let mut job = self.start(command).await?;
        let mut offset = 0;
        'written: while let Some(entries) = job.logs(&mut offset).await? {
            for entry in entries {
                let chunk = OutputChunk { stream: entry.stream(), content: entry.text.into() };
                if output.send_timeout(chunk, command.timeout + GRACE).await.is_err() {
                    break 'written;
                }
            }
        }
        output_of(command, job.ended_silently().await?)
    }

    async fn write_file(&self, path: &str, content: Bytes) -> Result<()> {
        if content.len() > MAX_FILE_BYTES {
            let message = format!("{path:?} is larger than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        self.shared.client.call(Method::PUT, &self.file("files", checked(path)?), Some(content)).await.map(drop)
    }

    async fn read_file(&self, path: &str) -> Result<Bytes> {
        self.shared.client.call(Method::GET, &self.file("files", checked(path)?), None).await
    }

    async fn list_files(&self, path: &str) -> Result<Vec<String>> {
        let folder = if matches!(path, "" | "." | "./") { "" } else { checked(path)? };
        self.shared.client.get(&self.file("list", folder)).await
    }

    async fn delete_file(&self, path: &str) -> Result<()> {
        self.shared.client.delete(&self.file("files", checked(path)?)).await
    }

    async fn destroy(&self) -> Result<()> {
        self.shared.client.delete(&self.path()).await?;
        self.shared.forget(&self.id);
        Ok(())
    }
}

/// The Container Manager checks every path; these would not reach it, since URLs know them.
fn checked(path: &str) -> Result<&str> {
    if !matches!(path, "." | "..") {
        return Ok(path);
    }
    let message = format!("{path:?} is not a path within the workspace");
    Err(Error::new(ErrorKind::PermissionDenied, message).with_help("give a relative path without \"..\""))
}

fn output_of(command: &Command, result: Value) -> Result<CommandOutput> {
    let Output { stdout, stderr, exit_code, ms, timed_out } = serde_json::from_value(result).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a command's output does not have its form").with_source(error)
    })?;
    if timed_out {
        return Err(overdue(command, if stderr.trim().is_empty() { &stdout } else { &stderr }));
    }
    Ok(CommandOutput { stdout, stderr, exit_code, execution_time: Duration::from_millis(ms) })
}

fn overdue(command: &Command, said: &str) -> Error {
    let message = format!("the command did not end within {} s and was killed", command.timeout.as_secs_f32());
    let error = Error::new(ErrorKind::TimedOut, message);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(ERROR_LINES)..] {
        [] => error,
        tail => error.with_help(format!("its output ends with: {}", tail.join(" | "))),
    }
}
