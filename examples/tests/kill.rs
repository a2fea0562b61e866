//! The reference server is killed: while clients write, and what it acknowledged is there when it starts again; and under
//! a bridge, which takes its place.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use reference::{Client, Host, Http, LIMIT, text};

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

/// A server on a data directory that is killed and started again.
struct Killed {
    folder: tempfile::TempDir,
    server: Http,
    key: String,
}

impl Killed {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Self::serve(folder.path()).await;
        let key = server.admin_key.clone().unwrap();
        Self { folder, server, key }
    }

    async fn serve(folder: &Path) -> Http {
        Http::start_with(folder, &["--trust-host", "127.0.0.1"]).await
    }

    /// Makes a change, and kills the server once that is answered.
    async fn change(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.server.connect(&self.key).await.data(tool, arguments).await;
        self.server.process.kill().await.unwrap();
        self.server = Self::serve(self.folder.path()).await;
        answer
    }

    async fn data(&self, tool: &str, arguments: Value) -> Value {
        self.server.connect(&self.key).await.data(tool, arguments).await
    }

    /// What the tool of the server that is kept answers.
    async fn says(&self) -> String {
        let call = json!({ "serverId": "kept", "toolName": "say" });
        text(&self.server.connect(&self.key).await.call("call_mcp_tool", call).await)
    }

    async fn status(&self, key: &str) -> u16 {
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let request = reqwest::Client::new().post(&self.server.url).bearer_auth(key).json(&list);
        let request = request.header("accept", "application/json, text/event-stream");
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_is_there_after_a_kill_that_follows_its_answer() {
    let mut killed = Killed::start().await;
    let definition = |name: &str| {
        json!({
            "name": name, "description": "Is kept.", "secrets": ["TOKEN"],
            "tools": [{ "name": "say", "description": "Says.", "implementation": "return `first ${env.TOKEN}`;" }]
        })
    };
    killed.change("import_server", json!({ "definition": definition("kept") })).await;
    killed.change("set_secret", json!({ "serverId": "kept", "name": "TOKEN", "value": "one" })).await;
    let first = killed.change("deploy_mcp_server", json!({ "serverId": "kept" })).await;
    assert_eq!(killed.says().await, "first one");
    killed.change("set_secret", json!({ "serverId": "kept", "name": "TOKEN", "value": "two" })).await;
    assert_eq!(killed.says().await, "first two");
    let update = json!({ "serverId": "kept", "toolName": "say", "implementation": "return `second ${env.TOKEN}`;" });
    killed.change("update_mcp_tool", update).await;
    killed.change("deploy_mcp_server", json!({ "serverId": "kept" })).await;
    assert_eq!(killed.says().await, "second two");
    killed.change("rollback", json!({ "serverId": "kept", "versionId": first["versionId"] })).await;
    assert_eq!(killed.says().await, "first two");

    let made = killed.change("create_api_key", json!({ "name": "agent", "scopes": ["read"] })).await;
    let key = made["key"].as_str().unwrap();
    assert_eq!(killed.status(key).await, 200);
    killed.change("revoke_api_key", json!({ "id": made["id"] })).await;
    assert_eq!(killed.status(key).await, 401);

    killed.change("import_server", json!({ "definition": definition("gone") })).await;
    let connect = json!({ "serverId": "gone", "serverUrl": first["url"], "serverName": "them" });
    let connected = killed.change("connect_external_mcp", connect).await;
    assert_eq!(connected["tools"], json!(["say"]));
    let listed = killed.data("list_external_mcp", json!({ "serverId": "gone" })).await;
    assert_eq!(listed["connections"], json!([connected]));
    killed.change("delete_mcp_server", json!({ "serverId": "gone" })).await;
    let listed = killed.data("list_mcp_servers", json!({})).await;
    let names: Vec<_> = listed["servers"].as_array().unwrap().iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["kept"]);
    killed.server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_takes_the_place_of_an_owner_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Http::start(folder.path()).await;
    let bridge = Host::start(folder.path()).await;
    bridge.client.data("init_mcp_server", json!({ "name": "stays", "description": "Stays." })).await;
    let tool = json!({
        "serverId": "stays", "toolName": "say", "description": "Says.", "implementation": "return 'still here';"
    });
    bridge.client.data("add_mcp_tool", tool).await;
    let deployed = bridge.client.data("deploy_mcp_server", json!({ "serverId": "stays" })).await;
    owner.process.kill().await.unwrap();

    // The same session, without a new handshake of the client's.
    let listed = timeout(LIMIT, until_answered(&bridge.client, "list_mcp_servers")).await.unwrap();
    assert_eq!(listed["servers"][0]["name"], "stays");
    let direct = metamcp_examples::connect_2026(deployed["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(text(&direct.call_tool(CallToolRequestParams::new("say")).await.unwrap()), "still here");
    let call = bridge.client.call("call_mcp_tool", json!({ "serverId": "stays", "toolName": "say" })).await;
    assert_eq!(text(&call), "still here");
    // It owns the directory now, so that another process is a bridge to it.
    let third = Host::start(folder.path()).await;
    assert_eq!(third.client.data("list_mcp_servers", json!({})).await["servers"][0]["name"], "stays");
    third.end().await;
    bridge.end().await;
}

/// The data of a tool's answer; a call that went to the owner that has ended is refused with that reason, and repeated.
async fn until_answered(client: &Client, tool: &'static str) -> Value {
    loop {
        match client.0.call_tool(CallToolRequestParams::new(tool)).await {
            Ok(result) => return result.structured_content.unwrap(),
            Err(error) => assert!(error.to_string().contains("ended before it answered"), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_kill_cut_short_is_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Http::start(folder.path()).await;
    let key = server.admin_key.clone().unwrap();
    let client = server.connect(&key).await;
    client.data("init_mcp_server", json!({ "name": "cut", "description": "Is cut short." })).await;
    let tool = json!({
        "serverId": "cut", "toolName": "hang", "description": "Hangs, and is tried before it is live.",
        "examples": [{ "arguments": {}, "expected": 1 }], "implementation": "await new Promise(() => {});"
    });
    client.data("add_mcp_tool", tool).await;
    let deploying = server.connect(&key).await;
    let deploying = tokio::spawn(async move {
        let deploy = CallToolRequestParams::new("deploy_mcp_server");
        let arguments = json!({ "serverId": "cut" }).as_object().cloned().unwrap();
        deploying.0.call_tool(deploy.with_arguments(arguments)).await
    });
    let newest = async |client: &Client| {
        let log = client.data("list_audit_log", json!({ "limit": 1 })).await;
        let newest = &log["entries"][0];
        format!("{} {}", newest["action"].as_str().unwrap(), newest["outcome"].as_str().unwrap())
    };
    timeout(LIMIT, async {
        while newest(&client).await != "deploy_mcp_server begun" {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    server.process.kill().await.unwrap();
    assert!(deploying.await.unwrap().is_err());

    server = Http::start(folder.path()).await;
    assert_eq!(newest(&server.connect(&key).await).await, "deploy_mcp_server begun");
    server.end().await;
}
