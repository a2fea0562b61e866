//! Many calls for one question: three checks vote on each comment, one check runs over all comments, and of several
//! translators the first answer counts.
//!
//! `cargo run -p metamcp-examples --example parallelisation`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::time::Instant;

use metamcp_core::{ServerDefinition, ServerKey};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

const COMMENTS: [&str; 4] = [
    "Thanks, this saved my day.",
    "YOU ARE A WINNER: collect your PRIZE at http://a.example or http://b.example",
    "Is there a free version?",
    "+1",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    println!("opening a local Meta-MCP (the first time, npm installs workerd and esbuild)");
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;

    let definition: ServerDefinition = serde_json::from_str(include_str!("moderation.json"))?;
    let key: ServerKey = meta.servers().create(&definition).await?.id.into();
    let deployment = meta.deployments().deploy(&key).await?;
    let client = connect_2026(deployment.url.as_str()).await?;
    println!("{} is live at {}", deployment.name, deployment.url);

    println!("\nthree checks vote on each comment:");
    for comment in COMMENTS {
        let tools = ["by_words", "by_links", "by_shouting"];
        let vote = json!({ "tools": tools, "input": { "comment": comment }, "aggregate": "vote" });
        let outcome = call(&client, "fan_out", &vote).await?;
        println!("  {} with {} of {} votes: {comment}", outcome["value"], outcome["votes"][0]["count"], tools.len());
    }

    println!("\none check over all comments, one of which it cannot judge:");
    let inputs = COMMENTS.map(|comment| json!({ "comment": comment }));
    let outcome = call(&client, "map", &json!({ "tool": "by_shouting", "inputs": inputs })).await?;
    for end in outcome["results"].as_array().into_iter().flatten() {
        println!("  {}: {}", end["index"], if end["ok"] == true { &end["value"] } else { &end["error"] });
    }

    println!("\nthe first of four translators:");
    let inputs = ["closed", "furthest", "far", "near"]
        .map(|translator| json!({ "translator": translator, "comment": COMMENTS[0] }));
    let started = Instant::now();
    let outcome = call(&client, "map", &json!({ "tool": "translate", "inputs": inputs, "aggregate": "first" })).await?;
    println!("  {} after {} ms", outcome["value"], started.elapsed().as_millis());

    client.cancel().await?;
    meta.deployments().remove(&key).await?;
    meta.close().await?;
    Ok(())
}

/// The structured content that a tool answers with.
async fn call(client: &Client, tool: &'static str, arguments: &Value) -> Result<Value, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    Ok(result.structured_content.ok_or("structured content was expected")?)
}
