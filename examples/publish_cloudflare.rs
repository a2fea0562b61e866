//! The quickstart's server on Cloudflare: defined, deployed to an account, called.
//!
//! `cargo run -p metamcp-examples --example publish_cloudflare -- --plan` says what it would create.
//! Without `--plan` it needs `CLOUDFLARE_ACCOUNT_ID` and `CLOUDFLARE_API_TOKEN`; `--remove` takes the server down again.
//! An emulator takes the account's place: see the README of `metamcp-cloudflare`.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use metamcp_cloudflare::CloudflareConfig;
use metamcp_core::{ErrorKind, MetaMcp, ServerDefinition, ServerKey};
use metamcp_examples::connect_2026;
use rmcp::model::CallToolRequestParams;
use serde_json::json;

const PLAN: &str = "\
in the account it would make, unless they are there already
  D1 database            meta-mcp-db    definitions, versions and their modules
  Workers KV namespace   META_MCP_KV    what may be forgotten
  Worker                 text-lab       the server, at https://text-lab.<your subdomain>.workers.dev/mcp
cost: nothing on the Workers Free plan, within its daily limits;
  https://developers.cloudflare.com/workers/platform/pricing/
the API token needs: Workers Scripts Edit, Workers KV Storage Edit, D1 Edit, Account Settings Read";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("--plan") {
        println!("{PLAN}");
        return Ok(());
    }
    let meta = metamcp_cloudflare::open(CloudflareConfig::from_env()?).await?;
    let key: ServerKey = "text-lab".parse()?;
    if asked("--remove") {
        meta.deployments().remove(&key).await?;
        println!("text-lab is removed");
    } else {
        deploy_and_call(&meta, &key).await?;
    }
    meta.close().await?;
    Ok(())
}

async fn deploy_and_call(meta: &MetaMcp, key: &ServerKey) -> Result<(), Box<dyn Error>> {
    let definition: ServerDefinition = serde_json::from_str(include_str!("text-lab.json"))?;
    match meta.servers().create(&definition).await {
        Ok(_) => {}
        // From an earlier run: the definition of this one takes its place.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            meta.servers().edit(key, |_| Ok(definition.clone())).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let deployed = meta.deployments().deploy(key).await?;
    println!("live at {} as version {}", deployed.url, deployed.version);

    let client = connect_2026(deployed.url.as_str()).await?;
    let arguments = json!({ "text": "It was a bright cold day in April." }).as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new("measure_text").with_arguments(arguments)).await?;
    println!("measure_text -> {}", serde_json::to_value(&result.content[0])?["text"]);
    client.cancel().await?;
    Ok(())
}
