//! [`Builder`] turns a source tree into an [`Artifact`]; an [`Environment`] is a place where commands run.

mod queue;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::artifact::Artifact;
use crate::name::{ServerName, TemplateKind};
use crate::settings::WorkerSettings;
use crate::source_tree::SourceTree;
use crate::{Error, ErrorKind, Result};

pub use self::queue::{report_queue_place, with_queue_report};

/// Builds servers, and lends isolated environments for builds and commands.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Builder: Debug + Send + Sync + 'static {
    /// Builds a project. Deterministic where nothing is downloaded: the same tree gives the same artifact.
    ///
    /// [`ErrorKind::BuildFailed`] with the tool's own message; [`ErrorKind::Unsupported`] for what this builder
    /// cannot build (npm dependencies without a container); [`ErrorKind::ConfigInvalid`] if the machine lacks a
    /// tool, with what to install; [`ErrorKind::TimedOut`] after the builder's limit. Leaves nothing behind.
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact>;

    /// Identifies builder and toolchain: part of the build cache's key, changed whenever output may change.
    /// `None` where building costs less than reading a cache.
    fn fingerprint(&self) -> Option<String>;

    /// Makes an isolated environment with a template's files in it. At most a configured number (3 by default)
    /// exist at once; others wait in order, up to the builder's limit ([`ErrorKind::TimedOut`]), and hear their place
    /// by [`with_queue_report`].
    ///
    /// The default refuses with [`ErrorKind::Unsupported`]: not every builder has a container.
    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        Err(no_environments(&format!("an environment for server {server} ({template})")))
    }

    /// An environment that still exists, by its container id; [`ErrorKind::NotFound`] otherwise.
    async fn environment(&self, container_id: &str) -> Result<Arc<dyn Environment>> {
        Err(no_environments(&format!("environment {container_id:?}")))
    }

    /// Frees everything this builder holds. Idempotent.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn no_environments(wanted: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{wanted}: this builder has no containers"))
        .with_help("open with a container builder to run commands")
}

/// An isolated place with a workspace folder, where commands run: the seed's Container Manager.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Environment: Debug + Send + Sync + 'static {
    /// What is installed in it.
    async fn info(&self) -> Result<EnvironmentInfo>;

    /// Runs a command line in a shell. A command past its timeout is killed with its children and answers
    /// [`ErrorKind::TimedOut`]; the environment stays usable. A non-zero exit code is an `Ok` output.
    async fn exec(&self, command: &Command) -> Result<CommandOutput>;

    /// The same, and what the command writes goes to `output` as it comes, both streams in one order. A receiver that is
    /// slow slows the command, within its timeout; one that is gone is nothing to the command. What is returned is cut
    /// at the environment's limit, what is streamed is not.
    ///
    /// The default streams nothing before the command ended.
    async fn exec_streaming(&self, command: &Command, output: mpsc::Sender<OutputChunk>) -> Result<CommandOutput> {
        let finished = self.exec(command).await?;
        for (stream, text) in [(OutputStream::Stdout, &finished.stdout), (OutputStream::Stderr, &finished.stderr)] {
            if !text.is_empty() && output.send(OutputChunk { stream, content: text.clone().into() }).await.is_err() {
                break;
            }
        }
        Ok(finished)
    }

    /// Writes a file, making its folders. The path is relative to the workspace and may not leave it.
    async fn write_file(&self, path: &str, content: Bytes) -> Result<()>;

    /// A file's bytes; [`ErrorKind::NotFound`] if there is none.
    async fn read_file(&self, path: &str) -> Result<Bytes>;

    /// Names in a folder, sorted; folders end with `/`.
    async fn list_files(&self, path: &str) -> Result<Vec<String>>;

    /// Removes a file or folder; removing an absent one succeeds.
    async fn delete_file(&self, path: &str) -> Result<()>;

    /// Stops and removes the environment. Idempotent.
    async fn destroy(&self) -> Result<()>;
}

/// What an environment offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInfo {
    /// Id of its container.
    pub container_id: String,
    /// Version of Node.js.
    pub node_version: String,
    /// Version of npm.
    pub npm_version: String,
    /// Version of wrangler.
    pub wrangler_version: String,
    /// Templates whose dependencies are installed.
    pub available_templates: Vec<String>,
}

/// A command line with its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The command line, for `sh -c`.
    pub line: String,
    /// Folder relative to the workspace; empty for the workspace itself.
    pub working_directory: String,
    /// Limit on its run time.
    pub timeout: Duration,
    /// Environment variables beside those of the environment itself.
    pub variables: BTreeMap<String, String>,
}

impl Command {
    /// A command line in the workspace folder, without further variables.
    pub fn new(line: impl Into<String>, timeout: Duration) -> Self {
        Self { line: line.into(), working_directory: String::new(), timeout, variables: BTreeMap::new() }
    }
}

/// A piece of what a command writes. It may end within a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where it was written.
    pub stream: OutputStream,
    /// What was written.
    pub content: Bytes,
}

/// One of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a finished command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Standard output, cut at the environment's limit.
    pub stdout: String,
    /// Standard error, cut at the environment's limit.
    pub stderr: String,
    /// Exit code; 128 + signal number if it was killed.
    pub exit_code: i32,
    /// How long it ran.
    pub execution_time: Duration,
}

impl CommandOutput {
    /// Whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.exit_code == 0
    }
}
