//! Callers who are limited to some servers: they see these, and of others not even the names.

use metamcp_core::registry::ApiKeyRecord;
use metamcp_core::server::Access;
use metamcp_core::{Digest, MetaMcp, Scope};
use rmcp::model::{
    ArgumentInfo, CompleteRequestParams, CompletionInfo, PaginatedRequestParams, ReadResourceRequestParams, Reference,
};
use serde_json::json;
use uuid::Uuid;

use super::{Client, everything, memory, protocol_error};

/// What a key for the servers of one team allows.
pub(crate) fn team(scopes: &[Scope]) -> Access {
    Access::of_key(&ApiKeyRecord {
        id: Uuid::nil(),
        name: "team".to_owned(),
        hash: Digest::of("team"),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        servers: vec!["team-*".to_owned()],
        expires_at: None,
        revoked_at: None,
    })
}

/// Meta-MCP with these servers, all of them live.
async fn with_servers(names: &[&str]) -> MetaMcp {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    for name in names {
        client.data("init_mcp_server", json!({ "name": name, "description": "A server." })).await;
        client.data("deploy_mcp_server", json!({ "serverId": name })).await;
    }
    meta
}

const NAMES: [&str; 7] = ["alpha", "alpine", "team-a", "team-b", "tears", "telling", "zeta"];

#[tokio::test]
async fn pages_of_servers_name_no_others_at_their_ends() {
    let meta = with_servers(&NAMES).await;
    let client = Client::connect(&meta, team(&[Scope::Read])).await;
    let mut seen = Vec::new();
    let mut arguments = json!({ "limit": 1 });
    loop {
        let page = client.data("list_mcp_servers", arguments.clone()).await;
        let servers = page["servers"].as_array().unwrap();
        assert!(servers.len() == 1, "{page}");
        seen.push(servers[0]["name"].as_str().unwrap().to_owned());
        match page.get("next") {
            Some(next) => arguments["after"] = next.clone(),
            None => break,
        }
        assert_eq!(arguments["after"], *seen.last().unwrap(), "{page}");
    }
    assert_eq!(seen, ["team-a", "team-b"]);
    // Somebody else's name is a place to go on from, and tells nothing.
    let behind = client.data("list_mcp_servers", json!({ "limit": 1, "after": "tears" })).await;
    assert_eq!(behind, json!({ "servers": [] }));

    let all = client.data("list_mcp_servers", json!({ "limit": 2 })).await;
    assert_eq!((all["servers"].as_array().unwrap().len(), all.get("next")), (2, None), "{all}");
}

#[tokio::test]
async fn pages_of_resources_name_no_others_at_their_ends() {
    let others: Vec<_> = (0..60).map(|n| format!("other-{n:02}")).collect();
    let names: Vec<_> = others.iter().map(String::as_str).chain(["team-a", "team-b"]).collect();
    let meta = with_servers(&names).await;
    let client = Client::connect(&meta, team(&[Scope::Read])).await;
    let page = client.0.list_resources(Some(PaginatedRequestParams::default())).await.unwrap();
    let uris: Vec<_> = page.resources.iter().map(|resource| resource.uri.as_str()).collect();
    assert_eq!(uris, ["metamcp://servers/team-a", "metamcp://servers/team-b"]);
    assert_eq!(page.next_cursor, None);
    let other = client.0.list_resources(Some(PaginatedRequestParams::default().with_cursor(Some("other-59".into()))));
    assert_eq!(other.await.unwrap().resources.len(), 2);
}

async fn completed(client: &Client, begun: &str) -> CompletionInfo {
    let template = Reference::for_resource("metamcp://servers/{name}");
    let params = CompleteRequestParams::new(template, ArgumentInfo::new("name", begun));
    client.0.complete(params).await.unwrap().completion
}

