//! The guard: what a request passes before it reaches the MCP server, in this order: authentication (401), size and
//! time of its body (413, 408), scope (403), rate (429).

mod refusal;

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, Response, header};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use secrecy::SecretString;
use serde::Deserialize;
use uuid::Uuid;

use self::refusal::Refusal;
use super::access::Access;
use super::http::{Authentication, Guarded, HttpConfig};
use super::table;
use crate::{ErrorKind, MetaMcp};

/// How often a request in flight looks whether its key still holds.
const KEY_CHECK: Duration = Duration::from_secs(2);

pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What decides who passes.
#[derive(Debug)]
pub(super) struct Guard {
    meta: MetaMcp,
    authentication: Authentication,
    rate: DefaultKeyedRateLimiter<Uuid>,
    max_body_bytes: usize,
    body_timeout: Duration,
}

/// A caller who is known, with the key that proves it.
struct Caller {
    access: Arc<Access>,
    /// Whose requests are counted together.
    id: Uuid,
    key: Option<SecretString>,
}

impl Guarded {
    /// Answers a request: as the guard refuses it, or as the MCP server does.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.guard.admit(request).await {
            Ok((request, key)) => {
                let mut ended = match key {
                    Some(key) => revoked(self.guard.meta.clone(), key).boxed(),
                    None => std::future::pending().boxed(),
                };
                let response = tokio::select! {
                    response = self.mcp.handle(request) => response,
                    () = &mut ended => return Refusal::WrongKey.into_response(),
                };
                let (parts, body) = response.into_parts();
                let frames = body.into_data_stream().take_until(ended).map(|data| data.map(Frame::data));
                Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
            }
            Err(refusal) => refusal.into_response(),
        }
    }
}

impl Guard {
    pub(super) fn new(meta: MetaMcp, config: &HttpConfig) -> Self {
        let rate = RateLimiter::keyed(Quota::per_minute(config.requests_per_minute));
        let HttpConfig { authentication, max_body_bytes, body_timeout, .. } = *config;
        Self { meta, authentication, rate, max_body_bytes, body_timeout }
    }

    /// The request with its body read and its caller's access, and the key it came with.
    async fn admit(&self, request: Request<Incoming>) -> Result<(Request<Full<Bytes>>, Option<SecretString>), Refusal> {
        if request.uri().path() != "/mcp" {
            return Err(Refusal::NotFound);
        }
        let caller = self.authenticate(request.headers()).await?;
        let (mut parts, body) = request.into_parts();
        let body = self.read(body).await?;
        if parts.method == Method::POST {
            check_scope(&caller.access, &body)?;
        }
        self.check_rate(caller.id)?;
        parts.extensions.insert(caller.access);
        Ok((Request::from_parts(parts, Full::new(body)), caller.key))
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if self.authentication == Authentication::None {
            return Ok(Caller { access: Arc::new(Access::full("http")), id: Uuid::nil(), key: None });
        }
        let key = bearer(headers).ok_or(Refusal::NoKey)?;
        match self.meta.api_keys().authenticate(&key).await {
            Ok(record) => Ok(Caller { access: Arc::new(Access::of_key(&record)), id: record.id, key: Some(key) }),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Err(Refusal::WrongKey),
            Err(error) => {
                tracing::error!(%error, "a key could not be looked up");
                Err(Refusal::Unavailable)
            }
        }
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let read = tokio::time::timeout(self.body_timeout, Limited::new(body, self.max_body_bytes).collect());
        match read.await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Refusal::TooLarge(self.max_body_bytes))
            }
            Ok(Err(_)) => Err(Refusal::BrokenBody),
            Err(_) => Err(Refusal::TooSlow(self.body_timeout)),
        }
    }

    fn check_rate(&self, id: Uuid) -> Result<(), Refusal> {
        self.rate.check_key(&id).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Refusal::TooMany { seconds: wait.as_secs() + 1 }
        })
    }
}

/// The key of an `Authorization: Bearer` header. A key in the URL is not read: URLs end up in logs.
fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().into())
}

/// What the guard reads of a message; everything else is the MCP server's.
#[derive(Deserialize)]
struct Message {
    method: Option<String>,
    params: Option<Params>,
}

#[derive(Deserialize)]
struct Params {
    name: Option<String>,
}

/// Refuses a call of a tool that the caller's scopes do not allow. The tool itself checks again.
fn check_scope(access: &Access, body: &[u8]) -> Result<(), Refusal> {
    let Ok(Message { method: Some(method), params: Some(Params { name: Some(tool) }) }) = serde_json::from_slice(body)
    else {
        return Ok(());
    };
    if method != "tools/call" {
        return Ok(());
    }
    match table::find(&tool) {
        Ok(entry) if !access.allows(entry.scope) => Err(Refusal::MissingScope(entry.scope, tool)),
        _ => Ok(()),
    }
}

/// Ends once a key holds no longer. A registry that cannot answer now ends nothing.
async fn revoked(meta: MetaMcp, key: SecretString) {
    loop {
        tokio::time::sleep(KEY_CHECK).await;
        if let Err(error) = meta.api_keys().authenticate(&key).await
            && error.kind() == ErrorKind::Unauthenticated
        {
            return;
        }
    }
}
