//! The reference server as hosts start it, on real backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use metamcp_cloudflare_emulator::{Emulator, Options};
use rmcp::model::CallToolRequestParams;
use serde_json::json;

use reference::{Client, Host, Http, command, example, node, text, toolchain, tools};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_makes_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut failing = command(&["--http", &address, "--data-dir", folder.path().to_str().unwrap()], &[]);
    let failed = failing.stderr(std::process::Stdio::null()).output().await.unwrap();
    assert!(!failed.status.success());
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "");
    let server = Http::start(folder.path()).await;
    let key = server.admin_key.clone().expect("the first start that listens prints a key");
    let listed = server.connect(&key).await.data("list_api_keys", json!({})).await;
    let revoked = listed["keys"].as_array().unwrap().iter().filter(|key| key["revokedAt"].is_string()).count();
    assert_eq!((listed["keys"].as_array().unwrap().len(), revoked), (2, 1), "{listed}");
    server.end().await;
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
async fn what_an_agent_does_at_once_is_all_done() {
    let folder = tempfile::tempdir().unwrap();
    let server = Http::start(folder.path()).await;
    let client = server.connect(&server.admin_key.clone().unwrap()).await;
    client.data("init_mcp_server", json!({ "name": "many", "description": "Has many tools." })).await;
    let names: Vec<_> = (0..16).map(|n| format!("t{n:02}")).collect();
    let added = names.iter().map(|name| {
        let body = format!("return '{name}';");
        let tool = json!({ "serverId": "many", "toolName": name, "description": "A tool.", "implementation": body });
        client.data("add_mcp_tool", tool)
    });
    join_all(added).await;
    let tested =
        names.iter().take(3).map(|name| client.call("test_mcp_tool", json!({ "serverId": "many", "toolName": name })));
    assert_eq!(join_all(tested).await.iter().map(text).collect::<Vec<_>>(), names[..3]);
    let details = client.data("get_mcp_server_details", json!({ "serverId": "many" })).await;
    let mut found: Vec<_> = details["tools"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    server.end().await;
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
async fn a_host_that_the_operator_trusts_is_connected_to_and_its_tools_are_called() {
    let folder = tempfile::tempdir().unwrap();
    // The external server is one that was made here.
    let server = Http::start_with(folder.path(), &["--trust-host", "127.0.0.1"]).await;
    let key = server.admin_key.clone().unwrap();
    let client = server.connect(&key).await;
    for name in ["theirs", "ours"] {
        client.data("init_mcp_server", json!({ "name": name, "description": "A server." })).await;
    }
    let tool = json!({
        "serverId": "theirs", "toolName": "repeat", "description": "Repeats an x.",
        "parameters": { "times": { "type": "integer", "required": true } },
        "implementation": "return 'x'.repeat(parameters.times);"
    });
    client.data("add_mcp_tool", tool.clone()).await;
    // What logs is answered in a stream.
    let stream = json!({
        "toolName": "log_and_repeat",
        "implementation": "await ctx.log('info', 'begins'); return 'x'.repeat(parameters.times);"
    });
    let stream = tool.as_object().unwrap().iter().chain(stream.as_object().unwrap());
    client.data("add_mcp_tool", stream.map(|(name, value)| (name.clone(), value.clone())).collect()).await;
    let url = client.data("deploy_mcp_server", json!({ "serverId": "theirs" })).await["url"].take();
    let connect = json!({ "serverId": "ours", "serverName": "them", "serverUrl": url });
    client.data("connect_external_mcp", connect.clone()).await;
    let one = json!({ "serverId": "ours", "serverName": "them" });
    let offer = client.data("list_external_mcp", one).await["offer"].take();
    assert_eq!(offer["tools"][0]["inputSchema"]["required"], json!(["times"]), "{offer}");

    for tool in ["repeat", "log_and_repeat"] {
        let own = json!({ "serverId": "theirs", "toolName": tool });
        let external = json!({ "serverId": "ours", "serverName": "them", "toolName": tool });
        for mut call in [own, external] {
            for (times, says) in [(3, "xxx"), (1_200_000, "limit_exceeded: "), (4_000_000, "limit_exceeded: ")] {
                call["arguments"] = json!({ "times": times });
                let said = text(&client.call("call_mcp_tool", call.clone()).await);
                assert!(said.starts_with(says), "{call}: {}", &said[..said.len().min(400)]);
                assert!(times == 3 || said.contains("1048576 bytes"), "{said}");
            }
        }
    }
    server.end().await;

    let distrusting = Http::start(folder.path()).await;
    let client = distrusting.connect(&key).await;
    let said = text(&client.call("connect_external_mcp", connect).await);
    assert!(said.starts_with("permission_denied: ") && said.contains("is not trusted"), "{said}");
    distrusting.end().await;
}

const SECRET: &str = "a-value-that-nobody-prints-5d2c1f";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_hosts_environment_reaches_a_body_and_nothing_else() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = outside.path().join("stderr");
    let arguments = ["--stdio", "--data-dir", folder.path().to_str().unwrap(), "--secret-env", "OFFERED"];
    let environment = [("OFFERED", SECRET), ("NOT_OFFERED", SECRET), ("RUST_LOG", "trace")];
    let mut command = command(&arguments, &environment);
    command.stderr(std::fs::File::create(&log).unwrap());
    let host = Host::start_as(command).await;
    let seen = secret_is_used(&host.client).await;
    host.end().await;

    assert!(!seen.contains(SECRET), "{seen}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("set_secret") && !log.contains(SECRET), "{log}");
    let holding = files_holding(folder.path(), SECRET);
    let modes = holding.iter().map(|path| path.metadata().unwrap().permissions().mode() & 0o777);
    assert_eq!(modes.collect::<Vec<_>>(), [0o600], "{holding:?}");
}

/// Sets a secret from the environment, has a body read it, and returns everything that was answered.
async fn secret_is_used(client: &Client) -> String {
    let created = json!({ "name": "vault", "description": "Has a secret." });
    client.data("init_mcp_server", created).await;
    client.data("update_mcp_server", json!({ "serverId": "vault", "settings": { "secrets": ["TOKEN"] } })).await;
    let tool = json!({
        "serverId": "vault", "toolName": "backwards", "description": "Says the secret backwards.",
        "implementation": "console.log('it is', env.TOKEN); return [...env.TOKEN].reverse().join('');"
    });
    client.data("add_mcp_tool", tool).await;
    let set = |variable| json!({ "serverId": "vault", "name": "TOKEN", "fromEnv": variable });
    let refused = client.call("set_secret", set("NOT_OFFERED")).await;
    let said = text(&refused);
    assert!(said.starts_with("permission_denied: ") && said.contains("it offers OFFERED"), "{said}");
    let done = client.call("set_secret", set("OFFERED")).await;
    assert_eq!(done.structured_content, Some(json!({ "success": true })));
    client.data("deploy_mcp_server", json!({ "serverId": "vault" })).await;
    let called = client.call("call_mcp_tool", json!({ "serverId": "vault", "toolName": "backwards" })).await;
    assert_eq!(text(&called), SECRET.chars().rev().collect::<String>());
    let logged = client.call("get_server_logs", json!({ "serverId": "vault" })).await;
    assert!(text(&logged).contains("it is"), "{logged:?}");
    let audited = client.call("list_audit_log", json!({})).await;
    let exported = client.call("export_server", json!({ "serverId": "vault" })).await;
    let code = client.call("get_mcp_server_code", json!({ "serverId": "vault", "fileType": "all" })).await;
    format!("{:?}", [refused, done, called, logged, audited, exported, code])
}

/// Files below a folder with this text in them.
fn files_holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        if kind.is_dir() {
            found.extend(files_holding(&path, text));
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap();
            if content.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
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
#[ignore = "needs Node 22 and the official TypeScript client, which .ci/run installs"]
async fn the_official_typescript_client_shows_a_person_the_page_for_a_secret_in_either_era() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/secret.mjs");
    for era in ["2025-11-25", "2026-07-28"] {
        let fixed = [script.clone().into(), tools().join("package.json").into(), OsString::from(era), SECRET.into()];
        let server = [example().into(), "--stdio".into(), "--data-dir".into(), folder.path().join(era).into()];
        let seen = node(fixed.into_iter().chain(server)).await;
        let expected = json!({
            "set": { "success": true }, "modes": ["url", "url"], "seen": false,
            "called": SECRET.chars().rev().collect::<String>(), "declined": [true, "permission_denied"]
        });
        assert_eq!(seen, expected);
    }
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
