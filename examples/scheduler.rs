//! A server that watches a web page by the clock, with the template `agent-scheduler`: the history of its runs is the
//! history of the page, and it goes on where it was after the program was away.
//!
//! `cargo run -p metamcp-examples --example scheduler`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metamcp_core::{MetaMcp, ServerDefinition, ServerKey};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

const LOOK: &str = r"
const response = await fetch(parameters.url, { signal: ctx.signal });
if (!response.ok) throw new Error(`${parameters.url} answers ${response.status}`);
const page = await response.text();
return /<title>(.*?)<\/title>/s.exec(page)?.[1] ?? 'a page without a title';
";

fn definition() -> Result<ServerDefinition, serde_json::Error> {
    let url = json!({ "type": "string", "format": "uri", "required": true });
    serde_json::from_value(json!({
        "name": "page-watch",
        "description": "Looks at web pages by the clock.",
        "template": "agent-scheduler",
        "options": { "leastEverySeconds": 1 },
        "egress": ["127.0.0.1"],
        "tools": [{ "name": "look", "description": "Says what a page is called.",
                    "parameters": { "url": url }, "implementation": LOOK }],
    }))
}

/// A page whose title can be changed.
async fn serve_page() -> Result<(String, Arc<Mutex<&'static str>>), std::io::Error> {
    let title = Arc::new(Mutex::new("Under construction"));
    let shown = Arc::clone(&title);
    let page =
        move || async move { format!("<title>{}</title>", shown.lock().unwrap_or_else(PoisonError::into_inner)) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(page))).await });
    Ok((url, title))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (page, title) = serve_page().await?;
    let folder = tempfile::tempdir()?;
    let key: ServerKey = "page-watch".parse()?;

    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    meta.servers().create(&definition()?).await?;
    let url = meta.deployments().deploy(&key).await?.url;
    let client = connect_2026(url.as_str()).await?;
    println!("live at {url}\n\na cron line with a mistake:");
    let never = json!({ "name": "never", "tool": "look", "arguments": { "url": page }, "cron": "0 9 31 2 *" });
    println!("  {}", call(&client, "create_schedule", never).await?);

    println!("\nevery second:");
    let arguments = json!({ "name": "front", "tool": "look", "arguments": { "url": page }, "every": "1s" });
    call(&client, "create_schedule", arguments).await?;
    sleep(Duration::from_secs(3)).await;
    *title.lock().unwrap_or_else(PoisonError::into_inner) = "Open for business";
    sleep(Duration::from_secs(2)).await;
    show_history(&client).await?;
    client.cancel().await?;

    println!("\nafter four seconds away:");
    close(meta).await?;
    sleep(Duration::from_secs(4)).await;
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    let client = connect_2026(url.as_str()).await?;
    sleep(Duration::from_secs(2)).await;
    show_history(&client).await?;
    client.cancel().await?;
    meta.deployments().remove(&key).await?;
    close(meta).await
}

async fn show_history(client: &Client) -> Result<(), Box<dyn Error>> {
    let answer: Value = serde_json::from_str(&call(client, "list_runs", json!({ "name": "front" })).await?)?;
    for run in answer["runs"].as_array().into_iter().flatten().rev() {
        let late = if run["late"] == true { ", late" } else { "" };
        println!("  due {} {}{late}: {}", run["dueAt"], run["status"], run["output"]);
    }
    Ok(())
}

/// A directory has one owner at a time: it is free once this value is gone.
async fn close(meta: MetaMcp) -> Result<(), Box<dyn Error>> {
    Ok(meta.close().await?)
}

/// The text of a tool's answer, or of its error.
async fn call(client: &Client, tool: &'static str, arguments: Value) -> Result<String, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    Ok(serde_json::to_value(&result.content[0])?["text"].as_str().unwrap_or_default().to_owned())
}
