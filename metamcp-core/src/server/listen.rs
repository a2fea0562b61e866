//! Listening: each connection is accepted when there is a place for it, and served in a task of its own.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// How long to wait where nothing can be accepted.
const PAUSE: Duration = Duration::from_millis(50);
/// Until the log says again that nothing can be accepted.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// What connections come in by.
pub(super) trait Listener: Send + Sync {
    type Connection: Send;

    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    async fn accept_one(&self) -> io::Result<Self::Connection> {
        self.accept().await
    }
}

impl Listener for UnixListener {
    type Connection = UnixStream;

    async fn accept_one(&self) -> io::Result<Self::Connection> {
        Ok(self.accept().await?.0)
    }
}

/// What there is place for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Connections that are served at once.
    pub(super) full: usize,
    /// Beside them, those that are only told so.
    pub(super) spare: usize,
}

/// Which place a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Full,
    Spare,
}

/// Accepts and serves until it is stopped; returns those that are still served. Where there is no place, the next
/// connection waits.
pub(super) async fn serve_each<L: Listener, F>(
    listener: L,
    places: Places,
    stop: &CancellationToken,
    serve: impl Fn(L::Connection, Place) -> F,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (full, spare) = (Arc::new(Semaphore::new(places.full)), Arc::new(Semaphore::new(places.spare)));
    let mut served = JoinSet::new();
    loop {
        let next = async {
            let connection = next(&listener).await;
            (connection, place(&full, &spare).await)
        };
        let Some((connection, (place, permit))) = stop.run_until_cancelled(next).await else { return served };
        let serving = serve(connection, place);
        served.spawn(async move {
            serving.await;
            drop(permit);
        });
        while served.try_join_next().is_some() {}
    }
}

/// Waits for those that are still served.
pub(super) async fn ended(mut served: JoinSet<()>) {
    while served.join_next().await.is_some() {}
}

async fn next<L: Listener>(listener: &L) -> L::Connection {
    let mut told: Option<Instant> = None;
    loop {
        match listener.accept_one().await {
            Ok(connection) => return connection,
            Err(error) => {
                // Out of file descriptors: those in use have to be given back first.
                if told.is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "connections cannot be accepted: is the limit of open files too low?");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn place(full: &Arc<Semaphore>, spare: &Arc<Semaphore>) -> (Place, Option<OwnedSemaphorePermit>) {
    if let Ok(permit) = Arc::clone(full).try_acquire_owned() {
        return (Place::Full, Some(permit));
    }
    // Neither is ever closed.
    tokio::select! {
        permit = Arc::clone(full).acquire_owned() => (Place::Full, permit.ok()),
        permit = Arc::clone(spare).acquire_owned() => (Place::Spare, permit.ok()),
    }
}

/// How long a client may take, and how much it may say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a request's head, and between requests.
    pub(super) head: Duration,
    /// Without taking anything of an answer.
    pub(super) write: Duration,
    /// Size of a request's head.
    pub(super) max_head_bytes: usize,
}

/// Serves HTTP/1.1 on one connection until it ends; once stopped, until the request in flight does.
pub(super) async fn serve_http1<S, B>(stream: TcpStream, patience: Patience, service: S, stop: &CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.write));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(patience.max_head_bytes)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}
