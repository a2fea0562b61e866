//! Tools that call tools: an invoice is made from prices, a price is asked for again where the supplier fails, and
//! `batch` makes many invoices at once, one of which cannot be made.
//!
//! `cargo run -p metamcp-examples --example tool_calling`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;

use metamcp_core::{ServerDefinition, ServerKey};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    println!("opening a local Meta-MCP (the first time, npm installs workerd and esbuild)");
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;

    let definition: ServerDefinition = serde_json::from_str(include_str!("invoices.json"))?;
    let key: ServerKey = meta.servers().create(&definition).await?.id.into();
    let deployment = meta.deployments().deploy(&key).await?;
    let client = connect_2026(deployment.url.as_str()).await?;
    println!("{} is live at {}", deployment.name, deployment.url);

    let order = json!([{ "item": "bolt", "quantity": 100 }, { "item": "wrench", "quantity": 1 }]);
    let invoice = call(&client, "invoice", &json!({ "customer": "Ada", "order": order })).await?;
    println!("\none invoice, for which the supplier was asked twice for each price:\n  {}", text(&invoice)?);

    let orders = [("Grace", "nut", 12), ("Alan", "sprocket", 1), ("Edsger", "bolt", 3), ("Barbara", "wrench", 2)];
    let calls = orders.map(|(customer, item, quantity)| {
        let order = [json!({ "item": item, "quantity": quantity })];
        json!({ "tool": "invoice", "arguments": { "customer": customer, "order": order } })
    });
    let batch = call(&client, "batch", &json!({ "calls": calls })).await?;
    let outcome = batch.structured_content.ok_or("a batch answers with structured content")?;
    println!("\na batch of {}: {} succeeded, {} failed", calls.len(), outcome["succeeded"], outcome["failed"]);
    for ((customer, ..), end) in orders.iter().zip(outcome["results"].as_array().into_iter().flatten()) {
        match end["value"].as_str() {
            Some(invoice) => println!("  {invoice}"),
            None => println!("  {customer}: {} ({})", end["error"], end["reason"]),
        }
    }

    client.cancel().await?;
    meta.deployments().remove(&key).await?;
    meta.close().await?;
    Ok(())
}

async fn call(client: &Client, tool: &'static str, arguments: &Value) -> Result<CallToolResult, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    Ok(client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?)
}

fn text(result: &CallToolResult) -> Result<&str, Box<dyn Error>> {
    Ok(&result.content[0].as_text().ok_or("a text was expected")?.text)
}
