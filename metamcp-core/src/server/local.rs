//! Meta-MCP for callers on this machine who are trusted: over stdio, and over a Unix socket.

use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::stdio;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::access::Access;
use super::mcp::MetaMcpServer;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Sessions on a socket at once; more wait.
const MAX_SESSIONS: usize = 256;

/// Serves the process's standard input and output until the input ends. The caller is whoever started the process,
/// and may do everything. Nothing else may write to standard output.
pub async fn serve_stdio(meta: MetaMcp) -> Result<()> {
    let server = MetaMcpServer::new(meta, Access::full("stdio"));
    let service = server.serve(stdio()).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the client did not begin to speak MCP").with_source(error)
    })?;
    service.waiting().await.map_err(|error| ended_badly("the session", error))?;
    Ok(())
}

/// Serves everybody who can connect to a Unix socket, as trusted as stdio: the socket has to stand in a folder that
/// only its user can enter. Ends only by being dropped, which ends all sessions.
pub async fn serve_socket(meta: MetaMcp, listener: UnixListener) -> Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_SESSIONS));
    let mut sessions = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
        tokio::select! {
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors: those in use have to be given back first.
                        tracing::warn!(%error, "a client on the socket could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let server = MetaMcpServer::new(meta.clone(), Access::full("local socket"));
                sessions.spawn(async move {
                    match server.serve(stream).await {
                        Ok(service) => drop(service.waiting().await),
                        Err(error) => tracing::debug!(%error, "a client on the socket did not begin to speak MCP"),
                    }
                    drop(slot);
                });
            }
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "a session on the socket ended badly");
                }
            }
        }
    }
}

fn ended_badly(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unexpected, format!("{what} ended badly")).with_source(error)
}
