//! Meta-MCP as an MCP server, on the memory backends, over a duplex stream.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../answering/mod.rs"]
mod answering;
mod audit;
mod authority;
mod changes;
mod cors;
mod elicit;
mod guard;
mod keys;
mod limited;
mod limits;
mod log;
mod malformed;
mod memory;
mod metrics;
mod oauth;
mod outside;
mod parallel;
mod progress;
mod reach;
mod spans;
mod strangers;
mod unanswered;
mod wrong_addresses;

use metamcp_core::server::{Access, MetaMcpServer};
use metamcp_core::{MetaMcp, Scope};
use rmcp::model::{
    ArgumentInfo, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, CompleteRequestParams,
    GetPromptRequestParams, Implementation, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    Reference,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService, ServiceError};
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};

/// A client of Meta-MCP with this access, who begins as this revision of MCP does.
struct Client(RunningService<RoleClient, ClientConfig>);

impl Client {
    async fn connect(meta: &MetaMcp, access: Access) -> Self {
        Self::connect_by(meta, access, ClientLifecycleMode::Initialize).await
    }

    async fn connect_by(meta: &MetaMcp, access: Access, lifecycle: ClientLifecycleMode) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = MetaMcpServer::new(meta.clone(), access);
        tokio::spawn(async move { server.serve(theirs).await.unwrap().waiting().await });
        let config = ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-test", "1.0.0"));
        Self(config.serve_with_lifecycle(ours, lifecycle).await.unwrap())
    }

    async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        self.0.call_tool(params).await.unwrap()
    }

    /// The data of a call that has to succeed.
    async fn data(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{tool}: {}", text(&result));
        result.structured_content.unwrap()
    }

    /// What a call says that has to fail.
    async fn failure(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{tool}: {}", text(&result));
        text(&result)
    }
}

fn text(result: &CallToolResult) -> String {
    let texts: Vec<_> =
        result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect();
    texts.join("\n")
}

fn everything() -> Access {
    Access::full("test")
}

#[tokio::test]
async fn an_agent_makes_fixes_deploys_and_takes_back_a_server() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let created = client.data("init_mcp_server", json!({ "name": "greeter", "description": "Greets." })).await;
    assert_eq!((&created["status"], &created["containerID"]), (&json!("ready"), &Value::Null));

    let tool =
        json!({ "serverId": "greeter", "toolName": "greet", "description": "Greets.", "implementation": "throw 1;" });
    assert_eq!(client.data("add_mcp_tool", tool).await["revision"], 2);
    let call = json!({ "serverId": created["serverId"], "toolName": "greet", "arguments": { "who": "Ada" } });
    assert!(client.failure("test_mcp_tool", call.clone()).await.contains("line 1"));
    let fix = json!({ "serverId": "greeter", "toolName": "greet", "implementation": "return 1;" });
    client.data("update_mcp_tool", fix).await;
    assert_eq!(text(&client.call("test_mcp_tool", call.clone()).await), r#"greet {"who":"Ada"}"#);
    assert!(client.failure("call_mcp_tool", call.clone()).await.contains("is not live; deploy it first"));

    let first = client.data("deploy_mcp_server", json!({ "serverId": "greeter" })).await;
    assert_eq!((&first["success"], &first["tools"]), (&json!(true), &json!(1)));
    assert_eq!(text(&client.call("call_mcp_tool", call).await), r#"greet {"who":"Ada"}"#);

    let second =
        json!({ "serverId": "greeter", "toolName": "part", "description": "Parts.", "implementation": "return 2;" });
    client.data("add_mcp_tool", second).await;
    let early = json!({ "serverId": "greeter", "toolName": "part" });
    assert!(client.failure("call_mcp_tool", early.clone()).await.contains("deploy the server first"));
    client.data("deploy_mcp_server", json!({ "serverId": "greeter" })).await;
    client.call("call_mcp_tool", early.clone()).await;
    let versions = client.data("list_versions", json!({ "serverId": "greeter" })).await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
    client.data("rollback", json!({ "serverId": "greeter", "versionId": first["versionId"] })).await;
    assert!(client.failure("call_mcp_tool", early).await.contains("has no tool"));
    assert_eq!(client.data("verify_deployment", json!({ "serverId": "greeter" })).await["healthy"], true);
    let details = client.data("get_mcp_server_details", json!({ "serverId": "greeter" })).await;
    assert_eq!((&details["revision"], &details["liveRevision"]), (&json!(4), &json!(3)), "{details}");

    client.data("delete_mcp_server", json!({ "serverId": "greeter" })).await;
    assert_eq!(client.data("list_mcp_servers", json!({})).await, json!({ "servers": [] }));
}

#[tokio::test]
async fn bad_arguments_are_answered_with_all_problems_and_where_they_are() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "greeter", "description": "Greets." })).await;
    let mut said = vec![
        client.failure("init_mcp_server", json!({ "name": 3, "template": "x", "tools": [] })).await,
        client.failure("init_mcp_server", json!({ "name": "No Name", "description": "", "template": "routng" })).await,
        client.failure("add_mcp_tool", json!({ "server": "greeter", "name": "greet", "code": "return 1;" })).await,
    ];
    let tool = json!({
        "serverId": "greeter", "toolName": "gr eet", "description": "Greets.", "limits": { "timeoutMs": "1s" },
        "parameters": { "who": { "type": "strin" } }, "implementation": "const a = ;\nreturn a;"
    });
    said.push(client.failure("add_mcp_tool", tool).await);
    said.push(client.failure("update_mcp_tool", json!({ "serverId": "greeter", "toolName": "greet" })).await);
    said.push(client.failure("deploy_mcp_server", json!({ "serverId": "greter" })).await);
    said.push(client.failure("rollback", json!({ "serverId": "greeter", "versionId": "1" })).await);
    said.push(client.failure("set_secret", json!({ "serverId": "greeter", "name": "TOKEN", "value": "s3cret" })).await);
    let filters = vec![("of server [0-9a-f-]{36}", "of server ID"), ("available: .*", "available: …")];
    insta::with_settings!({ filters => filters }, {
        insta::assert_snapshot!(said.join("\n\n"));
    });
}

