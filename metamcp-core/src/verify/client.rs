//! An MCP client for an [`Endpoint`], over TCP or a Unix socket.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use rmcp::model::{
    ClientCapabilities, ClientConfig, PaginatedRequestParams, Prompt, ProtocolVersion, Resource, ResourceTemplate, Tool,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, Peer, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, UnixSocketHttpClient};
use rmcp::{RoleClient, model::Implementation};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;

use super::cause::{Cause, refuse_redirects};
use crate::json_size::json_size;
use crate::publisher::Endpoint;
use crate::{Error, ErrorKind, Result};

/// How long the client may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_millis(200);

/// Most pages that a list is read in.
const MAX_PAGES: usize = 200;
/// Size of a message, where nothing else is said: the list of thousands of tools is one.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// One client for all verifications. It keeps no idle connections: those would belong to the runtime that opened
/// them, and a program may have several.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let builder = reqwest::Client::builder().pool_max_idle_per_host(0).redirect(refuse_redirects());
    builder.build().unwrap_or_default()
});

/// Items, and where the next ones begin.
type Page<T> = Result<(Vec<T>, Option<String>), ServiceError>;

/// How much of its lists is taken from a server; what is left of it goes down as they are read.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Most items of one list.
    pub(crate) items: usize,
    /// Bytes of JSON that all lists together may have.
    pub(crate) bytes: usize,
}

impl Allowance {
    /// For a server of one's own: thousands of tools with everything that they say.
    pub(crate) fn generous() -> Self {
        Self { items: 10_000, bytes: 64 * 1024 * 1024 }
    }
}

/// A connected MCP client.
#[derive(Debug)]
pub(crate) struct McpClient {
    service: RunningService<RoleClient, ClientConfig>,
    url: String,
}

