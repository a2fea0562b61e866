//! Work in the background: a queue that goes on by itself and keeps what it has done, whoever opens it.
//!
//! `cargo run -p metamcp-examples --example task_manager`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use metamcp_core::{MetaMcp, ServerDefinition, ServerKey};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

const TEXTS: [(&str, &str); 3] = [
    ("a novel", "It was a bright cold day in April, and the clocks were striking thirteen."),
    ("a telegram", "Arrived. All well. Send money."),
    ("a licence", "Permission is hereby granted, free of charge, to any person obtaining a copy of this software."),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (report, url) = begin(folder.path()).await?;
    println!("Meta-MCP is closed; what was enqueued is on disk\n");

    let meta = open(folder.path()).await?;
    let client = connect_2026(&url).await?;
    let task = loop {
        let task = use_tool(&client, "get_task", json!({ "id": report })).await?;
        println!("  the report is {}", task["status"]);
        if task["endedAt"].is_string() {
            break task;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("\n{}\n", task["result"]["content"][0]["text"].as_str().unwrap_or_default());
    for attempt in task["history"].as_array().into_iter().flatten() {
        println!("attempt {}: {}", attempt["number"], attempt["outcome"]);
    }
    client.cancel().await?;
    meta.close().await?;
    Ok(())
}

async fn open(folder: &Path) -> Result<MetaMcp, Box<dyn Error>> {
    Ok(metamcp_local::open(LocalConfig::new(folder)).await?)
}

/// Deploys the server of `readability.json` and enqueues a report about all texts: its id, and the server's URL.
async fn begin(folder: &Path) -> Result<(Value, String), Box<dyn Error>> {
    let meta = open(folder).await?;
    let definition: ServerDefinition = serde_json::from_str(include_str!("readability.json"))?;
    meta.servers().create(&definition).await?;
    let deployment = meta.deployments().deploy(&definition.name.parse::<ServerKey>()?).await?;
    println!("deployed {} at {}\n", deployment.name, deployment.url);

    let client = connect_2026(deployment.url.as_str()).await?;
    let mut measures = Vec::new();
    for (title, text) in TEXTS {
        let task = json!({ "tool": "measure", "arguments": { "title": title, "text": text }, "delayMs": 1000 });
        measures.push(use_tool(&client, "enqueue_task", task).await?["id"].take());
    }
    // Each reference is a dependency: the report waits for all three.
    let results: Vec<_> = measures.iter().map(|id| json!({ "$result": id })).collect();
    let report = json!({ "tool": "rank", "arguments": { "measures": results }, "idempotencyKey": "report" });
    let report = use_tool(&client, "enqueue_task", report).await?["id"].take();

    let tasks = use_tool(&client, "list_tasks", json!({})).await?;
    for task in tasks["tasks"].as_array().into_iter().flatten() {
        println!("  {} is {}", task["tool"], task["status"]);
    }
    client.cancel().await?;
    meta.close().await?;
    Ok((report, deployment.url.to_string()))
}

async fn use_tool(client: &Client, tool: &'static str, arguments: Value) -> Result<Value, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    result.structured_content.ok_or_else(|| format!("{tool}: {:?}", result.content).into())
}
