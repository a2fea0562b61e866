//! An MCP server from data to a live endpoint: defined, deployed, called, changed, rolled back, removed.
//!
//! `cargo run -p metamcp-examples --example quickstart` (add `-- --keep` to leave the server running).
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::time::Instant;

use clap::Parser;
use metamcp_core::{MetaMcp, ServerDefinition, ServerKey, edit};
use metamcp_examples::{Client, connect_2025, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::{CallToolRequestParams, GetPromptRequestParams, ReadResourceRequestParams};
use serde_json::{Value, json};

/// An MCP server from data to a live endpoint, on this machine
#[derive(Debug, Parser)]
struct Options {
    /// Leave the server running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// The server of `text-lab.json`, under a name of its own.
fn definition(name: &str) -> Result<ServerDefinition, Box<dyn Error>> {
    let mut definition: ServerDefinition = serde_json::from_str(include_str!("text-lab.json"))?;
    name.clone_into(&mut definition.name);
    Ok(definition)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Options { keep } = Options::parse();
    let folder = tempfile::tempdir()?;
    println!("opening a local Meta-MCP (the first time, npm installs workerd and esbuild)");
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;

    let key: ServerKey = "text-lab".parse()?;
    meta.servers().create(&definition("text-lab")?).await?;
    let first = meta.deployments().deploy(&key).await?;
    println!(
        "\ndeployed {} as version {} and verified it over MCP {}",
        first.name, first.version, first.verification.protocol_version
    );

    for (era, client) in [
        ("2025-11-25", connect_2025(first.url.as_str()).await?),
        ("2026-07-28", connect_2026(first.url.as_str()).await?),
    ] {
        println!("\na client of MCP {era}:");
        println!("  measure_text -> {}", call(&client, "measure_text", "It was a bright cold day in April.").await?);
        println!("  find_dates   -> {}", call(&client, "find_dates", "from 2026-01-01 to 2026-07-28").await?);
        let style = client.read_resource(ReadResourceRequestParams::new("text://style")).await?;
        println!("  text://style -> {}", serde_json::to_value(&style.contents[0])?["text"]);
        let arguments = json!({ "text": "A long story.", "words": "2" }).as_object().cloned().unwrap_or_default();
        let prompt = client.get_prompt(GetPromptRequestParams::new("shorten").with_arguments(arguments)).await?;
        println!("  shorten      -> {}", serde_json::to_value(&prompt.messages[0])?["content"]["text"]);
        client.cancel().await?;
    }

    println!("\na second version, whose measure_text counts sentences:");
    let change = |written: &ServerDefinition| {
        let mut tool = written.tools[0].clone();
        tool.implementation = "return `${parameters.text.split(/[.!?]+/).filter(Boolean).length} sentences`;".into();
        tool.examples[0].expected = "1 sentences".into();
        edit::update_tool(written, tool)
    };
    meta.servers().edit(&key, change).await?;
    let second = meta.deployments().deploy(&key).await?;
    let client = connect_2026(second.url.as_str()).await?;
    println!("  measure_text -> {}", call(&client, "measure_text", "One. Two. Three.").await?);
    meta.deployments().rollback(&key, &first.version).await?;
    println!("rolled back:\n  measure_text -> {}", call(&client, "measure_text", "One. Two. Three.").await?);
    for version in meta.deployments().versions(&key).await? {
        let live = if version.version == first.version { "live" } else { "" };
        println!("  version {} of revision {} {live}", version.version, version.revision);
    }

    println!("\na definition with three mistakes, and the answer it gets:");
    let mut wrong = definition("text-lab-2")?;
    wrong.tools[0].implementation = "const words = ;".into();
    wrong.tools[1].name = "find dates".into();
    wrong.prompts[0].template = Some("Shorten {{txt}}".into());
    if let Err(error) = meta.servers().create(&wrong).await {
        println!("{error}");
    }

    let warm = definition_to_first_answer(&meta).await?;
    println!(
        "\n{}",
        if keep { "it stays until Ctrl-C" } else { "it is removed as this program ends (-- --keep leaves it)" }
    );
    println!("live at {}\ndefinition to first answer: {warm} ms", first.url);
    if keep {
        tokio::signal::ctrl_c().await?;
    }
    client.cancel().await?;
    meta.deployments().remove(&key).await?;
    meta.close().await?;
    Ok(())
}

/// A second, warm server: from the definition in memory to a tool's answer through the gateway.
async fn definition_to_first_answer(meta: &MetaMcp) -> Result<u128, Box<dyn Error>> {
    let definition = definition("second")?;
    let started = Instant::now();
    let record = meta.servers().create(&definition).await?;
    let deployment = meta.deployments().deploy(&record.id.into()).await?;
    let client = connect_2026(deployment.url.as_str()).await?;
    call(&client, "measure_text", "the first answer").await?;
    let elapsed = started.elapsed().as_millis();
    client.cancel().await?;
    meta.deployments().remove(&record.id.into()).await?;
    Ok(elapsed)
}

async fn call(client: &Client, tool: &'static str, text: &str) -> Result<Value, Box<dyn Error>> {
    let arguments = json!({ "text": text }).as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    Ok(match result.structured_content {
        Some(structured) => structured,
        None => serde_json::to_value(&result.content[0])?["text"].take(),
    })
}