impl McpClient {
    /// Connects with the newest revision the server offers (2026-07-28, else by `initialize`).
    ///
    /// [`ErrorKind::Unauthenticated`] if the server asks for credentials, [`ErrorKind::Unavailable`] if it cannot be
    /// reached or says that it cannot answer now, [`ErrorKind::VerificationFailed`] if it does not speak MCP. The caller
    /// limits the time.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_with(endpoint, &HTTP, MAX_MESSAGE).await
    }

    /// The same for at most this many bytes in a message of the server's: a larger one is not read to its end.
    pub(crate) async fn connect_within(endpoint: &Endpoint, max_message: usize) -> Result<Self> {
        Self::connect_with(endpoint, &HTTP, max_message).await
    }

    /// The same with an HTTP client that decides what may be connected to.
    pub(crate) async fn connect_with(endpoint: &Endpoint, http: &reqwest::Client, max_message: usize) -> Result<Self> {
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        let config = config(endpoint)?.max_json_response_size(max_message).max_sse_event_size(max_message);
        let url = endpoint.url.to_string();
        let service = if let Some(socket) = &endpoint.socket {
            let client = UnixSocketHttpClient::new(&socket.to_string_lossy(), &url);
            let transport = StreamableHttpClientTransport::with_client(client, config);
            info().serve_with_lifecycle(transport, lifecycle).await
        } else {
            let transport = StreamableHttpClientTransport::with_client(http.clone(), config);
            info().serve_with_lifecycle(transport, lifecycle).await
        };
        let service = service.map_err(|error| {
            tracing::debug!(url, %error, "a server does not answer as an MCP server");
            Cause::of_connecting(&error).into_error(&format!("{url} does not answer as an MCP server"))
        })?;
        Ok(Self { service, url })
    }

    /// The revision that was agreed on.
    pub(crate) fn protocol_version(&self) -> String {
        self.service.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default()
    }

    /// What the server says it can do.
    pub(crate) fn capabilities(&self) -> Value {
        let capabilities = self.service.peer_info().map(|info| serde_json::to_value(&info.capabilities));
        capabilities.and_then(Result::ok).unwrap_or_default()
    }

    /// All tools, page by page.
    pub(crate) async fn list_tools(&self) -> Result<Vec<Tool>> {
        self.list_tools_within(&mut Allowance::generous()).await
    }

    /// All tools, if they are not more than what is allowed.
    pub(crate) async fn list_tools_within(&self, allowance: &mut Allowance) -> Result<Vec<Tool>> {
        let page = |at| async move { self.peer().list_tools(at).await.map(|page| (page.tools, page.next_cursor)) };
        self.collected("tools/list", allowance, |at| page(at).boxed()).await
    }

    /// All resources, page by page.
    pub(crate) async fn list_resources(&self) -> Result<Vec<Resource>> {
        self.collected("resources/list", &mut Allowance::generous(), |at| self.resources(at).boxed()).await
    }

    /// How many resources there are; none is kept.
    pub(crate) async fn count_resources(&self, allowance: &mut Allowance) -> Result<usize> {
        self.pages("resources/list", allowance, |at| self.resources(at).boxed(), drop).await
    }

    /// All resource templates, page by page.
    pub(crate) async fn list_resource_templates(&self) -> Result<Vec<ResourceTemplate>> {
        let page = |at| async move {
            let listed = self.peer().list_resource_templates(at).await;
            listed.map(|page| (page.resource_templates, page.next_cursor))
        };
        self.collected("resources/templates/list", &mut Allowance::generous(), |at| page(at).boxed()).await
    }

    /// All prompts, page by page.
    pub(crate) async fn list_prompts(&self) -> Result<Vec<Prompt>> {
        self.collected("prompts/list", &mut Allowance::generous(), |at| self.prompts(at).boxed()).await
    }

    /// How many prompts there are; none is kept.
    pub(crate) async fn count_prompts(&self, allowance: &mut Allowance) -> Result<usize> {
        self.pages("prompts/list", allowance, |at| self.prompts(at).boxed(), drop).await
    }

    async fn resources(&self, at: Option<PaginatedRequestParams>) -> Page<Resource> {
        self.peer().list_resources(at).await.map(|page| (page.resources, page.next_cursor))
    }

    async fn prompts(&self, at: Option<PaginatedRequestParams>) -> Page<Prompt> {
        self.peer().list_prompts(at).await.map(|page| (page.prompts, page.next_cursor))
    }

    async fn collected<'a, T: Serialize>(
        &'a self,
        method: &str,
        allowance: &mut Allowance,
        page: impl Fn(Option<PaginatedRequestParams>) -> BoxFuture<'a, Page<T>>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.pages(method, allowance, page, |listed| items.extend(listed)).await?;
        Ok(items)
    }

    /// Reads a list page by page and says how many items it has; [`ErrorKind::LimitExceeded`] for one that is larger
    /// than what is allowed or has no end.
    async fn pages<'a, T: Serialize>(
        &'a self,
        method: &str,
        allowance: &mut Allowance,
        page: impl Fn(Option<PaginatedRequestParams>) -> BoxFuture<'a, Page<T>>,
        mut take: impl FnMut(Vec<T>),
    ) -> Result<usize> {
        let too_much = |what: String| {
            Error::new(ErrorKind::LimitExceeded, format!("{method} of {} gives more than {what}", self.url))
        };
        let (most_bytes, mut count, mut cursor) = (allowance.bytes, 0, None);
        for _ in 0..MAX_PAGES {
            let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let (listed, next) = page(params).await.map_err(|error| self.failed(method, &error))?;
            count += listed.len();
            if count > allowance.items {
                return Err(too_much(format!("{} items", allowance.items)));
            }
            let left = allowance.bytes.checked_sub(json_size(&listed));
            allowance.bytes = left.ok_or_else(|| too_much(format!("the {most_bytes} bytes that are left for it")))?;
            take(listed);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(count),
            }
        }
        Err(too_much(format!("{MAX_PAGES} pages")))
    }

    /// rmcp's own handle, for every other request.
    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        &self.service
    }

    /// Ends the connection; an answer to the goodbye is not waited for long.
    pub(crate) async fn close(mut self) {
        if self.service.close_with_timeout(CLOSE_LIMIT).await.is_err() {
            tracing::debug!(url = self.url, "the MCP client's task ended badly");
        }
    }

    pub(super) fn failed(&self, method: &str, error: &ServiceError) -> Error {
        tracing::debug!(url = self.url, method, %error, "a request of an MCP server failed");
        Cause::of_asking(error).into_error(&format!("{method} of {} failed", self.url))
    }
}

fn info() -> ClientConfig {
    ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp", env!("CARGO_PKG_VERSION")))
}

fn config(endpoint: &Endpoint) -> Result<StreamableHttpClientTransportConfig> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(endpoint.url.as_str());
    let mut headers = HashMap::new();
    for (name, value) in &endpoint.headers {
        let value = value.expose_secret();
        if name.eq_ignore_ascii_case("authorization")
            && let Some(token) = value.strip_prefix("Bearer ")
        {
            config.auth_header = Some(token.to_owned());
            continue;
        }
        let invalid = || Error::new(ErrorKind::ConfigInvalid, format!("header {name:?} of the endpoint is not valid"));
        let header = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    config.custom_headers = headers;
    Ok(config)
}
