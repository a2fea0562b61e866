//! Connections to a process, kept for the next call.

use std::fmt::{self, Debug};
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// workerd closes a connection that is idle for 5 s; one that is near this age might close under a call.
const MAX_IDLE: Duration = Duration::from_secs(3);
/// Connections kept.
const MAX_KEPT: usize = 64;

/// One connection to a process. It has no task of its own: whoever waits for its answer drives it, which saves
/// a call two hops between threads.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection ended.
    driver: Option<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>,
}

/// A request that was not answered.
#[expect(clippy::large_enum_variant, reason = "one for each call, and a box would be an allocation on the hot path")]
pub(crate) enum SendError {
    /// Nothing of it was sent.
    NotSent(Request<Full<Bytes>>),
    /// It may have been seen.
    Broken,
}

impl Connection {
    /// A new connection.
    pub(crate) async fn open(socket: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(driver) })
    }

    /// Waits until it can take a request; whether it can.
    pub(crate) async fn is_ready(&mut self) -> bool {
        let Self { sender, driver } = self;
        driven(driver, sender.ready()).await.is_ok()
    }

    /// Sends a request and waits for the head of its answer. Its body needs [`Connection::drive`].
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        let Self { sender, driver } = self;
        driven(driver, sender.try_send_request(request))
            .await
            .map_err(|mut error| error.take_message().map_or(SendError::Broken, SendError::NotSent))
    }

    /// Moves bytes, as far as there are any.
    pub(crate) fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.driver, context);
    }
}

/// Waits for a future that needs the connection to be driven.
async fn driven<F: Future>(
    driver: &mut Option<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>,
    future: F,
) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        drive(driver, context);
        future.as_mut().poll(context)
    })
    .await
}

fn drive(driver: &mut Option<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>, context: &mut Context<'_>) {
    if let Some(connection) = driver
        && let Poll::Ready(ended) = Pin::new(connection).poll(context)
    {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to a server's process ended");
        }
        *driver = None;
    }
}

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
        if idle.len() < MAX_KEPT && connection.driver.is_some() {
            idle.push((Instant::now(), connection));
        }
    }
}

impl Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}