#[tokio::test]
async fn a_call_without_the_scope_is_refused_on_every_tool() {
    let meta = memory::meta().await;
    let everything = Client::connect(&meta, everything()).await;
    let tools = everything.0.list_all_tools().await.unwrap();
    let mut refused = 0;
    for scope in Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin) {
        let limited = Client::connect(&meta, Access::with_scopes("limited", [scope])).await;
        let offered = limited.0.list_all_tools().await.unwrap();
        for tool in &tools {
            let text = text(&limited.call(&tool.name, json!({})).await);
            let listed = offered.iter().any(|offered| offered.name == tool.name);
            assert_eq!(text.starts_with("permission_denied: "), !listed, "{} with {scope}: {text}", tool.name);
            refused += usize::from(!listed);
        }
    }
    // Every tool is refused with at least all scopes but its own.
    assert!(refused >= tools.len() * (Scope::ALL.len() - 2), "{refused}");
    let nobody = Client::connect(&meta, Access::with_scopes("nobody", [])).await;
    assert_eq!(nobody.0.list_all_tools().await.unwrap(), []);
}

#[tokio::test]
async fn what_agents_see_of_the_tools() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let tools = client.0.list_all_tools().await.unwrap();
    let size = serde_json::to_string(&tools).unwrap().len();
    assert!(size / 4 <= 12_000, "the list of tools takes about {} tokens", size / 4);
    insta::assert_json_snapshot!(json!({ "tokens": size / 4, "tools": tools }));
}

/// The code and the text of an error of the protocol.
fn protocol_error<T: std::fmt::Debug>(answer: Result<T, ServiceError>) -> (i32, String) {
    match answer.unwrap_err() {
        ServiceError::McpError(error) => (error.code.0, error.message.into_owned()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_tool_that_there_is_not_and_a_cursor_of_somebody_elses_are_invalid_parameters() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    for (name, help) in [
        ("add_mcp_tol", "did you mean \"add_mcp_tool\"?"),
        ("weather", "tools of servers that were made here are called by call_mcp_tool"),
    ] {
        let (code, said) = protocol_error(client.0.call_tool(CallToolRequestParams::new(name)).await);
        assert_eq!(code, -32602, "{said}");
        assert!(said.contains(&format!("there is no tool {name:?}")) && said.contains(help), "{said}");
    }
    let cursor = || Some(PaginatedRequestParams::default().with_cursor(Some("Not A Name".to_owned())));
    for (code, said) in [
        protocol_error(client.0.list_tools(cursor()).await),
        protocol_error(client.0.list_prompts(cursor()).await),
        protocol_error(client.0.list_resources(cursor()).await),
        protocol_error(client.0.list_resource_templates(cursor()).await),
    ] {
        assert_eq!(code, -32602, "{said}");
        assert!(said.contains("the cursor is not ours"), "{said}");
    }
}

#[tokio::test]
async fn a_client_of_the_newest_revision_is_served_too() {
    let meta = memory::meta().await;
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = Client::connect_by(&meta, everything(), lifecycle).await;
    let listed = client.data("list_mcp_servers", json!({})).await;
    assert_eq!(listed, json!({ "servers": [] }));
}

#[tokio::test]
async fn changes_are_in_the_audit_log_and_secrets_are_not() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "vault", "description": "Has a secret." })).await;
    let declared = json!({ "serverId": "vault", "settings": { "secrets": ["TOKEN"] } });
    client.data("update_mcp_server", declared).await;
    client.data("set_secret", json!({ "serverId": "vault", "name": "TOKEN", "value": "s3cret-value" })).await;
    client.failure("remove_mcp_tool", json!({ "serverId": "vault", "toolName": "none" })).await;
    client.failure("create_sdk_environment", json!({ "serverId": "vault" })).await;
    let secrets = client.data("list_secrets", json!({ "serverId": "vault" })).await;
    assert_eq!(secrets, json!({ "secrets": [{ "name": "TOKEN", "hasValue": true }] }));

    let log = client.data("list_audit_log", json!({})).await;
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create_sdk_environment", "set_secret", "update_mcp_server", "init_mcp_server"]);
    // What failed may have made a part of its change.
    let outcomes: Vec<_> = entries.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "done", "done", "done"]);
    assert!(entries.iter().all(|entry| entry["server"] == "vault" && entry["actor"] == "test"), "{log}");
    assert_ne!(entries[2]["before"], entries[2]["after"]);
    assert_eq!((&entries[3]["before"], &entries[3]["after"]), (&Value::Null, &entries[2]["before"]));
    assert!(!log.to_string().contains("s3cret-value"));
}

