//! A site is checked for broken links, with the template `orchestrator-workers`: a planner reads its index, workers
//! look at each page, an aggregator writes the report. The program is away for a while in the middle.
//!
//! `cargo run -p metamcp-examples --example orchestrator`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use metamcp_core::{MetaMcp, ServerDefinition, ServerKey};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

const PLAN: &str = r#"
const site = await (await fetch(parameters.site, { signal: ctx.signal })).text();
const links = [...site.matchAll(/href="([^"]+)"/g)].map(([, link]) => new URL(link, parameters.site).href);
return { subtasks: links.map((url) => ({ tool: 'check', arguments: { url } })) };
"#;

const CHECK: &str = r"
const response = await fetch(parameters.url, { signal: ctx.signal });
await response.arrayBuffer();
if (response.status >= 500) throw new Error(`answers ${response.status}`);
return { url: parameters.url, status: response.status };
";

const REPORT: &str = r"
const checked = parameters.results.filter(({ ok }) => ok).map(({ value }) => value);
return {
  checked: checked.length,
  broken: checked.filter(({ status }) => status >= 400).map(({ url }) => new URL(url).pathname),
  failed: parameters.results.length - checked.length,
};
";

fn definition() -> Result<ServerDefinition, serde_json::Error> {
    let url = json!({ "type": "string", "format": "uri", "required": true });
    serde_json::from_value(json!({
        "name": "link-check",
        "description": "Checks the links of a site.",
        "template": "orchestrator-workers",
        "options": { "planner": "plan", "aggregator": "report", "concurrency": 4, "retryDelayMs": 200 },
        "egress": ["127.0.0.1"],
        "tools": [
            { "name": "plan", "description": "Lists a site's links.", "parameters": { "site": url }, "implementation": PLAN },
            { "name": "check", "description": "Looks at a page.", "parameters": { "url": url },
              "annotations": { "readOnlyHint": true }, "implementation": CHECK },
            { "name": "report", "description": "Sums up.", "parameters": { "results": { "type": "array" } },
              "implementation": REPORT },
        ],
    }))
}

/// A site of slow pages, every tenth of which is missing.
async fn serve_site() -> Result<String, std::io::Error> {
    let links: Vec<_> = (1..=30).map(|page| format!(r#"<a href="/pages/{page}">{page}</a>"#)).collect();
    let index = links.concat();
    let page = |Path(number): Path<u32>| async move {
        sleep(Duration::from_millis(300)).await;
        if number % 10 == 0 { StatusCode::NOT_FOUND } else { StatusCode::OK }
    };
    let site = Router::new().route("/", get(move || async move { index.clone() })).route("/pages/{number}", get(page));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, site).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let site = serve_site().await?;
    let folder = tempfile::tempdir()?;
    let key: ServerKey = "link-check".parse()?;

    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    meta.servers().create(&definition()?).await?;
    let url = meta.deployments().deploy(&key).await?.url;
    println!("live at {url}");
    let client = connect_2026(url.as_str()).await?;
    let begun = call(&client, "run_job", json!({ "input": { "site": site }, "waitSeconds": 1 })).await?;
    println!("after a second:     {} {}", begun["status"], begun["progress"]);
    client.cancel().await?;
    close(meta).await?;

    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    let client = connect_2026(url.as_str()).await?;
    let ended = call(&client, "get_job", json!({ "job": begun["job"], "waitSeconds": 60 })).await?;
    println!("after a break:      {} {}", ended["status"], ended["progress"]);
    println!("the report:         {}", ended["result"]);
    client.cancel().await?;
    meta.deployments().remove(&key).await?;
    close(meta).await
}

/// A directory has one owner at a time: it is free once this value is gone.
async fn close(meta: MetaMcp) -> Result<(), Box<dyn Error>> {
    Ok(meta.close().await?)
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> Result<Value, Box<dyn Error>> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    result.structured_content.ok_or_else(|| format!("{tool}: {:?}", result.content).into())
}
