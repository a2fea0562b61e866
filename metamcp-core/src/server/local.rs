//! Meta-MCP for callers on this machine who are trusted: over stdio, and over a Unix socket.

use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::transport::stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
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

/// Passes this process's standard input and output on to another process that serves the socket ([`serve_socket`]):
/// what a second stdio process on one data directory does. Ends when either side does.
pub async fn bridge_stdio(socket: UnixStream) -> Result<()> {
    let (mut answers, mut requests) = socket.into_split();
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let ask = async {
        tokio::io::copy(&mut input, &mut requests).await?;
        // The other side answers what it was asked, then ends.
        requests.shutdown().await
    };
    let answer = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = answers.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            output.write_all(&buffer[..read]).await?;
            output.flush().await?;
        }
    };
    tokio::pin!(ask, answer);
    let ended = tokio::select! {
        ended = &mut answer => ended,
        asked = &mut ask => match asked {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    ended.map_err(|error: std::io::Error| ended_badly("the bridge", error))
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
