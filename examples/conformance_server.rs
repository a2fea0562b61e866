//! A server for the official MCP conformance suite, defined as any other and deployed on this machine.
//!
//! `cargo run -p metamcp-examples --example conformance_server` prints `listening on URL` and runs until Ctrl-C;
//! `conformance server --url URL --requirements 2026-07-28` then checks it.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use metamcp_core::{ServerDefinition, ServerKey};
use metamcp_local::LocalConfig;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    let definition: ServerDefinition = serde_json::from_str(include_str!("conformance-server.json"))?;
    meta.servers().create(&definition).await?;
    let deployment = meta.deployments().deploy(&definition.name.parse::<ServerKey>()?).await?;
    println!("listening on {}", deployment.url);
    tokio::signal::ctrl_c().await?;
    meta.close().await?;
    Ok(())
}
