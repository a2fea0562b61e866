//! What definitions that come in through the tools may reach.

use metamcp_core::server::Access;
use metamcp_core::{MetaMcp, NewApiKey, PrivateEgress, Scope, ServerDefinition};
use serde_json::{Value, json};

use super::{Client, everything, memory};

const EVERYWHERE: [&str; 7] =
    ["127.0.0.1", "169.254.169.254", "10.0.0.0/8", "0.0.0.0/0", "::1", "64:ff9b::/96", "::ffff:127.0.0.1"];

fn definition(rest: &Value) -> Value {
    let mut definition = json!({ "name": "team-a", "description": "A server." });
    for (field, value) in rest.as_object().unwrap() {
        definition[field] = value.clone();
    }
    definition
}

/// A client with a key for servers of the team only.
async fn of_the_team(meta: &MetaMcp) -> Client {
    let mut key = NewApiKey::new("team", [Scope::Read, Scope::Write, Scope::Deploy]);
    key.servers = vec!["team-*".into()];
    let (record, _) = meta.api_keys().create(key).await.unwrap();
    Client::connect(meta, Access::of_key(&record)).await
}

#[tokio::test]
async fn private_addresses_are_the_operators_to_allow() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let said = client.failure("import_server", json!({ "definition": definition(&json!({ "egress": EVERYWHERE })) }));
    let said = said.await;
    assert!(said.starts_with("permission_denied: ") && said.contains("--allow-private"), "{said}");
    for address in EVERYWHERE {
        assert!(said.contains(&format!("{address} (private)")), "{address}: {said}");
    }
    client.data("init_mcp_server", json!({ "name": "team-a", "description": "A server." })).await;
    for address in EVERYWHERE {
        let settings = json!({ "serverId": "team-a", "settings": { "egress": ["api.example.com", address] } });
        let said = client.failure("update_mcp_server", settings).await;
        assert!(said.starts_with("permission_denied: ") && !said.contains("api.example.com"), "{address}: {said}");
    }
    let api = json!({ "openapi": "3.1.0", "info": { "title": "Api", "version": "1" },
        "paths": { "/x": { "get": { "operationId": "x" } } } });
    let import =
        json!({ "serverId": "team-a", "document": api.to_string(), "baseUrl": "http://169.254.169.254/latest" });
    assert!(client.failure("import_openapi", import).await.starts_with("permission_denied: "));
    let public = json!({ "serverId": "team-a", "settings": { "egress": ["*.example.com", "8.8.8.0/24"] } });
    client.data("update_mcp_server", public).await;

    let meta = meta.with_private_egress(PrivateEgress::new(["10.1.0.0/16"]).unwrap());
    let client = Client::connect(&meta, everything()).await;
    let settings = |address: &str| json!({ "serverId": "team-a", "settings": { "egress": [address] } });
    client.data("update_mcp_server", settings("10.1.2.3")).await;
    assert!(client.failure("update_mcp_server", settings("10.2.0.1")).await.starts_with("permission_denied: "));
}

#[tokio::test]
async fn what_the_embedding_program_lets_a_server_reach_is_not_the_callers_to_use() {
    let meta = memory::meta().await;
    let written: ServerDefinition = serde_json::from_value(definition(&json!({ "egress": ["127.0.0.1"] }))).unwrap();
    meta.servers().create(&written).await.unwrap();
    let client = Client::connect(&meta, everything()).await;
    let tool =
        json!({ "serverId": "team-a", "toolName": "x", "description": "Fetches.", "implementation": "return 1;" });
    assert!(client.failure("add_mcp_tool", tool.clone()).await.starts_with("permission_denied: "));
    client.data("deploy_mcp_server", json!({ "serverId": "team-a" })).await;
    client.data("update_mcp_server", json!({ "serverId": "team-a", "settings": { "egress": null } })).await;
    client.data("add_mcp_tool", tool).await;
}

#[tokio::test]
async fn a_key_for_some_servers_binds_no_others_and_nothing_of_the_account() {
    let meta = memory::meta().await;
    let (admin, team) = (Client::connect(&meta, everything()).await, of_the_team(&meta).await);
    let foreign = json!({
        "OTHER": { "type": "service", "target": "other" },
        "FILES": { "type": "r2", "target": "payroll" },
        "CACHE": { "type": "kv", "target": "0123" },
        "DB": { "type": "d1" },
        "JOBS": { "type": "queue", "target": "jobs" },
    });
    let own = json!({ "SIBLING": { "type": "service", "target": "team-b" }, "AI": { "type": "ai" } });
    let said =
        team.failure("import_server", json!({ "definition": definition(&json!({ "bindings": foreign })) })).await;
    assert!(said.starts_with("permission_denied: "), "{said}");
    for target in ["other", "payroll", "0123", "DB", "jobs"] {
        assert!(said.contains(&format!("{target:?} by binding")), "{target}: {said}");
    }
    team.data("import_server", json!({ "definition": definition(&json!({ "bindings": own })) })).await;
    let bind = |bindings: &Value| json!({ "serverId": "team-a", "settings": { "bindings": bindings } });
    assert!(team.failure("update_mcp_server", bind(&foreign)).await.starts_with("permission_denied: "));

    // What somebody gave who might, the team may use, but not exchange.
    admin.data("update_mcp_server", bind(&foreign)).await;
    let tool = json!({ "serverId": "team-a", "toolName": "x", "description": "Reads.", "implementation": "return 1;" });
    team.data("add_mcp_tool", tool).await;
    let other = json!({ "FILES": { "type": "r2", "target": "other-bucket" } });
    assert!(team.failure("update_mcp_server", bind(&other)).await.contains("\"other-bucket\" by binding \"FILES\""));
    let copy = json!({ "definition": {
        "name": "team-c", "description": "A copy.", "bindings": { "FILES": { "type": "r2", "target": "payroll" } }
    } });
    assert!(team.failure("import_server", copy).await.starts_with("permission_denied: "));
}
