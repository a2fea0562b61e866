//! A [`Builder`] turns a source tree into an [`Artifact`]; commands run in an [`Environment`].

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

/// Builds servers, and provides isolated environments for commands.
///
/// ```
/// use metamcp_core::memory::MemoryBuilder;
/// use metamcp_core::{Builder, ServerDefinition, ToolDefinition, WorkerSettings, generate, validate};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut dice = ServerDefinition::new("dice", "Rolls dice.");
/// dice.tools = vec![ToolDefinition::new("roll", "Rolls a die.", "return 4;")];
/// let valid = validate(&dice)?;
///
/// let (source, settings) = (generate(&valid)?, WorkerSettings::of(&valid));
/// let artifact = MemoryBuilder::new().build(&source, &settings).await?;
/// assert!(artifact.modules.contains_key(&artifact.main_module));
/// assert_eq!(artifact.digest(), MemoryBuilder::new().build(&source, &settings).await?.digest());
/// # Ok(())
/// # }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Builder: Debug + Send + Sync + 'static {
    /// Builds a project. The same tree gives the same artifact, unless the build downloads something.
    ///
    /// [`ErrorKind::BuildFailed`] with the tool's own message; [`ErrorKind::Unsupported`] for what this builder
    /// cannot build (npm dependencies without a container); [`ErrorKind::ConfigInvalid`] if the machine lacks a
    /// tool, with what to install; [`ErrorKind::TimedOut`] after the builder's limit. A failed build leaves nothing
    /// behind.
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact>;

    /// Identifies the builder and its toolchain in the build cache's key: it changes whenever the output may change.
    /// `None` if building costs less than reading a cache.
    fn fingerprint(&self) -> Option<String>;

    /// Creates an isolated environment that contains a template's files. At most a configured number of environments
    /// (3 by default) exist at once. Further callers wait in order, up to the builder's limit
    /// ([`ErrorKind::TimedOut`]); [`with_queue_report`] tells them their place.
    ///
    /// The default implementation returns [`ErrorKind::Unsupported`], for builders without containers.
    async fn create_environment(&self, server: &ServerName, template: TemplateKind) -> Result<Arc<dyn Environment>> {
        Err(no_environments(&format!("an environment for server {server} ({template})")))
    }

    /// Finds an environment by its container id; [`ErrorKind::NotFound`] if it no longer exists.
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

/// An isolated place with a workspace folder, in which commands run.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Environment: Debug + Send + Sync + 'static {
    /// Tells what is installed in it.
    async fn info(&self) -> Result<EnvironmentInfo>;

    /// Runs a command line in a shell. Exceeding the timeout kills the command with its children and returns
    /// [`ErrorKind::TimedOut`]; the environment stays usable. A non-zero exit code is an `Ok` output.
    async fn exec(&self, command: &Command) -> Result<CommandOutput>;

    /// Runs a command line like [`Environment::exec`] and sends its output to `output` as it is written, both streams in
    /// one order. A slow receiver slows the command, within its timeout; a dropped one does not affect it. The returned
    /// output is cut at the environment's limit, the streamed one is not.
    ///
    /// The default implementation sends the output once the command has ended.
    async fn exec_streaming(&self, command: &Command, output: mpsc::Sender<OutputChunk>) -> Result<CommandOutput> {
        let finished = self.exec(command).await?;
        for (stream, text) in [(OutputStream::Stdout, &finished.stdout), (OutputStream::Stderr, &finished.stderr)] {
            if !text.is_empty() && output.send(OutputChunk { stream, content: text.clone().into() }).await.is_err() {
                break;
            }
        }
        Ok(finished)
    }

    /// Writes a file and creates its folders. The path is relative to the workspace and may not leave it.
    async fn write_file(&self, path: &str, content: Bytes) -> Result<()>;

    /// Reads a file; [`ErrorKind::NotFound`] if it does not exist.
    async fn read_file(&self, path: &str) -> Result<Bytes>;

    /// Lists the names in a folder, sorted; those of folders end with `/`.
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
#[non_exhaustive]
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
    /// Longest command line in bytes.
    pub const MAX_LINE_BYTES: usize = 64 * 1024;
    /// Longest timeout.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

    /// A command line that runs in the workspace folder, without further variables.
    pub fn new(line: impl Into<String>, timeout: Duration) -> Self {
        Self { line: line.into(), working_directory: String::new(), timeout, variables: BTreeMap::new() }
    }

    /// Checks the bounds that every environment has: [`ErrorKind::LimitExceeded`] if the line or the timeout is too
    /// long, [`ErrorKind::ConfigInvalid`] if the line or a variable cannot be passed to a program.
    pub fn check(&self) -> Result<()> {
        if self.line.len() > Self::MAX_LINE_BYTES {
            let message = format!("the command line is longer than {} bytes", Self::MAX_LINE_BYTES);
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("write it to a file"));
        }
        if self.timeout > Self::MAX_TIMEOUT {
            let message = format!("the timeout is longer than {} s", Self::MAX_TIMEOUT.as_secs());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        if self.line.contains('\0') {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the command line holds a NUL character"));
        }
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        match self.variables.iter().find(|(name, value)| !is_name(name) || value.contains('\0')) {
            Some((name, _)) => {
                Err(Error::new(ErrorKind::ConfigInvalid, format!("{name:?} is no environment variable")))
            }
            None => Ok(()),
        }
    }
}

/// A piece of a command's output. It may end in the middle of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Which output it was written to.
    pub stream: OutputStream,
    /// The bytes that were written.
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

/// The outcome of a command that ended.
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
