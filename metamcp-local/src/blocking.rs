//! Work that waits for the disk, off the threads that tasks run on.

use metamcp_core::{Error, ErrorKind, Result};

/// Runs work where it may wait without holding up a task. [`ErrorKind::Unexpected`] if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Unexpected, "work on the disk was cut off").with_source(error))?
}
