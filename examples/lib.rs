//! What the examples share: an MCP client of either protocol era.

use std::error::Error;

use rmcp::RoleClient;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;

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
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-example", "1.0.0"));
    Ok(client.serve_with_lifecycle(transport, lifecycle).await?)
}
