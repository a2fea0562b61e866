//! The reference server as hosts start it, on real backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use metamcp_cloudflare_emulator::{Emulator, Options};
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use reference::{Client, Host, Http, LIMIT, example, text, toolchain};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_the_whole_loop_over_stdio() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path()).await;
    whole_loop(&host.client).await;
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_the_whole_loop_over_http_with_the_key_of_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Http::start(folder.path()).await;
    let key = server.admin_key.clone().expect("the first start prints the admin's key");
    whole_loop(&server.connect(&key).await).await;
    server.end().await;
    let again = Http::start(folder.path()).await;
    assert_eq!(again.admin_key, None);
    let listed = again.connect(&key).await.data("list_mcp_servers", json!({})).await;
    assert_eq!(listed, json!({ "servers": [] }));
    again.end().await;
}

/// Makes a tool with an error, finds it by a test, fixes and deploys it, calls it both ways, makes it worse, takes that
/// back, and clears up.
async fn whole_loop(host: &Client) {
    host.data("init_mcp_server", json!({ "name": "words", "description": "Counts words." })).await;
    let tool = json!({
        "serverId": "words", "toolName": "count", "description": "Counts the words of a text.",
        "parameters": { "text": { "type": "string", "required": true } },
        "implementation": "console.log('counting');\nreturn { words: parameters.txt.split(' ').length };"
    });
    host.data("add_mcp_tool", tool).await;
    let call = json!({ "serverId": "words", "toolName": "count", "arguments": { "text": "one two three" } });
    let tested = host.call("test_mcp_tool", call.clone()).await;
    assert_eq!(tested.is_error, Some(true));
    let said = text(&tested);
    assert!(said.contains("line 2") && said.contains("log:\n") && said.contains("counting"), "{said}");

    let fixed = "return { words: parameters.text.split(' ').length };";
    host.data("update_mcp_tool", json!({ "serverId": "words", "toolName": "count", "implementation": fixed })).await;
    assert_eq!(text(&host.call("test_mcp_tool", call.clone()).await), r#"{"words":3}"#);
    let first = host.data("deploy_mcp_server", json!({ "serverId": "words" })).await;
    assert_eq!(text(&host.call("call_mcp_tool", call.clone()).await), r#"{"words":3}"#);
    let url = first["url"].as_str().unwrap();
    let direct = metamcp_examples::connect_2026(url).await.unwrap();
    let arguments = json!({ "text": "one two" }).as_object().cloned().unwrap();
    let answer = direct.call_tool(CallToolRequestParams::new("count").with_arguments(arguments)).await.unwrap();
    assert_eq!(text(&answer), r#"{"words":2}"#);

    let other = "console.log('second version'); return { words: -1 };";
    host.data("update_mcp_tool", json!({ "serverId": "words", "toolName": "count", "implementation": other })).await;
    host.data("deploy_mcp_server", json!({ "serverId": "words" })).await;
    assert_eq!(text(&host.call("call_mcp_tool", call.clone()).await), r#"{"words":-1}"#);
    host.data("rollback", json!({ "serverId": "words", "versionId": first["versionId"] })).await;
    assert_eq!(text(&host.call("call_mcp_tool", call).await), r#"{"words":3}"#);
    let logs = host.data("get_server_logs", json!({ "serverId": "words" })).await;
    assert!(logs.to_string().contains("second version"), "{logs}");
    let cleaned = json!({ "daysThreshold": 0, "dryRun": false });
    assert_eq!(host.data("cleanup_old_servers", cleaned).await["removed"], json!(["words"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_directory_is_a_bridge_to_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = Host::start(folder.path()).await;
    let second = Host::start(folder.path()).await;
    second.client.data("init_mcp_server", json!({ "name": "shared", "description": "Seen by both." })).await;
    let listed = first.client.data("list_mcp_servers", json!({})).await;
    assert_eq!(listed["servers"][0]["name"], "shared");
    second.end().await;
    first.end().await;
    // The directory is free again, with all that was acknowledged.
    let third = Host::start(folder.path()).await;
    assert_eq!(third.client.data("list_mcp_servers", json!({})).await["servers"][0]["name"], "shared");
    third.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_the_whole_loop_on_cloudflare() {
    let options =
        Options { token: Some("emulated".to_owned()), toolchain_dir: Some(toolchain()), ..Options::default() };
    let emulator = Emulator::start(options).await.unwrap();
    let environment = [
        ("CLOUDFLARE_ACCOUNT_ID", "0123456789abcdef0123456789abcdef"),
        ("CLOUDFLARE_API_TOKEN", "emulated"),
        ("CLOUDFLARE_API_BASE_URL", &emulator.base_url()),
        ("METAMCP_WORKERS_DEV_URL", &emulator.workers_dev_url()),
    ];
    let server = Http::start_on(&["--backend", "cloudflare"], &environment).await;
    let client = server.connect(&server.admin_key.clone().unwrap()).await;
    client.data("init_mcp_server", json!({ "name": "far", "description": "Is far away." })).await;
    let tool =
        json!({ "serverId": "far", "toolName": "say", "description": "Says.", "implementation": "return 'here';" });
    client.data("add_mcp_tool", tool).await;
    let deployed = client.data("deploy_mcp_server", json!({ "serverId": "far" })).await;
    assert_eq!(text(&client.call("call_mcp_tool", json!({ "serverId": "far", "toolName": "say" })).await), "here");
    let direct = metamcp_examples::connect_2026(deployed["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(text(&direct.call_tool(CallToolRequestParams::new("say")).await.unwrap()), "here");
    client.data("delete_mcp_server", json!({ "serverId": "far" })).await;
    assert_eq!(client.data("list_mcp_servers", json!({})).await, json!({ "servers": [] }));
    server.end().await;
}

/// Scenarios of the official suite that need no tools, resources or prompts of the suite's own.
const SCENARIOS: [(&str, &[&str]); 2] = [
    (
        "2026-07-28",
        &[
            "completion-complete",
            "tools-list",
            "resources-list",
            "sep-2164-resource-not-found",
            "prompts-list",
            "dns-rebinding-protection",
            "caching",
            "http-header-validation",
            "server-sse-multiple-streams",
        ],
    ),
    (
        "2025-11-25",
        &[
            "server-initialize",
            "ping",
            "completion-complete",
            "tools-list",
            "resources-list",
            "prompts-list",
            "dns-rebinding-protection",
            "server-session-lifecycle",
            "server-sse-polling",
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
async fn the_official_suite_finds_nothing_where_it_brings_no_fixtures() {
    let folder = tempfile::tempdir().unwrap();
    let server = Http::start_with(folder.path(), &["--no-key"]).await;
    let suite = tools().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    for (revision, scenarios) in SCENARIOS {
        for scenario in scenarios {
            let mut command = Command::new("node");
            command.arg(&suite).args(["server", "--url", &server.url, "--spec-version", revision]);
            command.args(["--scenario", scenario, "--output-dir"]).arg(folder.path().join("results"));
            let output = timeout(LIMIT, command.kill_on_drop(true).output()).await.unwrap().unwrap();
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{scenario} of {revision}:\n{report}");
        }
    }
    server.end().await;
}

/// Where `.ci/run` installs what tests need.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools")
}

/// The JSON that a program of Node's prints.
async fn node(arguments: impl IntoIterator<Item = OsString>) -> Value {
    let mut command = Command::new("node");
    command.args(arguments).env("METAMCP_TOOLCHAIN_DIR", toolchain()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{problems}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{problems}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the official TypeScript client, which .ci/run installs"]
async fn the_official_typescript_client_does_the_whole_loop_over_stdio_and_http_in_either_era() {
    let folder = tempfile::tempdir().unwrap();
    let server = Http::start(&folder.path().join("http")).await;
    let key = server.admin_key.clone().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/whole_loop.mjs");
    for era in ["2025-11-25", "2026-07-28"] {
        let fixed = [script.clone().into(), tools().join("package.json").into(), OsString::from(era)];
        let stdio =
            ["stdio".into(), example().into(), "--stdio".into(), "--data-dir".into(), folder.path().join(era).into()];
        let http = ["http".into(), server.url.clone().into(), key.clone().into()];
        for door in [stdio.to_vec(), http.to_vec()] {
            let seen = node(fixed.iter().cloned().chain(door)).await;
            let expected = json!({
                "version": era, "tools": true, "container": null,
                "failed": [true, true], "tested": r#"{"words":3}"#, "progress": true,
                "called": r#"{"words":3}"#, "direct": r#"{"words":2}"#, "second": r#"{"words":-1}"#,
                "versions": 2, "back": r#"{"words":3}"#, "logged": true,
                "details": ["words", 4, 3], "removed": ["words"]
            });
            assert_eq!(seen, expected);
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the MCP inspector, which .ci/run installs"]
async fn the_inspector_lists_and_calls() {
    let folder = tempfile::tempdir().unwrap();
    let server = Http::start(folder.path()).await;
    let header = format!("Authorization: Bearer {}", server.admin_key.clone().unwrap());
    let launcher = tools().join("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let inspect = |arguments: &'static [&'static str]| {
        let fixed = [launcher.clone().into(), "--cli".into(), server.url.clone().into()];
        let fixed = fixed.into_iter().chain(["--transport", "http", "--header", &header].map(OsString::from));
        node(fixed.chain(arguments.iter().map(Into::into)).collect::<Vec<_>>())
    };
    let listed = inspect(&["--method", "tools/list"]).await;
    assert_eq!(listed["tools"][0]["name"], "init_mcp_server", "{listed}");
    let called = inspect(&[
        "--method",
        "tools/call",
        "--tool-name",
        "init_mcp_server",
        "--tool-arg",
        "name=seen",
        "--tool-arg",
        "description=Seen.",
    ])
    .await;
    assert_eq!(called["structuredContent"]["status"], "ready", "{called}");
    let prompts = inspect(&["--method", "prompts/list"]).await;
    assert_eq!(prompts["prompts"][0]["name"], "make_mcp_server", "{prompts}");
    server.end().await;
}
