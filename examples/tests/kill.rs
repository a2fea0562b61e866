//! The reference server is killed while clients write; what it acknowledged is there when it starts again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use reference::{Client, Http, LIMIT, text};

const WRITERS: usize = 8;
const KILLS: usize = 4;

/// What one writer was told about its server.
#[derive(Debug, Default)]
struct Told {
    /// What each tool of the working definition answers.
    tools: BTreeMap<String, usize>,
    /// The tools of the version that was said to be live.
    live: BTreeMap<String, usize>,
    /// What was asked last and not answered: it may have happened.
    open: Option<Asked>,
}

#[derive(Debug, Clone)]
enum Asked {
    Add(String, usize),
    Deploy,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_each_of_several_kills() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Http::start(folder.path()).await;
    let key = server.admin_key.clone().unwrap();
    let told: Vec<_> = (0..WRITERS).map(|_| Arc::new(Mutex::new(Told::default()))).collect();
    let client = server.connect(&key).await;
    for writer in 0..WRITERS {
        client.data("init_mcp_server", json!({ "name": name(writer), "description": "Is kept." })).await;
    }
    let mut numbers = Vec::new();
    for kill in 0..KILLS {
        let mut writers = JoinSet::new();
        for (writer, told) in told.iter().enumerate() {
            let client = server.connect(&key).await;
            writers.spawn(write(client, writer, kill * 1_000, told.clone()));
        }
        // Anywhere in what they do: that is the point.
        sleep(Duration::from_millis(rand_ms(kill))).await;
        server.process.kill().await.unwrap();
        writers.join_all().await;

        server = Http::start(folder.path()).await;
        let client = server.connect(&key).await;
        for (writer, told) in told.iter().enumerate() {
            numbers.push(check(&client, writer, &mut *told.lock().await).await);
        }
    }
    eprintln!("tools that were acknowledged, after each kill: {numbers:?}");
    assert!(numbers.iter().any(|acknowledged| *acknowledged > 0), "something was acknowledged");
    server.end().await;
}

/// Somewhere in the first seconds, elsewhere after each start.
fn rand_ms(kill: usize) -> u64 {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    300 + (u64::from(seed) / 1_000 + 700 * kill as u64) % 2_500
}

fn name(writer: usize) -> String {
    format!("kept-{writer}")
}

/// Adds tools and deploys, until the server is gone.
async fn write(client: Client, writer: usize, first: usize, told: Arc<Mutex<Told>>) {
    for number in first.. {
        let tool = format!("tool-{number}");
        let add = json!({
            "serverId": name(writer), "toolName": tool, "description": "Says its number.",
            "implementation": format!("return {number};")
        });
        if !ask(&client, "add_mcp_tool", add, Asked::Add(tool, number), &told).await {
            return;
        }
        if number % 3 == 2 {
            let deploy = json!({ "serverId": name(writer) });
            if !ask(&client, "deploy_mcp_server", deploy, Asked::Deploy, &told).await {
                return;
            }
        }
    }
}

/// Makes one call and keeps what came of it; `false` once nothing answers.
async fn ask(client: &Client, tool: &'static str, arguments: Value, asked: Asked, told: &Mutex<Told>) -> bool {
    told.lock().await.open = Some(asked.clone());
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    let call = client.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments));
    let Ok(Ok(result)) = timeout(LIMIT, call).await else { return false };
    assert_ne!(result.is_error, Some(true), "{tool}: {}", text(&result));
    told.lock().await.happened(asked);
    true
}

impl Told {
    fn happened(&mut self, asked: Asked) {
        match asked {
            Asked::Add(tool, number) => _ = self.tools.insert(tool, number),
            Asked::Deploy => self.live = self.tools.clone(),
        }
        self.open = None;
    }
}

/// Compares what is there with what was told, and takes over what happened without an answer. Returns how many tools
/// were acknowledged.
async fn check(client: &Client, writer: usize, told: &mut Told) -> usize {
    let details = client.data("get_mcp_server_details", json!({ "serverId": name(writer) })).await;
    let listed: BTreeSet<String> = serde_json::from_value(details["tools"].clone()).unwrap();
    let open = told.open.take();
    if let Some(Asked::Add(tool, number)) = &open
        && listed.contains(tool)
    {
        told.tools.insert(tool.clone(), *number);
    }
    assert_eq!(listed, told.tools.keys().cloned().collect(), "{writer}: {open:?}");
    let may_be_live = matches!(open, Some(Asked::Deploy)).then_some(&told.tools);
    let live = live_tools(&details).await;
    let possible = [Some(&told.live), may_be_live];
    let live = possible.into_iter().flatten().find(|tools| tools.keys().cloned().collect::<BTreeSet<_>>() == live);
    told.live = live.unwrap_or_else(|| panic!("{writer}: something else is live; {told:?}, {open:?}")).clone();
    if let Some((tool, number)) = told.live.last_key_value() {
        let call = client.call("call_mcp_tool", json!({ "serverId": name(writer), "toolName": tool })).await;
        assert_eq!(text(&call), number.to_string());
    }
    told.tools.len()
}

/// What the live endpoint lists; nothing where nothing is live.
async fn live_tools(details: &Value) -> BTreeSet<String> {
    let Some(url) = details["url"].as_str() else { return BTreeSet::new() };
    let direct = metamcp_examples::connect_2026(url).await.unwrap();
    direct.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect()
}
