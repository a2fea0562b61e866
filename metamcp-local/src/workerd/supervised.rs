//! workerd under supervision, whoever it is that supervises: a shell of this machine, or a container.

use std::fmt::{self, Debug};

use futures::future::BoxFuture;
use tokio::io::AsyncRead;

/// A program that ends with its owner.
pub(crate) struct Supervised {
    /// Lines of the supervisor (`pid N`) and workerd's control messages.
    pub(crate) control: Box<dyn AsyncRead + Send + Unpin>,
    /// Everything the program writes.
    pub(crate) output: Box<dyn AsyncRead + Send + Unpin>,
    /// Dropping it kills the program.
    pub(crate) lifeline: Lifeline,
    /// Waits for its end.
    pub(crate) end: BoxFuture<'static, End>,
}

/// What a program's life hangs on: a pipe to the supervising shell, or a channel to the task of a container.
pub(crate) struct Lifeline {
    _hold: Box<dyn Send>,
}

impl Lifeline {
    pub(crate) fn of(hold: impl Send + 'static) -> Self {
        Self { _hold: Box::new(hold) }
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With an exit code; 128 + signal number if a signal ended it.
    Code(i32),
    /// It was killed for want of memory.
    #[cfg(feature = "docker")]
    OutOfMemory,
    /// Its supervisor is gone, and perhaps it is not: as a sentence part.
    Lost(String),
}

impl Debug for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lifeline")
    }
}
