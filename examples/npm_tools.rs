//! A server whose tools import npm packages: installed and bundled in a container without network, then run like any
//! other server.
//!
//! Needs a Docker engine. `cargo run -p metamcp-examples --example npm_tools`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::time::Instant;

use metamcp_core::{ServerDefinition, ServerKey, edit};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

fn definition() -> Result<ServerDefinition, serde_json::Error> {
    serde_json::from_value(json!({
        "name": "npm-tools",
        "description": "Versions and texts, by packages from npm.",
        "dependencies": { "semver": "7.7.2", "marked": "16.1.1" },
        "tools": [
            {
                "name": "newest_matching",
                "description": "The newest of some versions that is in a range.",
                "parameters": {
                    "versions": { "type": "array", "items": { "type": "string" }, "required": true },
                    "range": { "type": "string", "required": true }
                },
                "implementation": "const { maxSatisfying } = await import('semver');\nreturn { newest: maxSatisfying(parameters.versions, parameters.range) };"
            },
            {
                "name": "markdown_to_html",
                "description": "Markdown as HTML.",
                "parameters": { "text": { "type": "string", "required": true } },
                "implementation": "const { marked } = await import('marked');\nreturn { html: marked.parse(parameters.text) };"
            }
        ]
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut config = LocalConfig::from_env()?;
    config.data_dir = folder.path().to_owned();
    println!("opening a local Meta-MCP (the first build of all makes an image, which takes a while)");
    let meta = metamcp_local::open(config).await?;

    let key: ServerKey = "npm-tools".parse()?;
    let started = Instant::now();
    meta.servers().create(&definition()?).await?;
    let deployment = meta.deployments().deploy(&key).await?;
    let client = connect_2026(deployment.url.as_str()).await?;
    let newest = json!({ "versions": ["1.2.0", "1.9.3", "2.0.0"], "range": "^1.2" });
    let answer = call(&client, "newest_matching", newest).await?;
    let elapsed = started.elapsed().as_millis();
    println!("newest_matching -> {answer}");
    println!("markdown_to_html -> {}", call(&client, "markdown_to_html", json!({ "text": "# Hi\n*there*" })).await?);
    client.cancel().await?;

    println!("\na change of a body needs no container: the packages are bundled already");
    let change = |written: &ServerDefinition| {
        let mut tool = written.tools[1].clone();
        tool.implementation =
            "const { marked } = await import('marked');\nreturn { html: marked.parseInline(parameters.text) };".into();
        edit::update_tool(written, tool)
    };
    let changed = Instant::now();
    meta.servers().edit(&key, change).await?;
    let deployment = meta.deployments().deploy(&key).await?;
    println!("deployed in {} ms", changed.elapsed().as_millis());
    let client = connect_2026(deployment.url.as_str()).await?;
    println!("markdown_to_html -> {}", call(&client, "markdown_to_html", json!({ "text": "*there*" })).await?);
    client.cancel().await?;

    meta.deployments().remove(&key).await?;
    meta.close().await?;
    println!("definition to first answer: {elapsed} ms");
    Ok(())
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> Result<Value, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    if result.is_error == Some(true) {
        return Err(format!("{tool} failed: {:?}", result.content).into());
    }
    let text = serde_json::to_value(&result.content[0])?["text"].take();
    Ok(serde_json::from_str(text.as_str().unwrap_or_default())?)
}
