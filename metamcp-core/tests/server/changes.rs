//! What was set once can be taken back, and what was meant is named.

use metamcp_core::Scope;
use serde_json::{Value, json};

use super::limited::team;
use super::{Client, everything, memory};

async fn exported(client: &Client, server: &str, section: &str) -> Value {
    let exported = client.data("export_server", json!({ "serverId": server })).await;
    exported["definition"][section][0].clone()
}

#[tokio::test]
async fn null_takes_a_field_of_a_tool_back() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "all", "description": "Has all fields." })).await;
    let plain =
        json!({ "serverId": "all", "toolName": "t", "description": "A tool.", "implementation": "return { n: 1 };" });
    let mut tool = plain.clone();
    tool["title"] = "Tool".into();
    tool["parameters"] = json!({ "a": { "type": "string" } });
    tool["outputSchema"] = json!({ "type": "object", "properties": { "n": { "type": "number" } } });
    tool["annotations"] = json!({ "readOnlyHint": true });
    tool["limits"] = json!({ "timeoutMs": 1000 });
    tool["examples"] = json!([{ "arguments": {}, "expected": { "n": 1 } }]);
    client.data("add_mcp_tool", tool.clone()).await;
    let full = exported(&client, "all", "tools").await;

    // What is left out stays, and a null where nothing is removes nothing.
    client.data("update_mcp_tool", json!({ "serverId": "all", "toolName": "t", "newName": null })).await;
    assert_eq!(exported(&client, "all", "tools").await, full);
    let mut nothing = json!({ "serverId": "all", "toolName": "t" });
    for field in ["title", "parameters", "outputSchema", "annotations", "limits", "examples"] {
        nothing[field] = Value::Null;
    }
    client.data("update_mcp_tool", nothing).await;
    let left = exported(&client, "all", "tools").await;
    client.data("remove_mcp_tool", json!({ "serverId": "all", "toolName": "t" })).await;
    client.data("add_mcp_tool", plain).await;
    assert_eq!(left, exported(&client, "all", "tools").await);

    let needed = json!({ "serverId": "all", "toolName": "t", "implementation": null });
    let said = client.failure("update_mcp_tool", needed).await;
    assert!(said.starts_with("invalid_definition: ") && said.contains("\"implementation\" is missing"), "{said}");
}

#[tokio::test]
async fn of_two_fields_that_stand_for_each_other_the_one_given_stays() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "pair", "description": "Has pairs." })).await;
    let prompt = json!({ "serverId": "pair", "promptName": "p", "description": "A prompt.", "template": "Hi." });
    client.data("add_mcp_prompt", prompt).await;
    let resource = json!({
        "serverId": "pair", "name": "r", "description": "A resource.", "uri": "a://b", "implementation": "return 'x';"
    });
    client.data("add_mcp_resource", resource).await;

    let prompt = |field: &str, text: &str| json!({ "serverId": "pair", "promptName": "p", field: text });
    let resource = |field: &str, text: &str| json!({ "serverId": "pair", "name": "r", field: text });
    for (tool, section, arguments, [given, gone]) in [
        ("update_mcp_prompt", "prompts", prompt("implementation", "return 'Hi.';"), ["implementation", "template"]),
        ("update_mcp_prompt", "prompts", prompt("template", "Ho."), ["template", "implementation"]),
        ("update_mcp_resource", "resources", resource("uriTemplate", "a://{b}"), ["uriTemplate", "uri"]),
        ("update_mcp_resource", "resources", resource("uri", "a://c"), ["uri", "uriTemplate"]),
    ] {
        client.data(tool, arguments.clone()).await;
        let item = exported(&client, "pair", section).await;
        assert_eq!((&item[given], item.get(gone)), (&arguments[given], None), "{item}");
    }
    let mut both = prompt("template", "Hi.");
    both["implementation"] = "return 'Hi.';".into();
    let said = client.failure("update_mcp_prompt", both).await;
    assert!(said.contains("has both"), "{said}");
}

#[tokio::test]
async fn a_server_that_there_is_not_is_named_as_it_was_meant_to_those_who_may_see_it() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    for name in ["weather", "team-weather"] {
        client.data("init_mcp_server", json!({ "name": name, "description": "A server." })).await;
    }
    for meant in ["wether", "Weather"] {
        let said = client.failure("get_mcp_server_details", json!({ "serverId": meant })).await;
        assert!(said.ends_with("did you mean \"weather\"?"), "{said}");
    }
    let far = client.failure("deploy_mcp_server", json!({ "serverId": "stocks" })).await;
    assert!(far.contains("does not exist") && !far.contains("did you mean"), "{far}");
    // Of a server that there is, something else was not found.
    let tool = client.failure("remove_mcp_tool", json!({ "serverId": "weather", "toolName": "t" })).await;
    assert!(tool.contains("tool \"t\" does not exist") && !tool.contains("did you mean"), "{tool}");

    let limited = Client::connect(&meta, team(&[Scope::Read])).await;
    let said = limited.failure("get_mcp_server_details", json!({ "serverId": "team-wether" })).await;
    assert!(said.ends_with("did you mean \"team-weather\"?"), "{said}");
    let said = limited.failure("get_mcp_server_details", json!({ "serverId": "Weathr" })).await;
    assert!(!said.contains("\"weather\""), "{said}");
}

#[tokio::test]
async fn an_imported_server_has_the_status_that_its_details_show() {
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    let import = json!({ "definition": { "name": "in", "description": "Comes in." } });
    assert_eq!(client.data("import_server", import.clone()).await["status"], "draft");
    client.data("deploy_mcp_server", json!({ "serverId": "in" })).await;
    let init = json!({ "name": "in", "description": "Comes in." });
    for (tool, arguments) in
        [("import_server", import), ("init_mcp_server", init), ("get_mcp_server_details", json!({ "serverId": "in" }))]
    {
        assert_eq!(client.data(tool, arguments).await["status"], "deployed", "{tool}");
    }
}
