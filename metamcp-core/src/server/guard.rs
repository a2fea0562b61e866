//! The guard: what a request passes before it reaches the MCP server, in this order: authentication (401), rate and
//! number at once (429), size and time of its body (413, 408), scope (403).

mod caller;
mod concurrency;
mod cors;
mod failures;
mod host;
mod keys;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use url::Url;

use self::caller::CallerId;
use self::concurrency::{Concurrency, Permit};
use self::cors::Cors;
pub(super) use self::cors::origin_of;
use self::keys::Keys;
use self::refusal::Refusal;
use super::access::Access;
use super::http::{Authentication, Guarded, HttpConfig};
use super::metrics::{self, InFlight, Servers};
use super::oauth::{OAuth, Resource};
use super::{malformed, table};
use crate::keys::Scope;
use crate::{MetaMcp, Result};

/// Callers whose requests are counted before those who made none lately are forgotten.
const MANY_CALLERS: usize = 10_000;

pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What decides who passes.
#[derive(Debug)]
pub(super) struct Guard {
    meta: MetaMcp,
    authentication: Authentication,
    keys: Arc<Keys>,
    cors: Cors,
    oauth: Option<OAuth>,
    hosts: Vec<String>,
    rate: DefaultKeyedRateLimiter<CallerId>,
    concurrency: Concurrency,
    max_body_bytes: usize,
    body_timeout: Duration,
}

impl Guarded {
    /// Answers a request from this address: as the guard refuses it, or as what stands at its path does.
    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let in_flight = self.metrics.begin();
        let begun = in_flight.begun();
        let page = self.guard.cors.page(request.headers());
        let answered = match Cors::preflight(request.method(), request.headers(), page.as_ref()) {
            Some(answered) => answered,
            None => self.serve(request, peer, in_flight).await,
        };
        let mut response = answered.unwrap_or_else(|refusal| refusal.into_response(self.guard.resource()));
        self.guard.cors.finish(&mut response, page);
        self.metrics.answered(response.status(), begun.elapsed());
        response
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        in_flight: InFlight,
    ) -> Result<Response<Body>, Refusal> {
        match request.uri().path() {
            "/mcp" => self.serve_mcp(request, peer, in_flight).await,
            "/metrics" => self.serve_metrics(&request, peer).await,
            path => match self.guard.resource().and_then(|resource| resource.metadata_at(path)) {
                Some(metadata) => {
                    only_get(request.method()).map(|()| document("application/json", metadata.to_string()))
                }
                None => Err(Refusal::NotFound),
            },
        }
    }

    /// What is answered where no connection is left.
    pub(super) fn refuse_busy(&self) -> Response<Body> {
        let response = Refusal::Busy.into_response(None);
        self.metrics.answered(response.status(), Duration::ZERO);
        response
    }

    async fn serve_mcp(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        in_flight: InFlight,
    ) -> Result<Response<Body>, Refusal> {
        let Admitted { request, body, mut ended, permit } = self.guard.admit(request, peer).await?;
        let says_json = malformed::is_json(request.headers());
        let response = tokio::select! {
            response = self.mcp.handle(request) => response,
            refusal = &mut ended => return Err(refusal),
        };
        // Of JSON that it cannot read rmcp says that its media type is another.
        if says_json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Ok(malformed::body(&body));
        }
        let (parts, body) = response.into_parts();
        let frames = body.into_data_stream().take_until(ended).map(move |data| {
            // It is in flight until its last byte.
            let _ = (&in_flight, &permit);
            data.map(Frame::data)
        });
        Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
    }

    /// The counters, for who may read about all servers.
    async fn serve_metrics(&self, request: &Request<Incoming>, peer: IpAddr) -> Result<Response<Body>, Refusal> {
        if !host::is_allowed(request.headers(), &self.guard.hosts) {
            return Err(Refusal::OtherHost);
        }
        let caller = self.guard.authenticate(request, peer).await?;
        only_get(request.method())?;
        if !caller.access.allows(Scope::Read) {
            return Err(Refusal::missing(Scope::Read, "/metrics", &caller.access));
        }
        if caller.access.is_limited() {
            return Err(Refusal::Limited);
        }
        self.guard.check_rate(&caller.id)?;
        let servers = Servers::count(&self.guard.meta).await;
        Ok(document(metrics::CONTENT_TYPE, self.metrics.render(servers)))
    }
}

