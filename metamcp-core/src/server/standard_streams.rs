//! Standard input and output as one stream that can be let go of.
//!
//! tokio's own standard streams read and write on threads that a runtime waits for as it ends: a program that is told to
//! end would stay until its host wrote once more. Here threads of their own carry the bytes, for which nobody waits.

use std::fs::File;
use std::io::{self, ErrorKind as IoErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::thread;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Error, ErrorKind, Result};

/// How long what was said last may take to be read by the host.
const LAST_WORDS: Duration = Duration::from_secs(5);
const CHUNK: usize = 64 * 1024;

/// Tells when all that was written has reached standard output.
#[derive(Debug)]
pub(super) struct Written(oneshot::Receiver<()>);

impl Written {
    /// Waits for it, after the stream was dropped; a host that does not read is left after 5 s.
    pub(super) async fn wait(self) {
        if timeout(LAST_WORDS, self.0).await.is_err() {
            tracing::warn!("the host did not read all that was written to standard output");
        }
    }
}

/// Standard input and output as one stream: it ends with the input.
///
/// [`ErrorKind::Unavailable`] if they cannot be used. What was read of the input and not taken when the stream is dropped
/// is lost.
pub(super) fn open() -> Result<(UnixStream, Written)> {
    streams().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "standard input and output cannot be used").with_source(error)
    })
}

fn streams() -> io::Result<(UnixStream, Written)> {
    // Files of their own: std's handles are locked for as long as one reads.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    carried(input, output)
}

fn carried(
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> io::Result<(UnixStream, Written)> {
    let (ours, theirs) = StdStream::pair()?;
    let (mut to_us, mut from_us) = (theirs.try_clone()?, theirs);
    let (all_written, written) = oneshot::channel();
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    thread::Builder::new().name("metamcp-stdin".to_owned()).spawn(move || {
        carry("standard input", &mut input, &mut to_us);
        // The other half goes on, with the answers.
        if let Err(error) = to_us.shutdown(Shutdown::Write) {
            tracing::debug!(%error, "the end of standard input could not be passed on");
        }
    })?;
    thread::Builder::new().name("metamcp-stdout".to_owned()).spawn(move || {
        carry("standard output", &mut from_us, &mut output);
        drop(all_written);
    })?;
    Ok((ours, Written(written)))
}

fn carry(what: &str, from: &mut impl Read, to: &mut impl Write) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let carried = match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => to.write_all(&chunk[..length]).and_then(|()| to.flush()),
            Err(error) if error.kind() == IoErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "{what} ended");
            return;
        }
    }
}
