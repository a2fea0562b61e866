//! A multi-step workflow: a routing server in front of three MCP servers, a database, a REST API and a storage. A tool
//! of its own asks all of them and puts their answers together.
//!
//! `cargo run -p metamcp-examples --example workflow`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::collections::BTreeMap;
use std::error::Error;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use metamcp_core::{MetaMcp, ServerDefinition};
use metamcp_examples::{Client, connect_2026};
use metamcp_local::LocalConfig;
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let meta = metamcp_local::open(LocalConfig::new(folder.path())).await?;
    let mut definitions: BTreeMap<String, ServerDefinition> = serde_json::from_str(include_str!("workflow.json"))?;
    let mut take = |name: &str| definitions.remove(name).ok_or(format!("workflow.json has no {name}"));

    let database = deploy(&meta, &take("database")?).await?;
    let mut carrier = take("carrier")?;
    carrier.vars.insert("CARRIER_URL".into(), serve_carrier().await?.into());
    // A private address has to be allowed by name.
    carrier.egress = Some(vec!["127.0.0.1".into()]);
    let carrier = deploy(&meta, &carrier).await?;
    let mut storage = take("storage")?;
    let first = deploy(&meta, &storage).await?;
    storage.name = "notes-storage-2".into();
    let second = deploy(&meta, &storage).await?;

    let mut router = take("router")?;
    let replicas =
        [json!([{ "url": database }]), json!([{ "url": carrier }]), json!([{ "url": first }, { "url": second }])];
    for (index, replicas) in replicas.into_iter().enumerate() {
        router.options["upstreams"][index]["replicas"] = replicas;
    }
    let client = connect_2026(&deploy(&meta, &router).await?).await?;
    println!("\nthe router lists:");
    for tool in client.list_all_tools().await? {
        println!("  {:<22} {}", tool.name, tool.description.unwrap_or_default());
    }
    println!("\nwhat ada is told:\n{}", report(&client).await?);

    meta.deployments().remove(&"notes-storage".parse()?).await?;
    println!("\none of two replicas of the storage is gone; what ada is told:\n{}", report(&client).await?);
    println!("{}", states(&client).await?);

    meta.deployments().remove(&"notes-storage-2".parse()?).await?;
    println!("\nso is the other; what ada is told:\n{}", report(&client).await?);
    println!("{}", states(&client).await?);

    client.cancel().await?;
    meta.close().await?;
    Ok(())
}

/// Defines a server and makes it live; its URL.
async fn deploy(meta: &MetaMcp, definition: &ServerDefinition) -> Result<String, Box<dyn Error>> {
    let record = meta.servers().create(definition).await?;
    let deployment = meta.deployments().deploy(&record.id.into()).await?;
    println!("deployed {} at {}", deployment.name, deployment.url);
    Ok(deployment.url.into())
}

/// Stands in for a carrier's REST API; its URL.
async fn serve_carrier() -> Result<String, Box<dyn Error>> {
    let track = |Path(shipment): Path<String>| async move {
        let place = if shipment == "S-901" { "in Utrecht" } else { "on its way to Cologne" };
        Json(json!({ "place": place, "due": "2026-12-01" }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let service = Router::new().route("/shipments/{shipment}", get(track));
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(url)
}

async fn report(client: &Client) -> Result<String, Box<dyn Error>> {
    let arguments = json!({ "customer": "ada" }).as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new("order_report").with_arguments(arguments)).await?;
    let text = serde_json::to_value(&result.content[0])?["text"].as_str().unwrap_or_default().to_owned();
    Ok(text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}

/// Each upstream with its state, by `route_status`.
async fn states(client: &Client) -> Result<String, Box<dyn Error>> {
    let result = client.call_tool(CallToolRequestParams::new("route_status")).await?;
    let status = result.structured_content.unwrap_or_default();
    let upstreams = status["upstreams"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = upstreams.iter().map(|upstream| format!("{} is {}", text(&upstream["name"]), text(&upstream["state"])));
    Ok(format!("route_status: {}", told.collect::<Vec<_>>().join(", ")))
}
