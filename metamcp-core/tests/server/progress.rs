//! What a caller hears while a call goes on.

use std::sync::Arc;
use std::time::Duration;

use metamcp_core::Registry;
use metamcp_core::memory::{MemoryBuilder, MemoryRegistry};
use metamcp_core::server::MetaMcpServer;
use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::{Client, everything, memory};

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(60);

/// A client that passes on what progress it hears of.
struct Listener(UnboundedSender<ProgressNotificationParam>);

impl ClientHandler for Listener {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.send(progress).unwrap();
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-test", "1.0.0"))
    }
}

async fn next(heard: &mut UnboundedReceiver<ProgressNotificationParam>) -> ProgressNotificationParam {
    timeout(LIMIT, heard.recv()).await.unwrap().unwrap()
}

/// A client that asks for progress, as rmcp's does with each of its requests, and what it hears.
async fn listener(
    server: MetaMcpServer,
) -> (RunningService<RoleClient, Listener>, UnboundedReceiver<ProgressNotificationParam>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { server.serve(theirs).await.unwrap().waiting().await });
    let (sender, heard) = unbounded_channel();
    (Listener(sender).serve(ours).await.unwrap(), heard)
}

fn calling(tool: &'static str, arguments: &Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone())
}

#[tokio::test]
async fn each_step_of_a_deployment_and_of_a_rollback_is_told() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "told", "description": "Tells." })).await;
    let first = client.data("deploy_mcp_server", json!({ "serverId": "told" })).await;
    let settings = json!({ "serverId": "told", "settings": { "version": "2.0.0" } });
    client.data("update_mcp_server", settings).await;

    let (listener, mut heard) = listener(MetaMcpServer::new(meta, everything())).await;
    let back = json!({ "serverId": "told", "versionId": first["versionId"] });
    for (tool, arguments, begin) in [
        ("deploy_mcp_server", json!({ "serverId": "told" }), "deploying revision 2"),
        ("rollback", back, "deploying revision 1"),
    ] {
        listener.call_tool(calling(tool, &arguments)).await.unwrap();
        let mut messages = Vec::new();
        while !messages.iter().any(|message: &String| message.starts_with("the live endpoint answers")) {
            messages.push(next(&mut heard).await.message.unwrap());
        }
        assert_eq!(messages[0], begin, "{tool}: {messages:?}");
    }
}

#[tokio::test]
async fn who_waits_for_another_program_hears_so() {
    let registry = Arc::new(MemoryRegistry::new());
    let meta = memory::meta_on(registry.clone(), Arc::new(MemoryBuilder::new())).await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "held", "description": "Is held." })).await;
    let tool = json!({ "serverId": "held", "toolName": "t", "description": "A tool.", "implementation": "return 1;" });
    client.data("add_mcp_tool", tool).await;
    let deployed = client.data("deploy_mcp_server", json!({ "serverId": "held" })).await;

    let (listener, mut heard) = listener(MetaMcpServer::new(meta, everything())).await;
    let (server, key) = (json!({ "serverId": "held" }), "held".parse().unwrap());
    for (tool, arguments) in [
        ("test_mcp_tool", json!({ "serverId": "held", "toolName": "t" })),
        ("deploy_mcp_server", server.clone()),
        ("rollback", json!({ "serverId": "held", "versionId": deployed["versionId"] })),
        ("delete_mcp_server", server),
    ] {
        let (_, lease) = registry.lease_server(&key, "another program", LIMIT).await.unwrap();
        let (peer, call) = (listener.peer().clone(), calling(tool, &arguments));
        let waiting = tokio::spawn(async move { peer.call_tool(call).await.unwrap() });
        assert_eq!(next(&mut heard).await.message.unwrap(), "waiting for another deployment or test", "{tool}");
        registry.release_lease(&lease).await.unwrap();
        assert_ne!(waiting.await.unwrap().is_error, Some(true), "{tool}");
        while heard.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn a_call_that_goes_on_says_so() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "slow", "description": "Is slow." })).await;
    let tool =
        json!({ "serverId": "slow", "toolName": "wait", "description": "Waits.", "implementation": "return 'hang';" });
    client.data("add_mcp_tool", tool).await;
    client.data("deploy_mcp_server", json!({ "serverId": "slow" })).await;

    let server = MetaMcpServer::new(meta, everything()).with_progress_interval(Duration::from_millis(10));
    let (listener, mut heard) = listener(server).await;
    for tool in ["call_mcp_tool", "test_mcp_tool"] {
        let call = calling(tool, &json!({ "serverId": "slow", "toolName": "wait" }));
        let peer = listener.peer().clone();
        let waiting = tokio::spawn(async move { peer.call_tool(call).await });
        let mut first = next(&mut heard).await;
        // A test tells its steps first.
        while !first.message.as_deref().unwrap().starts_with("still running, ") {
            first = next(&mut heard).await;
        }
        let second = next(&mut heard).await;
        assert!(first.message.as_deref().unwrap().starts_with("still running, "), "{first:?}");
        assert!(second.progress > first.progress, "{first:?} {second:?}");
        assert!(!waiting.is_finished());
        waiting.abort();
        while heard.try_recv().is_ok() {}
    }
}
