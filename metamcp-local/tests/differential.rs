//! The two ways to run one definition answer alike: the prebuilt runtime with copied bodies, and the exported project
//! as wrangler bundles it.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod live;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use live::http::{Answer, post, prepare};
use live::project::Project;
use live::{ERAS, Era, Live};
use metamcp_core::bundle::Toolchain;
use metamcp_core::{ServerDefinition, WorkerSettings, validate};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The template's own sample with more that can go wrong.
fn definition() -> ServerDefinition {
    let sample = include_str!("../../templates/remote-mcp-authless/sample.json");
    let mut definition: Value = serde_json::from_str(sample).unwrap();
    let tools = definition["tools"].as_array_mut().unwrap();
    let sum = json!({ "type": "object", "properties": { "sum": { "type": "number" } }, "required": ["sum"] });
    let bodies = [
        (
            "throws_deep",
            "const f = (n) => {\n  if (n === 0) throw new TypeError('deep');\n  return f(n - 1);\n};\n\nreturn f(3);",
        ),
        ("throws_later", "await new Promise((r) => setTimeout(r, 1));\nthrow new Error('later');"),
        ("throws_own_name", "class Sad extends Error { name = 'Sad'; }\nthrow new Sad('why');"),
        ("throws_text", "throw 'text';"),
        ("throws_null", "throw null;"),
        ("throws_object", "throw { code: 7 };"),
        ("fails_at_the_end", "\n\n\nnull.x;"),
        ("recurses", "const f = () => f() + 1;\nreturn f();"),
        ("returns_nothing", "return;"),
        ("returns_null", "return null;"),
        ("returns_text", "return '\\u2028`${x}`';"),
        (
            "returns_bytes",
            "return { content: [{ type: 'image', mimeType: 'image/png', data: new Uint8Array([1, 2, 255]) }] };",
        ),
        ("returns_bad_content", "return { content: [{ type: 'hologram' }] };"),
        ("returns_cycle", "const a = {}; a.a = a;\nreturn a;"),
        ("returns_much", "return 'x'.repeat(5_000_000);"),
        ("never_resolves", "await new Promise(() => {});"),
        ("calls_another", "return await ctx.callTool('add', { a: 1, b: 2 });"),
        ("calls_itself", "return await ctx.callTool('calls_itself');"),
        ("evaluates", "return [].map.constructor('return 1')();"),
        (
            "sees",
            "return { env: Object.keys(env), globals: [typeof process, typeof Buffer, typeof require, typeof module] };",
        ),
    ];
    for (name, body) in bodies {
        tools.push(json!({ "name": name, "description": "One way to end.", "limits": { "timeoutMs": 500 }, "implementation": body }));
    }
    tools.push(json!({ "name": "mismatch", "description": "Breaks its promise.", "outputSchema": sum, "implementation": "return { sum: 'x' };" }));
    let resources = definition["resources"].as_array_mut().unwrap();
    resources
        .push(json!({ "uri": "sample://broken", "name": "broken", "implementation": "\nthrow new Error('torn');" }));
    resources.push(
        json!({ "uriTemplate": "sample://of/{+path}{?q,list*}", "name": "of", "implementation": "return variables;" }),
    );
    let prompts = definition["prompts"].as_array_mut().unwrap();
    prompts
        .push(json!({ "name": "broken", "description": "Throws.", "implementation": "\n\nthrow new Error('torn');" }));
    serde_json::from_value(definition).unwrap()
}

/// What both are asked: method and parameters.
fn questions(definition: &ServerDefinition) -> Vec<(&'static str, Value)> {
    let client = json!({ "name": "metamcp-test", "version": "1.0.0" });
    let mut asked = vec![
        ("initialize", json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client })),
        ("initialize", json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client })),
        ("server/discover", json!({})),
        ("ping", json!({})),
        ("no/such", json!({})),
        ("tools/list", json!({})),
        ("tools/list", json!({ "cursor": "x" })),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
    ];
    for tool in &definition.tools {
        asked.push(("tools/call", json!({ "name": tool.name, "arguments": {} })));
    }
    for (name, arguments) in [
        ("add", json!({ "a": 2, "b": 3 })),
        ("add", json!({ "a": "2", "c": 1 })),
        ("echo", json!({ "text": "'\"`${x}\u{2028}</script>" })),
        ("countdown", json!({ "from": 2 })),
        ("confirm", json!({ "action": "go" })),
        ("nobody", json!({})),
        ("__proto__", json!({})),
    ] {
        asked.push(("tools/call", json!({ "name": name, "arguments": arguments })));
    }
    let meta = json!({ "progressToken": "p", "io.modelcontextprotocol/logLevel": "debug" });
    asked.push(("tools/call", json!({ "name": "countdown", "arguments": { "from": 3 }, "_meta": meta })));
    asked.push(("tools/call", json!({ "arguments": {} })));
    for uri in [
        "sample://about",
        "sample://pixel/ff8000",
        "sample://broken",
        "sample://of/a/b%20c?q=%C3%A9&list=1&list=2",
        "sample://nothing",
        "nonsense",
    ] {
        asked.push(("resources/read", json!({ "uri": uri })));
    }
    for (name, arguments) in [
        ("review", json!({ "language": "{{focus}} $&", "focus": "`" })),
        ("review", json!({})),
        ("greet", json!({ "who": "you" })),
        ("broken", json!({})),
        ("nobody", json!({})),
    ] {
        asked.push(("prompts/get", json!({ "name": name, "arguments": arguments })));
    }
    for (prompt, argument) in [("review", "language"), ("review", "nothing"), ("nobody", "x")] {
        let reference = json!({ "type": "ref/prompt", "name": prompt });
        asked
            .push(("completion/complete", json!({ "ref": reference, "argument": { "name": argument, "value": "r" } })));
    }
    asked
}

