//! A server for the official MCP conformance suite, defined as any other and deployed on this machine.
//!
//! `cargo run -p metamcp-examples --example conformance_server` prints `listening on URL` and runs until Ctrl-C;
//! `conformance server --url URL --requirements 2026-07-28` then checks it. With `-- --tasks` the same server is of the
//! template `agent-task-manager`, and has the tools that the suite's scenarios of the tasks extension ask for.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use clap::Parser;
use metamcp_core::{ServerDefinition, ServerKey};
use metamcp_local::LocalConfig;

/// A server for the official MCP conformance suite
#[derive(Debug, Parser)]
struct Options {
    /// Offer the tasks extension too
    #[arg(long)]
    tasks: bool,
}

fn definition(options: &Options) -> serde_json::Result<ServerDefinition> {
    let plain: ServerDefinition = serde_json::from_str(include_str!("conformance-server.json"))?;
    if !options.tasks {
        return Ok(plain);
    }
    let mut tasks: ServerDefinition = serde_json::from_str(include_str!("conformance-tasks.json"))?;
    tasks.tools = [plain.tools, tasks.tools].concat();
    tasks.resources = plain.resources;
    tasks.prompts = plain.prompts;
    tasks.sessions = plain.sessions;
    tasks.cache = plain.cache;
    Ok(tasks)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    let definition = definition(&options)?;
    meta.servers().create(&definition).await?;
    let deployment = meta.deployments().deploy(&definition.name.parse::<ServerKey>()?).await?;
    println!("listening on {}", deployment.url);
    tokio::signal::ctrl_c().await?;
    meta.close().await?;
    Ok(())
}
