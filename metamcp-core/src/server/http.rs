//! Meta-MCP over streamable HTTP, behind the guard.

mod config;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::config::{Authentication, HttpConfig};
use super::guard::{Guard, origin_of};
use super::listen::{Patience, Place, Places, ended, serve_each, serve_http1};
use super::mcp::MetaMcpServer;
use super::metrics::Metrics;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Connections that are told that there are too many.
const SPARE_CONNECTIONS: usize = 16;
/// How long such a client may take to send a request's head.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Size of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long requests in flight may take to end after the server was told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

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
/// Every request passes the guard: authentication (401), rate and number at once (429 with `Retry-After`), size and
/// time of its body (413, 408), scope (403), `Host` and `Origin` (403). Past [`HttpConfig::max_connections`] the answer
/// is 503. There is no TLS: put a proxy before a public address.
///
/// With [`HttpConfig::oauth`], answers of 401 and 403 lead clients to the issuer by the metadata at
/// `/.well-known/oauth-protected-resource/mcp` (RFC 9728), which is open. While the issuer's keys cannot be had, tokens
/// are answered by 503 with `Retry-After`: a 401 would send clients to an issuer that is not there.
///
/// `/metrics` counts what the endpoint does, in Prometheus' text format, for callers with scope `read` for all servers.
///
/// ```
/// use metamcp_core::server::{HttpConfig, serve_http};
/// use metamcp_core::{MetaMcp, NewApiKey, Scope, memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let meta = MetaMcp::new(memory::backends());
/// let (_, key) = meta.api_keys().create(NewApiKey::new("admin", [Scope::Admin])).await?;
/// let server = serve_http(meta, HttpConfig::new()).await?; // a free port of the loopback address
/// println!("MCP is at {}", server.url()); // for clients that send `Authorization: Bearer {key}`
/// # drop(key);
/// server.close().await;
/// # Ok(())
/// # }
/// ```
///
/// [`ErrorKind::ConfigInvalid`] for an address that others can reach, unless callers need an API key and
/// there is a valid one with scope `admin` ([`ApiKeys::has_admin`](crate::ApiKeys::has_admin)) or an issuer of tokens.
pub async fn serve_http(meta: MetaMcp, config: HttpConfig) -> Result<HttpServer> {
    check(&meta, &config).await?;
    let unusable = |error| {
        Error::new(ErrorKind::ConfigInvalid, format!("{} cannot be listened at", config.listen))
            .with_source(error)
            .with_help("choose a free port of an address of this machine")
    };
    let listener = TcpListener::bind(config.listen).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let url: Url = format!("http://{address}/mcp")
        .parse()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "an address makes no URL").with_source(error))?;
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let metrics = Arc::default();
    let mcp = mcp_service(MetaMcpServer::guarded(meta.clone(), Arc::clone(&metrics)), &config, address, &cut)?;
    let guard = Guard::new(meta, &config, &url, hosts(&config, address.ip()))?;
    let server = Arc::new(Guarded { mcp, guard, metrics });
    let places = Places { full: config.max_connections, spare: SPARE_CONNECTIONS };
    let patience = Patience { head: HEAD_TIMEOUT, write: config.write_timeout, max_head_bytes: MAX_HEAD_BYTES };
    let task = tokio::spawn(accept(listener, server, places, patience, stop.clone()));
    Ok(HttpServer { url, stop, cut, task })
}

async fn check(meta: &MetaMcp, config: &HttpConfig) -> Result<()> {
    if let Some(oauth) = &config.oauth {
        if config.authentication == Authentication::None {
            let message = "an OAuth issuer is configured, and nobody needs a token or a key";
            return Err(Error::new(ErrorKind::ConfigInvalid, message).with_help("leave one of the two out"));
        }
        oauth.check(config.listen.ip().is_unspecified())?;
    }
    if config.listen.ip().is_loopback() {
        return Ok(());
    }
    let (problem, help) = match config.authentication {
        Authentication::None => ("it would serve everybody", "have callers need an API key"),
        Authentication::ApiKeys if config.oauth.is_some() || meta.api_keys().has_admin().await? => return Ok(()),
        Authentication::ApiKeys => {
            ("there is no valid API key with scope admin for all servers", "make such a key first")
        }
    };
    let message = format!("{} can be reached by others, and {problem}", config.listen);
    Err(Error::new(ErrorKind::ConfigInvalid, message).with_help(format!("{help}, or listen at 127.0.0.1")))
}

/// What is served: rmcp's service, the guard before it, and what they did.
pub(super) struct Guarded {
    pub(super) mcp: StreamableHttpService<MetaMcpServer, NeverSessionManager>,
    pub(super) guard: Guard,
    pub(super) metrics: Arc<Metrics>,
}

/// Stateless in both protocol eras; an answer is JSON, or a stream once there is progress to report.
fn mcp_service(
    server: MetaMcpServer,
    config: &HttpConfig,
    address: SocketAddr,
    cut: &CancellationToken,
) -> Result<StreamableHttpService<MetaMcpServer, NeverSessionManager>> {
    let settings = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(config.max_body_bytes)
        .with_allowed_hosts(hosts(config, address.ip()))
        .with_allowed_origins(origins(config, address)?)
        .enforce_origin_validation()
        .with_cancellation_token(cut.child_token());
    Ok(StreamableHttpService::new(move || Ok(server.clone()), NeverSessionManager::default().into(), settings))
}

fn hosts(config: &HttpConfig, listening: IpAddr) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listening.is_unspecified() {
        hosts.push(listening.to_string());
    }
    let public = config.oauth.as_ref().and_then(|oauth| oauth.resource.as_ref()?.host_str().map(str::to_owned));
    hosts.extend(config.allowed_hosts.iter().cloned().chain(public));
    hosts
}

/// Its own origin, by each of its names, and those that were allowed.
fn origins(config: &HttpConfig, address: SocketAddr) -> Result<Vec<String>> {
    let own = hosts(config, address.ip()).into_iter().map(|host| {
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        format!("http://{host}:{}", address.port())
    });
    let allowed = config.allowed_origins.iter().map(|origin| {
        let origin = origin_of(origin)?;
        // Without a port, any would be taken.
        let port = origin.port_or_known_default().unwrap_or_default();
        Ok(format!("{}://{}:{port}", origin.scheme(), origin.host_str().unwrap_or_default()))
    });
    own.map(Ok).chain(allowed).collect()
}

/// Accepts connections until it is stopped; then those with a request in flight end it.
async fn accept(
    listener: TcpListener,
    server: Arc<Guarded>,
    places: Places,
    patience: Patience,
    stop: CancellationToken,
) {
    let serve = |(stream, peer): (TcpStream, SocketAddr), place| {
        let (server, stop) = (Arc::clone(&server), stop.clone());
        let patience = if place == Place::Full { patience } else { Patience { head: BUSY_TIMEOUT, ..patience } };
        async move {
            let service = service_fn(|request| {
                let server = Arc::clone(&server);
                async move {
                    Ok(match place {
                        Place::Full => server.answer(request, peer.ip()).await,
                        Place::Spare => server.refuse_busy(),
                    })
                }
            });
            serve_http1(stream, patience, service, &stop).await;
        }
    };
    ended(serve_each(listener, places, &stop, serve).await).await;
}
