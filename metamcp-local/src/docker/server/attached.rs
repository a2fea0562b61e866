//! A container's life: begun by its owner, followed by its streams, ended by its removal.

use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::AttachContainerOptions;
use futures::StreamExt;
use metamcp_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::container::Container;
use crate::workerd::{BoundedLines, End, Lifeline, Supervised};

/// What is held of the streams while nobody reads them.
const BUFFER_BYTES: usize = 64 * 1024;
/// Longest line on standard output; workerd's own are short.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The shell reads what it is told at once.
const INTRODUCTION_LIMIT: Duration = Duration::from_secs(20);

/// Runs a container that was made, and tells its first process what to do.
pub(super) async fn run(container: Container, introduction: SecretString) -> Result<Supervised> {
    let engine = container.engine().clone();
    let options = AttachContainerOptions {
        stream: true,
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let attached = engine.docker().attach_container(container.name(), Some(options));
    let mut attached = engine.call("attach to a container", attached).await?;
    container.run().await?;
    let told = async {
        attached.input.write_all(introduction.expose_secret().as_bytes()).await?;
        attached.input.flush().await
    };
    timeout(INTRODUCTION_LIMIT, told)
        .await
        .map_err(|_| Error::new(ErrorKind::TimedOut, "a container does not read its input"))?
        .map_err(|error| Error::new(ErrorKind::Unavailable, "a container took no input").with_source(error))?;
    let (control, control_writer) = duplex(BUFFER_BYTES);
    let (output, output_writer) = duplex(BUFFER_BYTES);
    let (lifeline, killed) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    // A task of its own: it goes on to the container's end, whoever waits for that.
    tokio::spawn(async move {
        let end = follow(attached, killed, control_writer, output_writer).await;
        let end = finish(container, end).await;
        if ended.send(end).is_err() {
            tracing::debug!("nobody waited for the end of a container");
        }
    });
    Ok(Supervised {
        control: Box::new(control),
        output: Box::new(output),
        lifeline: Lifeline::of(lifeline),
        end: Box::pin(async { end.await.unwrap_or_else(|_| lost()) }),
    })
}

/// Passes on what a container writes, up to the end of its program or until it is to be killed. Its input is open for as
/// long.
async fn follow(
    attached: AttachContainerResults,
    mut killed: oneshot::Receiver<()>,
    mut control: DuplexStream,
    mut output: DuplexStream,
) -> End {
    let AttachContainerResults { output: mut frames, input } = attached;
    let mut lines = BoundedLines::new(MAX_LINE_BYTES);
    let end = loop {
        let frame = tokio::select! {
            _ = &mut killed => break End::Code(137),
            frame = frames.next() => frame,
        };
        let written = match frame {
            Some(Ok(LogOutput::StdErr { message })) => output.write_all(&message).await,
            Some(Ok(LogOutput::StdOut { message })) => match end_told(&mut lines, &message) {
                Some(end) => break end,
                None => control.write_all(&message).await,
            },
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => {
                tracing::warn!(%error, "the connection to a container broke");
                break lost();
            }
            None => break lost(),
        };
        if let Err(error) = written {
            tracing::trace!(%error, "nobody reads what a container writes");
        }
    };
    drop(input);
    end
}

/// The program's end, once standard output holds the line that tells it.
fn end_told(lines: &mut BoundedLines, message: &[u8]) -> Option<End> {
    let mut told = None;
    lines.read(message, |line| {
        let end = std::str::from_utf8(line).ok().and_then(|text| match text.trim().strip_prefix("exit ")? {
            "out-of-memory" => Some(End::OutOfMemory),
            code => code.parse().ok().map(End::Code),
        });
        told = told.take().or(end);
    });
    told
}

/// Removes the container, however it ended.
async fn finish(container: Container, end: End) -> End {
    match container.remove().await {
        Ok(()) => end,
        Err(error) => {
            tracing::warn!(%error, "a server's container could not be removed; it is tried again");
            lost()
        }
    }
}

fn lost() -> End {
    End::Lost("lost its container".to_owned())
}
