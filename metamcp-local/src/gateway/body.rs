//! The body of an answer while it passes through.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::workerd::{Call, Connection};

/// A body of the gateway's own, or one that passes through.
pub(super) type ReplyBody = Either<Full<Bytes>, PassingBody>;

/// An event that tells why a stream ended too early.
pub(super) type Farewell = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// A body of a server. At its end the call is over and its connection is free for the next one.
pub(super) struct PassingBody {
    inner: Incoming,
    exchange: Option<Exchange>,
    /// The last event of a stream whose server ended too early.
    farewell: Option<Farewell>,
}

/// What a passing body holds on to.
pub(super) struct Exchange {
    /// `None` for a stream that only listens: nothing is being worked on, so nothing waits for its end.
    pub(super) call: Option<Call>,
    pub(super) connection: Connection,
    /// If the answer is an event stream: it can still end with an error the client shows.
    pub(super) farewell: Option<Farewell>,
}

impl PassingBody {
    pub(super) fn new(inner: Incoming, exchange: Exchange) -> Self {
        let mut body = Self { inner, exchange: Some(exchange), farewell: None };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(Exchange { call: Some(call), connection, .. }) = self.exchange.take() {
            call.running.process.connections().put(connection);
            call.answered();
        }
    }

    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(farewell) = &mut self.farewell else { return Poll::Ready(None) };
        let event = ready!(farewell.as_mut().poll(context));
        self.farewell = None;
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}

impl Body for PassingBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.exchange {
            Some(exchange) => exchange.connection.drive(context),
            None => return self.poll_farewell(context),
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.farewell = self.exchange.take().and_then(|exchange| exchange.farewell);
                if self.farewell.is_none() {
                    return Poll::Ready(Some(Err(error)));
                }
                self.poll_farewell(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none() && self.farewell.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for PassingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassingBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;
    use metamcp_core::{Error, ErrorKind};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::super::reply;
    use super::*;

    #[tokio::test]
    async fn a_stream_that_breaks_within_an_event_still_ends_with_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _head = stream.read(&mut [0; 1024]).await.unwrap();
            let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata: {\"id\":1,\r\n";
            stream.write_all(begun.as_bytes()).await.unwrap();
        });
        let mut connection = Connection::open(&path).await.unwrap();
        let answer = connection.send(Request::new(Full::default())).await.ok().unwrap();
        let farewell: Farewell = Box::pin(async { reply::failed_event(&json!(1), &ended()) });
        let exchange = Exchange { call: None, connection, farewell: Some(farewell) };
        let sent = PassingBody::new(answer.into_body(), exchange).collect().await.unwrap().to_bytes();
        server.await.unwrap();
        let last = std::str::from_utf8(&sent).unwrap().trim_end().rsplit("\n\n").next().unwrap();
        let data: Value = serde_json::from_str(last.strip_prefix("event: message\ndata: ").unwrap()).unwrap();
        assert_eq!((&data["id"], &data["error"]["message"]), (&json!(1), &json!(ended().to_string())));
    }

    fn ended() -> Error {
        Error::new(ErrorKind::Unavailable, "ended")
    }
}
