//! What the examples share: an MCP client of either protocol era, and the log.

pub mod telemetry;

use std::error::Error;
use std::sync::LazyLock;

use rmcp::RoleClient;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

/// One HTTP client for all connections: making one reads every root certificate of the system.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

/// A connected rmcp client.
pub type Client = RunningService<RoleClient, ClientConfig>;

/// Connects by the `initialize` handshake of the 2025 revisions.
pub async fn connect_2025(url: &str) -> Result<Client, Box<dyn Error>> {
    connect(url, ClientLifecycleMode::Initialize).await
}

/// Connects by `server/discover`, as revision 2026-07-28 does.
pub async fn connect_2026(url: &str) -> Result<Client, Box<dyn Error>> {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    connect(url, ClientLifecycleMode::Discover { preferred_versions }).await
}

async fn connect(url: &str, lifecycle: ClientLifecycleMode) -> Result<Client, Box<dyn Error>> {
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(HTTP.clone(), config);
    let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-example", "1.0.0"));
    Ok(client.serve_with_lifecycle(transport, lifecycle).await?)
}
