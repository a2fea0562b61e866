//! Passes a request to its server's process and the answer back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Incoming};
use metamcp_core::{Error, ErrorKind};
use serde::Deserialize;
use tokio::time::{timeout, timeout_at};
use tracing::Level;

use super::body::{Exchange, Farewell, PassingBody, ReplyBody};
use super::reply;
use crate::workerd::{Call, Callee, Connection, SendError};

/// Largest request body: the same as in the TypeScript and Rust SDKs.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// How long a client may take to send a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read, and for how long.
const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Processes tried for a call that none of them has seen.
const ATTEMPTS: usize = 3;
/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// Answers a request with what is called answers to it.
pub(super) async fn forward(callee: &Callee, path: &'static str, request: Request<Incoming>) -> Response<ReplyBody> {
    let (head, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let told = tracing::enabled!(Level::DEBUG).then(|| (tool_name(&body), Instant::now()));
    let response = pass(callee, path, head, body).await;
    if let Some((tool, began)) = told {
        let (server, status) = (callee.name(), response.status().as_u16());
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A stream may go on for long: it is the beginning of the answer that is told.
        tracing::debug!(%server, tool, status, ms, "called through the gateway");
    }
    response
}

async fn pass(callee: &Callee, path: &'static str, mut head: Parts, body: Bytes) -> Response<ReplyBody> {
    head.uri = within(path, &head.uri);
    remove_hop_by_hop(&mut head.headers);
    let mut message = Request::from_parts(head, Full::new(body.clone()));
    for _ in 0..ATTEMPTS {
        let allowed = callee.call(|running| running.timeout(|| tool_name(&body))).await;
        let call = match allowed {
            Ok(call) => call,
            Err(error) => return reply::failed(&reply::request_id(&body), &error),
        };
        match exchange(call, message, &body).await {
            Outcome::Answered(response) => return response,
            Outcome::NotSent(unsent) => message = unsent,
        }
    }
    let problem = "the server's process ends as soon as it is started; read its log";
    reply::failed(&reply::request_id(&body), &Error::new(ErrorKind::Unavailable, problem))
}

#[expect(clippy::large_enum_variant, reason = "one for each call, and a box would be an allocation on the hot path")]
enum Outcome {
    Answered(Response<ReplyBody>),
    /// Nothing of it reached the process, which is gone: another one may take it.
    NotSent(Request<Full<Bytes>>),
}

async fn exchange(call: Call, mut message: Request<Full<Bytes>>, body: &Bytes) -> Outcome {
    let is_get = message.method() == Method::GET;
    loop {
        let (mut connection, is_fresh) = match ready_connection(&call).await {
            Ok(found) => found,
            // It was there a moment ago: its end is on the way.
            Err(_) if call.ended_soon().await => return Outcome::NotSent(message),
            Err(error) => {
                let problem = format!("the server's process takes no connection: {error}");
                let error = Error::new(ErrorKind::Unavailable, problem);
                return Outcome::Answered(reply::failed(&reply::request_id(body), &error));
            }
        };
        let Ok(sent) = timeout_at(call.give_up().into(), connection.send(message)).await else {
            let problem = "the server answers other calls, but has not answered this one long after its timeout";
            let error = Error::new(ErrorKind::TimedOut, problem);
            return Outcome::Answered(reply::failed(&reply::request_id(body), &error));
        };
        match sent {
            Ok(response) => {
                let held = held(&response, is_get, call, connection, body);
                return Outcome::Answered(passing(response, held));
            }
            // A kept connection was closed in the meantime.
            Err(SendError::NotSent(unsent)) if !is_fresh => message = unsent,
            Err(SendError::NotSent(unsent)) => {
                call.ended_soon().await;
                return Outcome::NotSent(unsent);
            }
            Err(SendError::Broken) => {
                let error = call.failure().await;
                return Outcome::Answered(reply::failed(&reply::request_id(body), &error));
            }
        }
    }
}

/// A connection that can take a request, and whether it is new.
async fn ready_connection(call: &Call) -> Result<(Connection, bool), Box<dyn std::error::Error + Send + Sync>> {
    let process = &call.running.process;
    while let Some(mut connection) = process.connections().take() {
        if connection.is_ready().await {
            return Ok((connection, false));
        }
    }
    Ok((Connection::open(process.socket()).await?, true))
}

fn passing(mut response: Response<Incoming>, held: Exchange) -> Response<ReplyBody> {
    remove_hop_by_hop(response.headers_mut());
    response.map(|incoming| Either::Right(PassingBody::new(incoming, held)))
}

/// A stream on which a client listens lasts as long as the client likes and must hold up neither a switch of versions
/// nor the watch over calls, so that its call is over as it begins.
fn held(response: &Response<Incoming>, is_get: bool, call: Call, connection: Connection, body: &Bytes) -> Exchange {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let is_stream = content_type.is_some_and(|content_type| content_type.starts_with(b"text/event-stream"));
    let farewell = (is_stream && !is_get).then(|| farewell(&call, body));
    let listens = is_get || (is_stream && asks_to_listen(body));
    let call = if listens {
        call.answered();
        None
    } else {
        Some(call)
    };
    Exchange { call, connection, farewell }
}

/// The last event of a stream that answers a request, if its process ends before it. The process is not held on to.
fn farewell(call: &Call, body: &Bytes) -> Farewell {
    let (id, failure) = (reply::request_id(body), call.failure());
    Box::pin(async move { reply::failed_event(&id, &failure.await) })
}

/// The whole body: it has to be known for the tool's timeout, and to be sent again to another process.
async fn read_body(mut body: Incoming) -> Result<Bytes, Response<ReplyBody>> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > MAX_REQUEST_BYTES as u64 {
        return Err(too_large(body).await);
    }
    match timeout(BODY_TIMEOUT, Limited::new(&mut body, MAX_REQUEST_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(body).await),
        Ok(Err(error)) => Err(reply::refused(StatusCode::BAD_REQUEST, &format!("the request ended early: {error}"))),
        Err(_) => Err(reply::refused(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time")),
    }
}

/// The refusal of a body, most of which is read first: a client that is still sending would find its connection
/// closed, and never see the answer.
async fn too_large(body: Incoming) -> Response<ReplyBody> {
    let mut rest = Limited::new(body, MAX_DRAINED_BYTES);
    let drained = timeout(DRAIN_TIMEOUT, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
    if drained.is_err() {
        tracing::debug!("a client was still sending a request that is too large");
    }
    reply::refused(StatusCode::PAYLOAD_TOO_LARGE, &format!("the request is larger than {MAX_REQUEST_BYTES} bytes"))
}

/// The path within the server, with the query.
fn within(path: &'static str, uri: &Uri) -> Uri {
    let query = uri.query().and_then(|query| PathAndQuery::try_from(format!("{path}?{query}")).ok());
    Uri::from(query.unwrap_or_else(|| PathAndQuery::from_static(path)))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether a body asks for a stream to listen on. It decides in the runtime too, which refuses a header that says
/// something else.
fn asks_to_listen(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Request {
        method: String,
    }
    serde_json::from_slice::<Request>(body).is_ok_and(|request| request.method == "subscriptions/listen")
}

/// Name of the tool a body calls, if it calls one.
fn tool_name(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Request {
        method: String,
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        name: String,
    }
    let request: Request = serde_json::from_slice(body).ok()?;
    (request.method == "tools/call").then_some(request.params.name)
}