/// A request that passed.
struct Admitted {
    /// With its body read and its caller's access.
    request: Request<Full<Bytes>>,
    body: Bytes,
    /// Tells when that is over.
    ended: BoxFuture<'static, Refusal>,
    permit: Permit,
}

impl Guard {
    /// For the endpoint at this URL, which answers to these names.
    pub(super) fn new(meta: MetaMcp, config: &HttpConfig, endpoint: &Url, hosts: Vec<String>) -> Result<Self> {
        let rate = RateLimiter::keyed(Quota::per_minute(config.requests_per_minute));
        let oauth = config.oauth.as_ref().map(|oauth| OAuth::new(oauth, endpoint)).transpose()?;
        let HttpConfig { authentication, max_body_bytes, body_timeout, .. } = *config;
        let keys = Keys::new(meta.api_keys(), config.wrong_keys_per_minute, config.unconfirmed_limit);
        Ok(Self {
            meta,
            authentication,
            keys: Arc::new(keys),
            cors: Cors::new(&config.allowed_origins)?,
            oauth,
            hosts,
            rate,
            concurrency: Concurrency::new(config.requests_at_once),
            max_body_bytes,
            body_timeout,
        })
    }

    /// What clients are told about where tokens come from.
    fn resource(&self) -> Option<&Resource> {
        self.oauth.as_ref().map(|oauth| &oauth.resource)
    }

    /// Lets a request in. What is refused for its caller is refused before its body is read.
    async fn admit(&self, request: Request<Incoming>, peer: IpAddr) -> Result<Admitted, Refusal> {
        let caller = self.authenticate(&request, peer).await?;
        self.check_rate(&caller.id)?;
        let permit = self.concurrency.begin(&caller.id)?;
        let (mut parts, body) = request.into_parts();
        let body = self.read(body).await?;
        if parts.method == Method::POST {
            check_scope(&caller.access, &body)?;
        }
        // What goes on is who calls, not what proved it.
        parts.headers.remove(header::AUTHORIZATION);
        parts.extensions.insert(caller.access);
        let request = Request::from_parts(parts, Full::new(body.clone()));
        Ok(Admitted { request, body, ended: caller.credential.ended(&self.keys), permit })
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

    fn check_rate(&self, id: &CallerId) -> Result<(), Refusal> {
        if self.rate.len() > MANY_CALLERS {
            self.rate.retain_recent();
        }
        self.rate.check_key(id).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Refusal::TooMany { seconds: wait.as_secs() + 1 }
        })
    }
}

fn only_get(method: &Method) -> Result<(), Refusal> {
    if method == Method::GET || method == Method::HEAD { Ok(()) } else { Err(Refusal::NotGet) }
}

fn document(content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
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

/// Refuses what the caller's scopes do not allow. Whatever answers the message checks again.
fn check_scope(access: &Access, body: &[u8]) -> Result<(), Refusal> {
    let Ok(Message { method: Some(method), params }) = serde_json::from_slice(body) else { return Ok(()) };
    let tool = params.and_then(|params| params.name);
    let (scope, needed_by) = match (method.as_str(), &tool) {
        ("tools/call", Some(tool)) => match table::find(tool) {
            Ok(entry) => (entry.scope, entry.name()),
            Err(_) => return Ok(()),
        },
        ("resources/list" | "resources/templates/list" | "resources/read", _) => (Scope::Read, method.as_str()),
        _ => return Ok(()),
    };
    if access.allows(scope) { Ok(()) } else { Err(Refusal::missing(scope, needed_by, access)) }
}
