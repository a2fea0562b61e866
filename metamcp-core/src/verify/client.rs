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
use serde_json::Value;

use crate::publisher::Endpoint;
use crate::{Error, ErrorKind, Result};

/// How long the client may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_millis(200);

/// Longest list that is read to its end.
const MAX_ITEMS: usize = 10_000;
const MAX_PAGES: usize = 200;

/// One client for all verifications. It keeps no idle connections: those would belong to the runtime that opened
/// them, and a program may have several.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let builder = reqwest::Client::builder().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none());
    builder.build().unwrap_or_default()
});

/// Items, and where the next ones begin.
type Page<T> = Result<(Vec<T>, Option<String>), ServiceError>;

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
    /// reached or does not speak MCP. The caller limits the time.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_with(endpoint, &HTTP).await
    }

    /// The same with an HTTP client that decides what may be connected to.
    pub(crate) async fn connect_with(endpoint: &Endpoint, http: &reqwest::Client) -> Result<Self> {
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        let config = config(endpoint)?;
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
            let challenged = error.auth_challenge().is_some();
            let kind = if challenged { ErrorKind::Unauthenticated } else { ErrorKind::Unavailable };
            Error::new(kind, format!("{url} does not answer as an MCP server")).with_source(error)
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
        let page = |at| async move { self.peer().list_tools(at).await.map(|page| (page.tools, page.next_cursor)) };
        self.pages("tools/list", |at| page(at).boxed()).await
    }

    /// All resources, page by page.
    pub(crate) async fn list_resources(&self) -> Result<Vec<Resource>> {
        let page =
            |at| async move { self.peer().list_resources(at).await.map(|page| (page.resources, page.next_cursor)) };
        self.pages("resources/list", |at| page(at).boxed()).await
    }

    /// All resource templates, page by page.
    pub(crate) async fn list_resource_templates(&self) -> Result<Vec<ResourceTemplate>> {
        let page = |at| async move {
            let listed = self.peer().list_resource_templates(at).await;
            listed.map(|page| (page.resource_templates, page.next_cursor))
        };
        self.pages("resources/templates/list", |at| page(at).boxed()).await
    }

    /// All prompts, page by page.
    pub(crate) async fn list_prompts(&self) -> Result<Vec<Prompt>> {
        let page = |at| async move { self.peer().list_prompts(at).await.map(|page| (page.prompts, page.next_cursor)) };
        self.pages("prompts/list", |at| page(at).boxed()).await
    }

    /// A whole list; [`ErrorKind::LimitExceeded`] for one that has no end.
    async fn pages<'a, T>(
        &'a self,
        method: &str,
        page: impl Fn(Option<PaginatedRequestParams>) -> BoxFuture<'a, Page<T>>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let (listed, next) = page(params).await.map_err(|error| self.failed(method, &error))?;
            items.extend(listed);
            if items.len() > MAX_ITEMS {
                break;
            }
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
        let message = format!("{method} of {} gives more than {MAX_ITEMS} items or {MAX_PAGES} pages", self.url);
        Err(Error::new(ErrorKind::LimitExceeded, message))
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
        Error::new(ErrorKind::VerificationFailed, format!("{method} of {} failed: {error}", self.url))
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
