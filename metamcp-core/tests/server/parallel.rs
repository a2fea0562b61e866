//! Calls that an agent makes at once, without waiting for one before the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use metamcp_core::memory::{MemoryBuilder, MemoryRegistry};
use metamcp_core::{Registry, ServerKey};
use serde_json::{Map, json};

use super::{Client, everything, memory, text};

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_are_added_at_once_are_all_there() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "many", "description": "Has many tools." })).await;
    let names: Vec<_> = (0..16).map(|n| format!("t{n:02}")).collect();
    let added = names.iter().map(|name| {
        let tool = json!({
            "serverId": "many", "toolName": name, "description": "A tool.", "implementation": "return 1;"
        });
        client.data("add_mcp_tool", tool)
    });
    join_all(added).await;
    let details = client.data("get_mcp_server_details", json!({ "serverId": "many" })).await;
    let mut found: Vec<_> = details["tools"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    assert_eq!(details["revision"], 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_at_once_of_one_thing_are_made_or_refused_but_never_in_conflict() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "one", "description": "Has one tool." })).await;
    let added = (0..4).map(|n| {
        let body = format!("return {n};");
        let tool = json!({ "serverId": "one", "toolName": "t", "description": "A tool.", "implementation": body });
        client.call("add_mcp_tool", tool)
    });
    let said: Vec<_> = join_all(added).await.iter().map(text).collect();
    let refused = said.iter().filter(|said| said.starts_with("already_exists: ")).count();
    assert_eq!(refused, 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_and_deployments_of_one_server_wait_for_each_other() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "busy", "description": "Is busy." })).await;
    let tool = json!({ "serverId": "busy", "toolName": "t", "description": "A tool.", "implementation": "return 1;" });
    client.data("add_mcp_tool", tool).await;
    let call = json!({ "serverId": "busy", "toolName": "t" });
    let both = [("test_mcp_tool", call), ("deploy_mcp_server", json!({ "serverId": "busy" }))];
    let calls = both.iter().cycle().take(6).map(|(tool, arguments)| client.call(tool, arguments.clone()));
    for ended in join_all(calls).await {
        assert_ne!(ended.is_error, Some(true), "{}", text(&ended));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_in_vain_is_told_what_goes_on() {
    let registry = Arc::new(MemoryRegistry::new());
    let meta = memory::meta_on(registry.clone(), Arc::new(MemoryBuilder::new())).await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "held", "description": "Is held." })).await;
    let key: ServerKey = "held".parse().unwrap();
    let (_, lease) = registry.lease_server(&key, "another program", Duration::from_secs(3_600)).await.unwrap();
    for (tool, arguments) in [
        ("deploy_mcp_server", json!({ "serverId": "held" })),
        ("rollback", json!({ "serverId": "held", "versionId": "v1" })),
        ("delete_mcp_server", json!({ "serverId": "held" })),
        ("test_mcp_tool", json!({ "serverId": "held", "toolName": "t" })),
    ] {
        let said = client.failure(tool, arguments).await;
        assert!(said.starts_with("conflict: ") && said.contains(r#"is held by "another program""#), "{tool}: {said}");
        assert!(said.ends_with("did not end within 35 s; the same call may succeed later"), "{tool}: {said}");
    }
    registry.release_lease(&lease).await.unwrap();
    client.data("deploy_mcp_server", json!({ "serverId": "held" })).await;
}

/// On the one thread that all tasks of this test have.
#[tokio::test]
async fn others_go_on_while_a_document_is_read() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let paths: Map<_, _> = (0..200).map(|n| (format!("/{n}"), json!({ "get": {} }))).collect();
    let document = json!({ "openapi": "3.1.0", "servers": [{ "url": "https://api.example.com" }], "paths": paths });
    // Of a server that is not there, so that nothing but the document takes time.
    let import = client.failure("import_openapi", json!({ "serverId": "none", "document": document.to_string() }));
    let turns = AtomicUsize::new(0);
    let others = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let said = tokio::select! { said = import => said, () = others => unreachable!("it has no end") };
    assert!(said.starts_with("not_found: "), "{said}");
    let turns = turns.into_inner();
    assert!(turns > 1_000, "others had {turns} turns");
}
