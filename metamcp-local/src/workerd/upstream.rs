//! Connections to a process, kept for the next call.

use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// One connection to a process.
pub(crate) type Connection = SendRequest<Full<Bytes>>;

/// workerd closes a connection that is idle for 5 s; one that is near this age might close under a call.
const MAX_IDLE: Duration = Duration::from_secs(3);
/// Connections kept.
const MAX_KEPT: usize = 64;

/// Idle connections of one process.
#[derive(Default)]
pub(crate) struct Connections {
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Connections {
    /// The connection used last, if it can be used again.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, connection) = idle.pop()?;
        if since.elapsed() > MAX_IDLE {
            // The others were used before it.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    /// Keeps a connection whose answer was read.
    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_KEPT && !connection.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }
}

impl Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// A new connection.
pub(crate) async fn connect(socket: &Path) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Callers see the failure of their own call.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a server's process ended");
        }
    });
    Ok(sender)
}
