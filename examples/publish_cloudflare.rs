//! The quickstart's server on Cloudflare: defined, deployed to an account, called.
//!
//! `cargo run -p metamcp-examples --example publish_cloudflare -- --plan` says what it would create.
//! Without `--plan` it needs `CLOUDFLARE_ACCOUNT_ID` and `CLOUDFLARE_API_TOKEN`; `--remove` takes the server down again.
//! An emulator takes the account's place: see the README of `metamcp-cloudflare`.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use clap::Parser;
use metamcp_cloudflare::{CloudflareConfig, Placement};
use metamcp_core::{ErrorKind, MetaMcp, ServerDefinition, ServerKey};
use metamcp_examples::connect_2026;
use rmcp::model::CallToolRequestParams;
use serde_json::json;

const WORKERS_PRICING: &str = "https://developers.cloudflare.com/workers/platform/pricing/";
const PLATFORMS_PRICING: &str =
    "https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/platform/pricing/";
const CONTAINERS_PRICING: &str = "https://developers.cloudflare.com/containers/pricing/";
const TOKEN: &str =
    "the API token needs: Workers Scripts Edit, Workers KV Storage Edit, D1 Edit, Account Settings Read";
/// Where the plan names no account.
const NO_ACCOUNT: &str = "00000000000000000000000000000000";

/// The quickstart's server on Cloudflare: defined, deployed to the account of the environment, called
#[derive(Debug, Parser)]
struct Options {
    /// Only say what it would create, and what that costs at least
    #[arg(long)]
    plan: bool,
    /// Take the server down again
    #[arg(long, conflicts_with = "plan")]
    remove: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.plan {
        print!("{}", plan(&planned()?));
        return Ok(());
    }
    let meta = metamcp_cloudflare::open(CloudflareConfig::from_env()?).await?;
    let key: ServerKey = "text-lab".parse()?;
    if options.remove {
        match meta.deployments().remove(&key).await {
            Ok(()) => println!("text-lab is removed"),
            Err(error) if error.kind() == ErrorKind::NotFound => println!("text-lab is removed already"),
            Err(error) => return Err(error.into()),
        }
    } else {
        deploy_and_call(&meta, &key).await?;
    }
    meta.close().await?;
    Ok(())
}

/// The configuration of the environment; the default one where that names no account yet.
fn planned() -> metamcp_core::Result<CloudflareConfig> {
    if std::env::var_os("CLOUDFLARE_ACCOUNT_ID").is_some() {
        return CloudflareConfig::from_env();
    }
    println!("CLOUDFLARE_ACCOUNT_ID is not set: with the default configuration");
    CloudflareConfig::new(NO_ACCOUNT, "none".into())
}

/// What would be made, and what it costs at least; prices as of November 2026. Asks nobody.
fn plan(config: &CloudflareConfig) -> String {
    let mut made = vec![
        row("D1 database", config.database(), "definitions, versions and their modules"),
        row("Workers KV namespace", config.namespace(), "what may be forgotten"),
    ];
    let mut costs = vec![(0, "Workers, D1 and KV on the Workers Free plan, within its daily limits", WORKERS_PRICING)];
    match config.placement() {
        Placement::DispatchNamespace(name) => {
            let dispatcher = format!("{name}-dispatcher");
            let url = format!("the server, at https://{dispatcher}.<your subdomain>.workers.dev/text-lab/mcp");
            made.push(row("dispatch namespace", name, "where servers are"));
            made.push(row("Worker", &dispatcher, "calls them"));
            made.push(row("Worker", &format!("{name}-outbound"), "sends on what they request, or does not"));
            made.push(row("Worker in it", "text-lab", &url));
            costs.push((25, "the plan Workers for Platforms", PLATFORMS_PRICING));
        }
        _ => made.push(row("Worker", "text-lab", "the server, at https://text-lab.<your subdomain>.workers.dev/mcp")),
    }
    if config.container_manager().is_some() {
        let paid = "the Workers Paid plan, for the Container Manager; what containers use beyond it is billed";
        costs.push((5, paid, CONTAINERS_PRICING));
    }
    let least = costs.iter().map(|(dollars, ..)| *dollars).max().unwrap_or_default();
    let costs = costs.iter().map(|(dollars, what, page)| format!("  from ${dollars:<3} {what}\n            {page}\n"));
    format!(
        "in the account it would make, unless they are there already\n{}cost: at least ${least} a month\n{}{TOKEN}\n",
        made.concat(),
        costs.collect::<String>()
    )
}

fn row(kind: &str, name: &str, purpose: &str) -> String {
    format!("  {kind:21} {name:20} {purpose}\n")
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