#[tokio::test]
async fn definitions_go_out_and_come_in_and_tools_are_found() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let definition = json!({
        "name": "weather", "description": "Weather.",
        "tools": [{ "name": "get_forecast", "description": "Forecast of a city.", "implementation": "return 1;" }]
    });
    client.data("import_server", json!({ "definition": definition })).await;
    let exported = client.data("export_server", json!({ "serverId": "weather" })).await["definition"].take();
    client.data("delete_mcp_server", json!({ "serverId": "weather" })).await;
    client.data("import_server", json!({ "definition": exported })).await;
    let found = client.data("search_mcp_tools", json!({ "query": "forecast for a town" })).await;
    assert_eq!(found["tools"][0]["tool"], "get_forecast", "{found}");
    assert_eq!(client.data("search_mcp_tools", json!({ "query": "stocks" })).await, json!({ "tools": [] }));
    let files = client.data("get_mcp_server_code", json!({ "serverId": "weather", "fileType": "package" })).await;
    assert_eq!(files["files"].as_object().unwrap().keys().collect::<Vec<_>>(), ["package.json"]);
}

#[tokio::test]
async fn live_servers_are_resources_and_their_names_are_completed() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    for name in ["alpha", "beta"] {
        client.data("init_mcp_server", json!({ "name": name, "description": "A server." })).await;
    }
    client.data("deploy_mcp_server", json!({ "serverId": "beta" })).await;
    let listed = client.0.list_all_resources().await.unwrap();
    assert_eq!(listed.iter().map(|resource| resource.uri.as_str()).collect::<Vec<_>>(), ["metamcp://servers/beta"]);
    let read = client.0.read_resource(ReadResourceRequestParams::new("metamcp://servers/alpha")).await.unwrap();
    assert!(format!("{read:?}").contains("draft"), "{read:?}");
    let unknown = client.0.read_resource(ReadResourceRequestParams::new("metamcp://servers/gamma")).await.unwrap_err();
    assert!(unknown.to_string().contains("does not exist"), "{unknown}");
    let template = Reference::for_resource("metamcp://servers/{name}");
    let completed = client.0.complete(CompleteRequestParams::new(template, ArgumentInfo::new("name", "be"))).await;
    assert_eq!(completed.unwrap().completion.values, ["beta"]);
    let goal = json!({ "goal": "tell the time" }).as_object().cloned().unwrap();
    let prompt =
        client.0.get_prompt(GetPromptRequestParams::new("make_mcp_server").with_arguments(goal)).await.unwrap();
    assert!(format!("{prompt:?}").contains("The goal: tell the time"));
}

#[tokio::test]
async fn an_api_becomes_tools() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "pets", "description": "Pets." })).await;
    let document = include_str!("../openapi/petstore.yaml");
    let import =
        json!({ "serverId": "pets", "document": document, "operations": ["listPets", "PUT /pets/{petId}/photo"] });
    let imported = client.data("import_openapi", import).await;
    assert_eq!((&imported["tools"], &imported["secrets"]), (&json!(["listPets"]), &json!(["PETSTORE_AUTH"])));
    assert_eq!(imported["skipped"][0]["operation"], "PUT /pets/{petId}/photo");
    client.data("set_secret", json!({ "serverId": "pets", "name": "PETSTORE_AUTH", "value": "v" })).await;
    let exported = client.data("export_server", json!({ "serverId": "pets" })).await;
    assert_eq!(exported["definition"]["egress"], json!(["eu.pets.example.com"]));
    let again = |replace: bool| json!({ "serverId": "pets", "document": document, "operations": ["listPets"], "baseUrl": "https://us.example.com", "replace": replace });
    let refused = client.failure("import_openapi", again(false)).await;
    assert!(refused.starts_with("already_exists: ") && refused.contains("`replace`"), "{refused}");
    let replaced = client.data("import_openapi", again(true)).await;
    assert_eq!(replaced["secrets"], json!(["PETSTORE_AUTH_US_EXAMPLE_COM_41BF5813"]));
    let none = json!({ "serverId": "pets", "document": "nothing", "baseUrl": "nowhere" });
    assert!(client.failure("import_openapi", none).await.starts_with("invalid_definition: baseUrl is no URL"));
}
