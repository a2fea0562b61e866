//! The HTTP front: `http://127.0.0.1:PORT/<server-name>/mcp`, stable over versions and restarts. A staged version is
//! at `/<server-name>/preview/<label>/mcp` meanwhile.

mod body;
mod forward;
mod hosts;
mod port;
mod reply;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metamcp_core::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use self::body::ReplyBody;
use self::hosts::AllowedHosts;
use crate::workerd::{Callee, Servers};

/// Connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Size of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A running gateway; dropping it closes every connection at once.
#[derive(Debug)]
pub(crate) struct Gateway {
    address: SocketAddr,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Gateway {
    /// Binds the address; port 0 stands for the port of this data directory, which is chosen once.
    pub(crate) async fn bind(directory: &Path, listen: SocketAddr) -> Result<TcpListener> {
        port::bind(directory, listen).await
    }

    /// `Host` names that belong to a listener.
    pub(crate) fn hosts(listener: &TcpListener, configured: &[String]) -> Vec<String> {
        hosts::names(listener.local_addr().ok().map(|address| address.ip()), configured)
    }

    /// Serves until it is closed or dropped.
    pub(crate) fn serve(listener: TcpListener, hosts: Vec<String>, servers: Arc<Servers>) -> Result<Self> {
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "the gateway has no address").with_source(error))?;
        let state = Arc::new(State { hosts: AllowedHosts::new(hosts), servers });
        let task = tokio::spawn(accept(listener, state));
        Ok(Self { address, task: Mutex::new(Some(task)) })
    }

    /// Where this machine reaches it.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut address = self.address;
        // Nobody can be sent to "every address", and no request may name it as its host.
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        address
    }

    /// Stops listening and closes every connection. Idempotent.
    pub(crate) async fn close(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // It ends as cancelled, which is what was asked for.
            drop(task.await);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// What every connection needs.
#[derive(Debug)]
struct State {
    hosts: AllowedHosts,
    servers: Arc<Servers>,
}

/// Accepts connections; they end with this future.
async fn accept(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let state = Arc::clone(&state);
                    connections.spawn(async move {
                        serve_connection(stream, state).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors: those in use have to be given back first.
                    tracing::warn!(%error, "the gateway could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<ReplyBody> {
    if let Err(problem) = state.hosts.check(request.headers()) {
        return reply::refused(StatusCode::FORBIDDEN, &problem);
    }
    let Some(place) = Place::of(request.uri().path()) else {
        return reply::refused(StatusCode::NOT_FOUND, "nothing is here; servers answer at /<server-name>/mcp");
    };
    let callee = match callee(&state.servers, &place) {
        Ok(callee) => callee,
        Err(problem) => return reply::refused(StatusCode::NOT_FOUND, problem),
    };
    forward::forward(&callee, place.path, request).await
}

fn callee(servers: &Servers, place: &Place<'_>) -> Result<Callee, &'static str> {
    let server = servers.named(place.name);
    let Some(label) = place.label else {
        return server
            .map(Callee::Live)
            .ok_or("there is no server of this name; list the servers to see which exist, or deploy it first");
    };
    let preview = Uuid::try_parse(label).ok().and_then(|label| server?.labelled(label));
    preview.map(Callee::Preview).ok_or("there is no such preview any more")
}

/// What a request is for.
struct Place<'a> {
    /// The server's name.
    name: &'a str,
    /// The label of a preview.
    label: Option<&'a str>,
    /// The path within the server.
    path: &'static str,
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (name, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (label, rest) = match rest.strip_prefix("preview/") {
            Some(rest) => rest.split_once('/').map(|(label, rest)| (Some(label), rest))?,
            None => (None, rest),
        };
        let path = match rest {
            "mcp" => "/mcp",
            "health" => "/health",
            _ => return None,
        };
        Some(Self { name, label, path })
    }
}