#[tokio::test]
async fn names_are_completed_with_how_many_there_are() {
    let many: Vec<_> = (0..1_100).map(|n| format!("crowd-{n:04}")).collect();
    let meta = memory::meta().await;
    for name in many.iter().map(String::as_str).chain(NAMES) {
        let definition = serde_json::from_value(json!({ "name": name, "description": "A server." })).unwrap();
        meta.servers().create(&definition).await.unwrap();
    }
    let (client, limited) =
        (Client::connect(&meta, everything()).await, Client::connect(&meta, team(&[Scope::Read])).await);
    let crowd = completed(&client, "crowd-").await;
    assert_eq!((crowd.values.len(), crowd.total, crowd.has_more), (100, Some(1_100), Some(true)));
    // Behind more servers than are looked at together.
    for (begun, expected) in [
        ("te", vec!["team-a", "team-b", "tears", "telling"]),
        ("team-b", vec!["team-b"]),
        ("zz", vec![]),
        ("é", vec![]),
        ("-", vec![]),
    ] {
        let found = completed(&client, begun).await;
        assert_eq!((&found.values, found.has_more), (&expected.iter().map(ToString::to_string).collect(), Some(false)));
        assert_eq!(found.total, Some(u32::try_from(expected.len()).unwrap()), "{begun}");
    }
    for begun in ["", "t", "tea"] {
        let found = completed(&limited, begun).await;
        assert_eq!((found.values, found.total), (vec!["team-a".to_owned(), "team-b".to_owned()], Some(2)), "{begun}");
    }
    assert_eq!(completed(&limited, "crowd-").await.total, Some(0));
    let without = Client::connect(&meta, Access::with_scopes("caller", [Scope::Call])).await;
    assert_eq!(completed(&without, "te").await.values, Vec::<String>::new());
}