/// What can never be the same: the signed state of a call that waits for its client.
fn comparable(mut answer: Answer) -> Answer {
    for message in &mut answer.messages {
        if let Some(state) = message.pointer_mut("/result/requestState") {
            *state = json!("signed");
        }
    }
    answer
}

async fn ask(url: &str, era: Era, method: &str, params: &Value) -> Answer {
    comparable(Answer::of(prepare(url, era, method, params).send().await.unwrap()).await)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn the_exported_project_answers_like_the_deployed_server() {
    let definition = definition();
    let live = Live::open().await;
    let deployment = live.deploy(serde_json::to_value(&definition).unwrap()).await;
    let tree = live.meta.servers().code(&deployment.server_id.into()).await.unwrap();
    let project = Project::install(&tree).await;
    project.run("npx", &["wrangler", "deploy", "--dry-run", "--outdir", "dist"]).await;
    let exported = Exported::start(&project, &definition).await;

    let (ours, theirs) = (deployment.url.as_str(), exported.url.as_str());
    let mut asked = 0;
    for era in ERAS {
        for (method, params) in questions(&definition) {
            let (deployed, exported) = (ask(ours, era, method, &params).await, ask(theirs, era, method, &params).await);
            assert_eq!(deployed, exported, "{method} {params} in {era:?}");
            asked += 1;
        }
    }
    for body in ["", "{", "{}", "[]", "7", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#] {
        let send = |url: &str| post(url).body(body).send();
        let (deployed, exported) = (send(ours).await.unwrap(), send(theirs).await.unwrap());
        assert_eq!(Answer::of(deployed).await, Answer::of(exported).await, "{body:?}");
    }
    assert!(asked > 100, "{asked} questions");
    live.close().await;
}

/// The Worker that wrangler would upload, in workerd.
struct Exported {
    url: String,
    /// Killed when it is dropped.
    _workerd: Child,
}

impl Exported {
    async fn start(project: &Project, definition: &ServerDefinition) -> Self {
        let configuration = project.path().join("config.capnp");
        std::fs::write(&configuration, capnp(&project.path().join("dist"), definition)).unwrap();
        let toolchain = Toolchain::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")).await.unwrap();
        let mut workerd = Command::new(toolchain.workerd())
            .arg("serve")
            .arg(&configuration)
            .arg("--control-fd=1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(workerd.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("workerd says where it listens");
        let event: Value = serde_json::from_str(&line).unwrap();
        Self { url: format!("http://127.0.0.1:{}/mcp", event["port"]), _workerd: workerd }
    }
}

/// The modules in the folder that wrangler wrote, as a configuration of workerd: `index.js` first, which is the entry.
fn capnp(dist: &Path, definition: &ServerDefinition) -> String {
    let mut modules = BTreeMap::new();
    let mut folders = vec![dist.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "js") {
                let name = path.strip_prefix(dist).unwrap().display().to_string();
                modules.insert((name != "index.js", name.clone()), format!("dist/{name}"));
            }
        }
    }
    let modules: Vec<_> = modules
        .iter()
        .map(|((_, name), path)| format!("(name = {}, esModule = embed {})", json!(name), json!(path)))
        .collect();
    let state = dist.join("../state");
    std::fs::create_dir(&state).unwrap();
    let objects = WorkerSettings::of(&validate(definition).unwrap()).durable_objects;
    let namespaces: Vec<_> = objects
        .iter()
        .map(|object| format!("(className = {0}, uniqueKey = {0}, enableSql = true)", json!(object.class_name)))
        .collect();
    let bound = objects.iter().map(|object| {
        format!("(name = {}, durableObjectNamespace = {})", json!(object.binding), json!(object.class_name))
    });
    let variables: Vec<_> = definition
        .vars
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("(name = {}, text = {})", json!(name), json!(text)),
            other => format!("(name = {}, json = {})", json!(name), json!(other.to_string())),
        })
        .chain(bound)
        .collect();
    format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
           services = [(name = \"main\", worker = (modules = [{}], bindings = [{}], compatibilityDate = {:?},\n\
             durableObjectNamespaces = [{}], durableObjectStorage = (localDisk = \"state\"))),\n\
             (name = \"state\", disk = (path = {}, writable = true))],\n\
           sockets = [(name = \"http\", address = \"127.0.0.1:0\", http = (), service = \"main\")],\n\
         );\n",
        modules.join(", "),
        variables.join(", "),
        metamcp_core::COMPATIBILITY_DATE,
        namespaces.join(", "),
        json!(state)
    )
}
