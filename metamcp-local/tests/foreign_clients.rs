//! Clients that are not ours, against a generated server: the MCP inspector's CLI and the official TypeScript client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use live::Live;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

/// Long past anything that works.
const LIMIT: Duration = Duration::from_secs(180);

fn definition() -> Value {
    let sum = json!({ "type": "object", "properties": { "sum": { "type": "number" } }, "required": ["sum"] });
    let form = "{ type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }";
    json!({
        "name": "foreign", "description": "For clients that are not ours.", "sessions": true,
        "tools": [
            { "name": "add", "description": "Adds.", "outputSchema": sum,
              "parameters": { "a": { "type": "number", "required": true }, "b": { "type": "number", "default": 1 } },
              "implementation": "return { sum: parameters.a + parameters.b };" },
            { "name": "picture", "description": "Answers with an image and a resource.",
              "implementation": "return { content: [{ type: 'image', data: new Uint8Array([1, 2, 3]), mimeType: 'image/png' }, { type: 'resource', resource: { uri: 'foreign://note', text: 'a note' } }] };" },
            { "name": "count", "description": "Reports progress.",
              "implementation": "for (const n of [1, 2, 3]) await ctx.progress(n, 3);\nreturn 'counted';" },
            { "name": "interview", "description": "Asks all that can be asked.",
              "implementation": format!("const {{ content }} = await ctx.elicit({{ message: 'Name?', requestedSchema: {form} }});\nconst messages = [{{ role: 'user', content: {{ type: 'text', text: 'Hello' }} }}];\nconst model = await ctx.sample({{ messages, maxTokens: 5 }});\nconst {{ roots }} = await ctx.listRoots();\nreturn `${{content.name}}, ${{model.content.text}}, ${{roots[0].uri}}`;") },
            { "name": "touch", "description": "Changes a resource.",
              "implementation": "await ctx.resourceUpdated('foreign://bytes');\nreturn 'touched';" }
        ],
        "resources": [
            { "uri": "foreign://bytes", "name": "bytes", "mimeType": "application/octet-stream",
              "implementation": "return new Uint8Array([0, 255]);" },
            { "uriTemplate": "foreign://item/{id}", "name": "item", "implementation": "return `item ${variables.id}`;" }
        ],
        "prompts": [
            { "name": "review", "description": "Asks for a review.", "template": "Review this {{language}} code.",
              "arguments": [{ "name": "language", "required": true, "completion": ["rust", "ruby", "go"] }] }
        ]
    })
}

/// Where `.ci/run` installs what tests need.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools")
}

/// The JSON that a program of Node's prints.
async fn node(arguments: impl IntoIterator<Item: AsRef<std::ffi::OsStr>>) -> Value {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("node");
    command.args(arguments).env("HOME", home.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{problems}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{problems}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the official TypeScript client, which .ci/run installs"]
async fn the_official_typescript_client_sees_the_same_server_in_either_era() {
    let live = Live::open().await;
    let deployment = live.deploy(definition()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/typescript.mjs");
    for era in ["2025-11-25", "2026-07-28"] {
        let arguments = [
            script.as_os_str(),
            tools().join("package.json").as_os_str(),
            deployment.url.as_str().as_ref(),
            era.as_ref(),
        ]
        .map(ToOwned::to_owned);
        let expected = json!({
            "version": era,
            "tools": ["add", "picture", "count", "interview", "touch"],
            "sum": { "sum": 5 },
            "refused": true,
            "picture": [
                { "type": "image", "data": "AQID", "mimeType": "image/png" },
                { "type": "resource", "resource": { "uri": "foreign://note", "text": "a note" } }
            ],
            "counted": [{ "type": "text", "text": "counted" }],
            "progress": [1, 2, 3],
            "asked": [{ "type": "text", "text": "Ada, from the model, file:///work" }],
            "resources": ["foreign://bytes"],
            "templates": ["foreign://item/{id}"],
            "bytes": [{ "uri": "foreign://bytes", "mimeType": "application/octet-stream", "blob": "AP8=" }],
            "item": [{ "uri": "foreign://item/7", "mimeType": "text/plain", "text": "item 7" }],
            "prompt": [{ "role": "user", "content": { "type": "text", "text": "Review this rust code." } }],
            "completion": ["rust", "ruby"],
            "heard": "foreign://bytes"
        });
        assert_eq!(node(arguments).await, expected);
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the MCP inspector, which .ci/run installs"]
async fn the_inspector_lists_calls_and_reads() {
    let live = Live::open().await;
    let deployment = live.deploy(definition()).await;
    let launcher = tools().join("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let inspect = |arguments: &'static [&'static str]| {
        let fixed = [launcher.as_os_str(), "--cli".as_ref(), deployment.url.as_str().as_ref(), "--transport".as_ref()];
        let all = fixed.into_iter().map(ToOwned::to_owned).chain(["http"].iter().chain(arguments).map(Into::into));
        node(all.collect::<Vec<std::ffi::OsString>>())
    };
    let listed = inspect(&["--method", "tools/list"]).await;
    let names: Vec<_> = listed["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["add", "picture", "count", "interview", "touch"]);
    let called =
        inspect(&["--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=2", "--tool-arg", "b=3"]).await;
    assert_eq!(called["structuredContent"], json!({ "sum": 5 }), "{called}");
    let read = inspect(&["--method", "resources/read", "--uri", "foreign://item/7"]).await;
    assert_eq!(read["contents"][0]["text"], "item 7", "{read}");
    let prompt =
        inspect(&["--method", "prompts/get", "--prompt-name", "review", "--prompt-args", "language=rust"]).await;
    assert_eq!(prompt["messages"][0]["content"]["text"], "Review this rust code.", "{prompt}");
    live.close().await;
}
