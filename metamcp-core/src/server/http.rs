//! Meta-MCP over streamable HTTP, behind the guard.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::guard::Guard;
use super::mcp::MetaMcpServer;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Size of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long requests in flight may take to end after the server was told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Who may use the HTTP endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// Callers with an API key ([`MetaMcp::api_keys`]), for what its scopes allow.
    ApiKeys,
    /// Everybody who reaches it, for everything. Loopback addresses only.
    None,
}

/// Where and how Meta-MCP is served over HTTP.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// Who may use it.
    pub authentication: Authentication,
    /// `Host` names it answers to beside the loopback ones and the address it listens at.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may use it, such as `https://app.example.com:443`; default none.
    pub allowed_origins: Vec<String>,
    /// Requests that one key may make in a minute; as many may come at once.
    pub requests_per_minute: NonZeroU32,
    /// Size of a request's body.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
}

impl HttpConfig {
    /// The defaults: a loopback port, API keys, 1,200 requests in a minute, bodies of 8 MiB within 30 seconds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where to listen.
    #[must_use]
    pub fn with_listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Sets who may use it.
    #[must_use]
    pub fn with_authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Answers to another `Host` name.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Lets web pages of another origin use it.
    #[must_use]
    pub fn with_allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets how many requests one key may make in a minute.
    #[must_use]
    pub fn with_requests_per_minute(mut self, requests: NonZeroU32) -> Self {
        self.requests_per_minute = requests;
        self
    }

    /// Sets the limits of a request's body.
    #[must_use]
    pub fn with_body_limits(mut self, bytes: usize, timeout: Duration) -> Self {
        (self.max_body_bytes, self.body_timeout) = (bytes, timeout);
        self
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            authentication: Authentication::ApiKeys,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            requests_per_minute: const { NonZeroU32::new(1_200).expect("not zero") },
            max_body_bytes: 8 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// A running HTTP endpoint; dropping it closes every connection at once.
#[derive(Debug)]
pub struct HttpServer {
    url: Url,
    stop: CancellationToken,
    /// Ends the requests in flight.
    cut: CancellationToken,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Where MCP clients connect.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Stops listening and waits a moment for requests in flight.
    pub async fn close(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(CLOSE_LIMIT, &mut self.task).await.is_err() {
            tracing::warn!("requests in flight did not end in time and are cut off");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.cut.cancel();
        self.task.abort();
    }
}

/// Serves Meta-MCP at `http://{listen}/mcp` until the value is closed or dropped.
///
/// Every request passes the guard: authentication (401), scope (403), rate (429 with `Retry-After`), size and time of
/// its body (413, 408), `Host` and `Origin` (403). There is no TLS: put a proxy before a public address.
///
/// [`ErrorKind::ConfigInvalid`] for an address that others can reach, unless callers need an API key and
/// there is a valid one with scope `admin` ([`ApiKeys::has_admin`](crate::ApiKeys::has_admin)).
pub async fn serve_http(meta: MetaMcp, config: HttpConfig) -> Result<HttpServer> {
    check(&meta, &config).await?;
    let unusable = |error| {
        Error::new(ErrorKind::ConfigInvalid, format!("{} cannot be listened at", config.listen))
            .with_source(error)
            .with_help("choose a free port of an address of this machine")
    };
    let listener = TcpListener::bind(config.listen).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let url = format!("http://{address}/mcp")
        .parse()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "an address makes no URL").with_source(error))?;
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let server =
        Arc::new(Guarded { mcp: mcp_service(&meta, &config, address, &cut), guard: Guard::new(meta, &config) });
    let task = tokio::spawn(accept(listener, server, stop.clone()));
    Ok(HttpServer { url, stop, cut, task })
}

async fn check(meta: &MetaMcp, config: &HttpConfig) -> Result<()> {
    if config.listen.ip().is_loopback() {
        return Ok(());
    }
    let problem = match config.authentication {
        Authentication::None => "it would serve everybody",
        Authentication::ApiKeys if meta.api_keys().has_admin().await? => return Ok(()),
        Authentication::ApiKeys => "there is no valid API key with scope admin for all servers",
    };
    let message = format!("{} can be reached by others, and {problem}", config.listen);
    Err(Error::new(ErrorKind::ConfigInvalid, message).with_help("make such a key first, or listen at 127.0.0.1"))
}

/// What stands at `/mcp`: rmcp's service and the guard before it.
pub(super) struct Guarded {
    pub(super) mcp: StreamableHttpService<MetaMcpServer, NeverSessionManager>,
    pub(super) guard: Guard,
}

/// Stateless in both protocol eras; an answer is JSON, or a stream once there is progress to report.
fn mcp_service(
    meta: &MetaMcp,
    config: &HttpConfig,
    address: SocketAddr,
    cut: &CancellationToken,
) -> StreamableHttpService<MetaMcpServer, NeverSessionManager> {
    let server = MetaMcpServer::guarded(meta.clone());
    let settings = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(config.max_body_bytes)
        .with_allowed_hosts(hosts(config, address.ip()))
        .with_allowed_origins(origins(config, address))
        .enforce_origin_validation()
        .with_cancellation_token(cut.child_token());
    StreamableHttpService::new(move || Ok(server.clone()), NeverSessionManager::default().into(), settings)
}

fn hosts(config: &HttpConfig, listening: IpAddr) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listening.is_unspecified() {
        hosts.push(listening.to_string());
    }
    hosts.extend(config.allowed_hosts.iter().cloned());
    hosts
}

/// Its own origin, by each of its names, and those that were allowed.
fn origins(config: &HttpConfig, address: SocketAddr) -> Vec<String> {
    let own = hosts(config, address.ip()).into_iter().map(|host| {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        format!("http://{host}:{}", address.port())
    });
    own.chain(config.allowed_origins.iter().cloned()).collect()
}

/// Accepts connections until it is stopped; then those with a request in flight end it.
async fn accept(listener: TcpListener, server: Arc<Guarded>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (server, stop) = (Arc::clone(&server), stop.clone());
                    connections.spawn(async move {
                        serve_connection(stream, server, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors: those in use have to be given back first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(stream: TcpStream, server: Arc<Guarded>, stop: CancellationToken) {
    let service = service_fn(|request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
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
