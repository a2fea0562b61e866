//! Meta-MCP for callers on this machine who are trusted: over stdio, and over a Unix socket.

use rmcp::ServiceExt;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::listen::{Place, Places, serve_each};
use super::mcp::MetaMcpServer;
use super::standard_streams;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Sessions on a socket at once; more wait.
const MAX_SESSIONS: usize = 256;

/// Serves the process's standard input and output until the input ends. The caller is whoever started the process,
/// and may do everything. Nothing else may write to standard output.
///
/// It may be dropped at any time: nothing waits for the input to end.
pub async fn serve_stdio(meta: MetaMcp) -> Result<()> {
    let server = MetaMcpServer::new(meta, Access::full("stdio"));
    let (stream, written) = standard_streams::open()?;
    let service = server.serve(stream).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the client did not begin to speak MCP").with_source(error)
    })?;
    service.waiting().await.map_err(|error| ended_badly("the session", error))?;
    written.wait().await;
    Ok(())
}

/// Serves everybody who can connect to a Unix socket, as trusted as stdio: the socket has to stand in a folder that
/// only its user can enter. Ends only by being dropped, which ends all sessions.
pub async fn serve_socket(meta: MetaMcp, listener: UnixListener) -> Result<()> {
    let serve = |stream: UnixStream, _: Place| {
        let server = MetaMcpServer::new(meta.clone(), Access::full("local socket"));
        async move {
            match server.serve(stream).await {
                Ok(service) => {
                    if let Err(error) = service.waiting().await {
                        tracing::warn!(%error, "a session on the socket ended badly");
                    }
                }
                Err(error) => tracing::debug!(%error, "a client on the socket did not begin to speak MCP"),
            }
        }
    };
    let places = Places { full: MAX_SESSIONS, spare: 0 };
    serve_each(listener, places, &CancellationToken::new(), serve).await;
    Ok(())
}

fn ended_badly(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unexpected, format!("{what} ended badly")).with_source(error)
}
