//! Runs a program in a container, with its input and output.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures::StreamExt;
use metamcp_core::{Error, ErrorKind, OutputChunk, OutputStream, Result};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::container::{Container, USER, WORKSPACE};
use super::engine::engine_error;

/// How often a program whose output stays open is looked at: something it left in the background may hold it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long output is still read once a program has ended.
const DRAIN: Duration = Duration::from_millis(300);

/// A program to run.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Program and arguments.
    pub(super) line: Vec<String>,
    /// Working directory; the workspace if empty.
    pub(super) folder: String,
    /// `NAME=value`.
    pub(super) variables: Vec<String>,
    /// What it reads; it has no input otherwise.
    pub(super) input: Option<Bytes>,
}

impl Program {
    pub(super) fn new<S: Into<String>>(line: impl IntoIterator<Item = S>) -> Self {
        Self { line: line.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(super) fn with_input(mut self, input: Bytes) -> Self {
        self.input = Some(input);
        self
    }
}

/// What a program wrote so far. Everything is read, and kept up to a limit.
#[derive(Debug)]
pub(super) struct Output {
    sink: Option<mpsc::Sender<OutputChunk>>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    limit: usize,
    /// Whether something was left out.
    pub(super) is_cut: bool,
}

impl Output {
    pub(super) fn with_limit(limit: usize) -> Self {
        Self { sink: None, stdout: Vec::new(), stderr: Vec::new(), limit, is_cut: false }
    }

    /// Sends all of it on as well, as it comes.
    pub(super) fn streaming_to(mut self, sink: mpsc::Sender<OutputChunk>) -> Self {
        self.sink = Some(sink);
        self
    }

    async fn take(&mut self, frame: LogOutput) {
        let (kept, stream, message) = match frame {
            LogOutput::StdErr { message } => (&mut self.stderr, OutputStream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (&mut self.stdout, OutputStream::Stdout, message)
            }
            LogOutput::StdIn { .. } => return,
        };
        if let Some(sink) = &self.sink
            && sink.send(OutputChunk { stream, content: message.clone() }).await.is_err()
        {
            self.sink = None;
        }
        let room = self.limit.saturating_sub(kept.len());
        self.is_cut |= message.len() > room;
        kept.extend_from_slice(&message[..message.len().min(room)]);
    }

    /// The last lines of standard error, or else of standard output: for an error.
    pub(super) fn tail(&self, lines: usize) -> String {
        let bytes = if self.stderr.iter().all(u8::is_ascii_whitespace) { &self.stdout } else { &self.stderr };
        let text = String::from_utf8_lossy(bytes);
        let lines_of: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines_of[lines_of.len().saturating_sub(lines)..].join(" | ")
    }
}

/// Runs a program to its end and returns its exit code. What it writes is in `output` even if this future is
/// dropped, which does not end the program.
pub(super) async fn run(container: &Container, program: Program, output: &mut Output) -> Result<i32> {
    let (engine, docker) = (container.engine(), container.engine().docker());
    let folder = if program.folder.is_empty() { WORKSPACE.to_owned() } else { program.folder };
    let config = ExecConfig {
        attach_stdin: Some(program.input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(program.line),
        env: Some(program.variables),
        user: Some(USER.to_owned()),
        working_dir: Some(folder),
        ..ExecConfig::default()
    };
    let id = engine.call("run a command", docker.create_exec(container.id(), config)).await?.id;
    let options = StartExecOptions { detach: false, tty: false, output_capacity: None };
    let started = engine.call("run a command", docker.start_exec(&id, Some(options))).await?;
    let StartExecResults::Attached { output: mut frames, input } = started else {
        return Err(Error::new(ErrorKind::Unexpected, "the engine did not attach to a command"));
    };
    let feeding = feed(input, program.input);
    tokio::pin!(feeding);
    let (mut is_fed, mut looks) = (false, interval(LOOK_INTERVAL));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset();
    loop {
        tokio::select! {
            frame = frames.next() => match frame {
                Some(frame) => {
                    let frame = frame.map_err(|error| engine_error("read a command's output", error))?;
                    output.take(frame).await;
                }
                None => break,
            },
            () = &mut feeding, if !is_fed => is_fed = true,
            _ = looks.tick() => {
                if exit_code(container, &id).await?.is_some() {
                    let rest = async { while let Some(Ok(frame)) = frames.next().await { output.take(frame).await; } };
                    // What it left in the background may go on writing for ever.
                    let is_whole = timeout(DRAIN, rest).await.is_ok();
                    tracing::trace!(is_whole, "a command ended with its output open");
                    break;
                }
            }
        }
    }
    ended(container, &id).await
}

/// A program may end without reading all of its input.
async fn feed(mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>, content: Option<Bytes>) {
    if let Some(content) = content {
        let written = async {
            input.write_all(&content).await?;
            input.shutdown().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "a command did not read all of its input");
        }
    }
}

/// The exit code of a program whose output ended: the engine knows it a moment later, or it goes on in silence. The
/// caller limits the time.
async fn ended(container: &Container, id: &str) -> Result<i32> {
    let mut wait = Duration::from_millis(2);
    loop {
        if let Some(code) = exit_code(container, id).await? {
            return Ok(code);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_INTERVAL);
    }
}

async fn exit_code(container: &Container, id: &str) -> Result<Option<i32>> {
    let engine = container.engine();
    let state = engine.call("look at a command", engine.docker().inspect_exec(id)).await?;
    if state.running == Some(true) {
        return Ok(None);
    }
    // The engine gives no code to what died with its container.
    Ok(Some(state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(137)))
}
