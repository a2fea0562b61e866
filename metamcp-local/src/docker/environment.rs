//! [`DockerEnvironment`]: a container that lives until it is destroyed.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    Command, CommandOutput, Environment, EnvironmentInfo, Error, ErrorKind, OutputChunk, Result, SourceTree,
};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard, RwLock, mpsc};
use tokio::time::timeout;

use super::Inner;
use super::archive;
use super::container::Container;
use super::exec::{Output, Program, run};
use super::files;
use super::kill;
use super::slots::Slot;

/// What is kept of a command's standard output, and of its standard error.
const OUTPUT_BYTES: usize = 1 << 20;
/// Writing the files of a project takes a moment.
const FILL_LIMIT: Duration = Duration::from_secs(30);
/// Lines of output shown in an error.
const ERROR_LINES: usize = 5;

/// An environment in a container.
///
/// One command runs at a time, others wait; files can be read and written meanwhile.
#[derive(Debug)]
pub(super) struct DockerEnvironment {
    container: Arc<Container>,
    owner: Weak<Inner>,
    command: Arc<Mutex<()>>,
    /// Held for reading by work on files, for writing while a command's processes are ended: that ends all of them.
    quiet: Arc<RwLock<()>>,
    slot: std::sync::Mutex<Option<Slot>>,
}

/// `manifest.json` of the image.
#[derive(Deserialize)]
struct Manifest {
    node: String,
    npm: String,
    wrangler: String,
    templates: Vec<String>,
}

impl DockerEnvironment {
    pub(super) fn new(container: Container, owner: Weak<Inner>, slot: Slot) -> Self {
        Self {
            container: Arc::new(container),
            owner,
            command: Arc::default(),
            quiet: Arc::default(),
            slot: std::sync::Mutex::new(Some(slot)),
        }
    }

    pub(super) fn container(&self) -> &Container {
        &self.container
    }

    /// Puts a project's files into the workspace.
    pub(super) async fn fill(&self, project: &SourceTree) -> Result<()> {
        let program = Program::new(["tar", "-x", "-f", "-"]).with_input(archive::pack(project.iter())?);
        let mut output = Output::with_limit(64 * 1024);
        let filled = timeout(FILL_LIMIT, run(&self.container, program, &mut output)).await;
        match filled.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "the workspace was not filled in time")))? {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::Unavailable, format!("the workspace: {}", output.tail(ERROR_LINES)))),
        }
    }

    /// Says what became of the container, where that is the reason for an error.
    async fn explained<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        let is_gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Conflict)
            && matches!(self.container.is_running().await, Ok(false));
        Err(if is_gone { self.ended() } else { error })
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("the container of environment {} has ended", self.container.id()))
            .with_retryable(false)
            .with_help("create a new environment")
    }

    async fn run_command(&self, command: &Command, mut output: Output) -> Result<CommandOutput> {
        let turn = Arc::clone(&self.command).lock_owned().await;
        let folder = match command.working_directory.as_str() {
            "" => String::new(),
            path => files::folder(&self.container, path).await?,
        };
        let mut program = Program::new(["sh", "-c", &command.line]);
        program.folder = folder;
        program.variables = command.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let started = Instant::now();
        let (container, quiet) = (Arc::clone(&self.container), Arc::clone(&self.quiet));
        let killer = KillOnDrop { container, quiet, turn: Some(turn), armed: true };
        let Ok(exit_code) = timeout(command.timeout, run(&self.container, program, &mut output)).await else {
            killer.kill_now().await?;
            return Err(overdue(command, &output));
        };
        // If the engine broke off, the command may still run: it is killed before the next one begins.
        let exit_code = exit_code?;
        killer.disarm();
        if exit_code == 137 && !self.container.is_running().await? {
            return Err(self.ended());
        }
        Ok(CommandOutput {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit_code,
            execution_time: started.elapsed(),
        })
    }
}

#[async_trait]
impl Environment for DockerEnvironment {
    async fn info(&self) -> Result<EnvironmentInfo> {
        let _reading = self.quiet.read().await;
        let mut output = Output::with_limit(64 * 1024);
        let program = Program::new(["cat", "/opt/metamcp/manifest.json"]);
        let ran = timeout(Duration::from_secs(30), run(&self.container, program, &mut output)).await;
        let ran = ran.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "the environment does not answer")));
        self.explained(ran).await?;
        let manifest: Manifest = serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the image has no manifest").with_source(error))?;
        Ok(EnvironmentInfo {
            container_id: self.container.id().to_owned(),
            node_version: manifest.node,
            npm_version: manifest.npm,
            wrangler_version: manifest.wrangler,
            available_templates: manifest.templates,
        })
    }

    async fn exec(&self, command: &Command) -> Result<CommandOutput> {
        command.check()?;
        self.explained(self.run_command(command, Output::with_limit(OUTPUT_BYTES)).await).await
    }

    async fn exec_streaming(&self, command: &Command, output: mpsc::Sender<OutputChunk>) -> Result<CommandOutput> {
        command.check()?;
        let output = Output::with_limit(OUTPUT_BYTES).streaming_to(output);
        self.explained(self.run_command(command, output).await).await
    }

    async fn write_file(&self, path: &str, content: Bytes) -> Result<()> {
        let _working = self.quiet.read().await;
        self.explained(files::write(&self.container, path, content).await).await
    }

    async fn read_file(&self, path: &str) -> Result<Bytes> {
        let _working = self.quiet.read().await;
        self.explained(files::read(&self.container, path).await).await
    }

    async fn list_files(&self, path: &str) -> Result<Vec<String>> {
        let _working = self.quiet.read().await;
        self.explained(files::list(&self.container, path).await).await
    }

    async fn delete_file(&self, path: &str) -> Result<()> {
        let _working = self.quiet.read().await;
        self.explained(files::delete(&self.container, path).await).await
    }

    async fn destroy(&self) -> Result<()> {
        self.container.remove().await?;
        if let Some(owner) = self.owner.upgrade() {
            owner.forget(self.container.id());
        }
        self.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Ok(())
    }
}

fn overdue(command: &Command, output: &Output) -> Error {
    let message = format!("the command did not end within {} s and was killed", command.timeout.as_secs_f32());
    let error = Error::new(ErrorKind::TimedOut, message);
    let tail = output.tail(ERROR_LINES);
    if tail.is_empty() { error } else { error.with_help(format!("its output ends with: {tail}")) }
}

/// Ends a command's processes when its caller goes away.
struct KillOnDrop {
    container: Arc<Container>,
    quiet: Arc<RwLock<()>>,
    /// Held until they are gone, so that the next command is not ended with them.
    turn: Option<OwnedMutexGuard<()>>,
    armed: bool,
}

impl KillOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }

    async fn kill_now(mut self) -> Result<()> {
        self.armed = false;
        let _quiet = self.quiet.write().await;
        kill::all_commands(&self.container).await
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.armed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (container, quiet) = (Arc::clone(&self.container), Arc::clone(&self.quiet));
            let turn = self.turn.take();
            runtime.spawn(async move {
                let _turn = turn;
                let _quiet = quiet.write().await;
                if let Err(error) = kill::all_commands(&container).await {
                    tracing::warn!(%error, "an abandoned command could not be ended");
                }
            });
        }
    }
}