/// Every tool that is about a server, or about all of them, with arguments for `SERVER`, and what a caller who is
/// limited to others is told.
const REFUSED: [(&str, &str); 41] = [
    ("init_mcp_server", r#"{"name":"other-new","description":"A server."}"#),
    ("import_server", r#"{"definition":{"name":"other-new","description":"A server."}}"#),
    ("update_mcp_server", r#"{"serverId":"SERVER","settings":{"description":"Mine."}}"#),
    ("delete_mcp_server", r#"{"serverId":"SERVER"}"#),
    ("get_mcp_server_details", r#"{"serverId":"SERVER"}"#),
    ("get_mcp_server_code", r#"{"serverId":"SERVER","fileType":"all"}"#),
    ("export_server", r#"{"serverId":"SERVER"}"#),
    ("import_openapi", r#"{"serverId":"SERVER","document":"{}"}"#),
    ("add_mcp_tool", r#"{"serverId":"SERVER","toolName":"more","description":"More.","implementation":"return 1;"}"#),
    ("update_mcp_tool", r#"{"serverId":"SERVER","toolName":"echo","description":"Mine."}"#),
    ("remove_mcp_tool", r#"{"serverId":"SERVER","toolName":"echo"}"#),
    (
        "add_mcp_resource",
        r#"{"serverId":"SERVER","name":"a","uri":"a://b","description":"A.","implementation":"return 'a';"}"#,
    ),
    ("update_mcp_resource", r#"{"serverId":"SERVER","name":"a","description":"Mine."}"#),
    ("remove_mcp_resource", r#"{"serverId":"SERVER","name":"a"}"#),
    ("add_mcp_prompt", r#"{"serverId":"SERVER","promptName":"a","description":"A.","template":"a"}"#),
    ("update_mcp_prompt", r#"{"serverId":"SERVER","promptName":"a","description":"Mine."}"#),
    ("remove_mcp_prompt", r#"{"serverId":"SERVER","promptName":"a"}"#),
    ("test_mcp_tool", r#"{"serverId":"SERVER","toolName":"echo"}"#),
    ("deploy_mcp_server", r#"{"serverId":"SERVER"}"#),
    ("call_mcp_tool", r#"{"serverId":"SERVER","toolName":"echo"}"#),
    ("list_versions", r#"{"serverId":"SERVER"}"#),
    ("rollback", r#"{"serverId":"SERVER","versionId":"v1"}"#),
    ("verify_deployment", r#"{"serverId":"SERVER"}"#),
    ("get_server_logs", r#"{"serverId":"SERVER"}"#),
    ("set_secret", r#"{"serverId":"SERVER","name":"TOKEN","value":"x"}"#),
    ("remove_secret", r#"{"serverId":"SERVER","name":"TOKEN"}"#),
    ("list_secrets", r#"{"serverId":"SERVER"}"#),
    ("connect_external_mcp", r#"{"serverId":"SERVER","serverUrl":"https://example.com/mcp","serverName":"them"}"#),
    ("list_external_mcp", r#"{"serverId":"SERVER"}"#),
    ("accept_external_mcp", r#"{"serverId":"SERVER","serverName":"them","digest":"0"}"#),
    ("remove_external_mcp", r#"{"serverId":"SERVER","serverName":"them"}"#),
    ("create_sdk_environment", r#"{"serverId":"team-a"}"#),
    ("execute_in_container", r#"{"containerId":"c1","command":"id"}"#),
    ("build_mcp_server", r#"{"containerId":"c1","serverId":"team-a"}"#),
    ("write_file", r#"{"containerId":"c1","path":"a","content":"a"}"#),
    ("read_file", r#"{"containerId":"c1","path":"a"}"#),
    ("list_files", r#"{"containerId":"c1","path":""}"#),
    ("delete_file", r#"{"containerId":"c1","path":"a"}"#),
    ("destroy_environment", r#"{"containerId":"c1"}"#),
    ("cleanup_old_servers", "{}"),
    ("set_secret", r#"{"serverId":"team-a","name":"TOKEN","fromEnv":"HOST_TOKEN"}"#),
];
/// What is about keys, which are not about one server either.
const ADMINISTRATION: [(&str, &str); 4] = [
    ("create_api_key", r#"{"name":"more","scopes":["read"],"servers":["team-*"]}"#),
    ("list_api_keys", "{}"),
    ("revoke_api_key", r#"{"id":"00000000-0000-0000-0000-000000000000"}"#),
    ("list_audit_log", "{}"),
];
/// Tools that answer everybody, about what the caller may see.
const FILTERED: [&str; 3] = ["list_mcp_servers", "search_mcp_tools", "list_templates"];

#[tokio::test]
async fn every_tool_refuses_a_caller_who_is_limited_to_other_servers() {
    let meta = with_servers(&["other", "team-a"]).await;
    let all = Client::connect(&meta, everything()).await;
    let tool =
        json!({ "serverId": "other", "toolName": "echo", "description": "Echoes.", "implementation": "return 1;" });
    all.data("add_mcp_tool", tool).await;
    let id = all.data("get_mcp_server_details", json!({ "serverId": "other" })).await["serverId"].take();
    let before = meta.servers().get(&"other".parse().unwrap()).await.unwrap();

    let limited = Client::connect(&meta, team(Scope::ALL)).await;
    let mut covered: Vec<_> = FILTERED.to_vec();
    for (tool, arguments) in REFUSED.into_iter().chain(ADMINISTRATION) {
        for named in ["other", id.as_str().unwrap()] {
            let arguments = serde_json::from_str(&arguments.replace("SERVER", named)).unwrap();
            let said = limited.failure(tool, arguments).await;
            assert!(said.starts_with("permission_denied: key team"), "{tool} of {named}: {said}");
        }
        covered.push(tool);
    }
    for tool in all.0.list_all_tools().await.unwrap() {
        assert!(covered.contains(&tool.name.as_ref()), "{} has no case here", tool.name);
    }
    for (tool, arguments) in [("list_mcp_servers", json!({})), ("search_mcp_tools", json!({ "query": "echo" }))] {
        let said = limited.data(tool, arguments.clone()).await.to_string();
        assert!(!said.contains("other"), "{tool}: {said}");
        assert!(all.data(tool, arguments).await.to_string().contains("other"), "{tool}");
    }
    let uri = "metamcp://servers/other";
    let read = limited.0.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap_err();
    assert!(read.to_string().contains("there is no resource"), "{read}");
    assert_eq!(meta.servers().get(&"other".parse().unwrap()).await.unwrap(), before);
    assert!(meta.servers().get(&"other-new".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn who_may_not_read_gets_no_resources_and_no_names() {
    let meta = with_servers(&["alpha"]).await;
    let others = Scope::ALL.iter().copied().filter(|scope| ![Scope::Read, Scope::Admin].contains(scope));
    let client = Client::connect(&meta, Access::with_scopes("caller", others)).await;
    let refused = [
        client.0.list_resources(None).await.map(|_| ()),
        client.0.list_resource_templates(None).await.map(|_| ()),
        client.0.read_resource(ReadResourceRequestParams::new("metamcp://servers/alpha")).await.map(|_| ()),
    ];
    for answer in refused {
        let (code, said) = protocol_error(answer);
        assert_eq!(code, -32600, "{said}");
        assert!(said.contains("needs scope read") || said.contains("need scope read"), "{said}");
    }
    assert_eq!(completed(&client, "al").await.values, Vec::<String>::new());
    let reader = Client::connect(&meta, Access::with_scopes("caller", [Scope::Read])).await;
    assert_eq!(completed(&reader, "al").await.values, ["alpha"]);
}
