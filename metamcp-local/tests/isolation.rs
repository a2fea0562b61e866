//! What code inside a server's process can reach, and what other users of the machine can.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use metamcp_core::{EgressRule, Endpoint, Publisher};
use metamcp_local::{Isolation, ServiceWorker};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Local, artifact, call, error_message, processes_of, server, worker};

/// Tools that try to reach what they should not.
const ATTACKS: &str = r#"
    async fetch({ url }) { const response = await fetch(url); return [response.status, response.url, await response.text()]; },
    async connect({ address }) {
      const { connect } = await import("cloudflare:sockets");
      const socket = connect(address);
      await socket.opened;
      return "connected";
    },
    async node({ port }) {
      const { connect } = await import("node:net");
      return await new Promise((resolve, reject) => connect(port, "127.0.0.1", () => resolve("connected")).on("error", reject));
    },
    async optimize(_, env) { return await env.IMAGES.optimize(new Uint8Array([1, 2, 3]).buffer, { width: 7 }); },
    names(_, env) { return Object.keys(env); },
    secrets(_, env) { return JSON.stringify(env) + JSON.stringify(globalThis.process?.env ?? {}); },
"#;

/// An upstream of the test's own, on loopback.
async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route(
            "/",
            get(|request: axum::extract::Request| async move { format!("{:?}", request.headers().get("host")) }),
        )
        .route("/redirect", get(move || async move { Redirect::temporary(&format!("http://{address}/")) }))
        .route("/to-allowed", get(|| async { Redirect::temporary("http://allowed.test/") }))
        .route("/to-denied", get(|| async { Redirect::temporary("http://denied.test/") }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A server with these rules, whose requests for `allowed.test` and `denied.test` lead to the upstream.
async fn attacker(egress: Option<Vec<EgressRule>>) -> (Local, SocketAddr, Endpoint) {
    let address = upstream().await;
    let local = Local::open_with(|config| {
        config.with_outbound_override("allowed.test", address).with_outbound_override("denied.test", address)
    })
    .await;
    let name = server("attacker");
    let mut built = artifact(&name, &worker(ATTACKS));
    built.settings.egress = egress;
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    (local, address, endpoint)
}

fn host(name: &str) -> EgressRule {
    EgressRule::Host(name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_out_of_reach_however_they_are_written() {
    let (_local, address, endpoint) = attacker(None).await;
    let port = address.port();
    let gateway = endpoint.url.port().unwrap();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[fe80::1]",
        "[fc00::1]",
    ];
    for target in
        hosts.iter().map(|host| format!("http://{host}:{port}/")).chain([format!("http://127.0.0.1:{gateway}/")])
    {
        let answer = call(&endpoint, "fetch", json!({ "url": target })).await;
        assert!(error_message(&answer).contains("could not connect to"), "{target}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_only_to_where_a_request_may_go() {
    let (_local, _, endpoint) = attacker(Some(vec![host("allowed.test")])).await;
    let followed = call(&endpoint, "fetch", json!({ "url": "https://allowed.test/to-allowed" })).await;
    assert_eq!(followed["result"][1], "http://allowed.test/");
    let denied = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/to-denied" })).await;
    assert!(error_message(&denied).contains("host denied.test is not in this server's egress list"));
    let private = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/redirect" })).await;
    assert!(error_message(&private).contains("host 127.0.0.1 is not in this server's egress list"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_private_address_is_refused_without_an_egress_list_too() {
    let (_local, _, endpoint) = attacker(None).await;
    let answer = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/redirect" })).await;
    assert!(error_message(&answer).contains("could not connect to 127.0.0.1"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_list_allows_exactly_what_it_names() {
    let rules = vec![EgressRule::HostsBelow("test".to_owned()), host("example.invalid")];
    let (_local, _, endpoint) = attacker(Some(rules)).await;
    for url in ["http://allowed.test/", "https://allowed.test/", "http://ALLOWED.test./"] {
        let answer = call(&endpoint, "fetch", json!({ "url": url })).await;
        assert_eq!(answer["result"][0], 200, "{url}: {answer}");
    }
    for target in ["other.invalid", "test", "notallowed.tests", "example.invalid.evil", "8.8.8.8"] {
        let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{target}/") })).await;
        assert!(error_message(&answer).contains("egress list"), "{target}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_block_opens_its_addresses_but_not_names_that_resolve_to_them() {
    let block = EgressRule::Block { address: "127.0.0.0".parse().unwrap(), prefix: 8 };
    let (_local, address, endpoint) = attacker(Some(vec![block, host("localhost")])).await;
    let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{address}/") })).await;
    assert_eq!(answer["result"][0], 200, "{answer}");
    let mapped = format!("http://[::ffff:127.0.0.1]:{}/", address.port());
    assert_eq!(call(&endpoint, "fetch", json!({ "url": mapped })).await["result"][0], 200);
    for target in ["localhost", "[::1]", "10.0.0.1"] {
        let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{target}:{}/", address.port()) })).await;
        assert!(answer["error"].is_object(), "{target}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_raw_sockets() {
    let (_local, address, endpoint) = attacker(None).await;
    for target in [address.to_string(), "example.com:80".to_owned()] {
        assert!(call(&endpoint, "connect", json!({ "address": target })).await["error"].is_object());
    }
    assert!(call(&endpoint, "node", json!({ "port": address.port() })).await["error"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_worker_answers_rpc_behind_its_binding() {
    let images = ServiceWorker::from_source(
        r#"
        import { WorkerEntrypoint } from "cloudflare:workers";
        export default class extends WorkerEntrypoint {
          async optimize(buffer, options) { return { bytes: buffer.byteLength, width: options.width }; }
        }"#,
    );
    let local = Local::open_with(|config| config.with_service_worker("pictures", images)).await;
    let name = server("painter");
    let mut built = artifact(&name, &worker(ATTACKS));
    built.settings.bindings =
        serde_json::from_value(json!({ "IMAGES": { "type": "images", "target": "pictures" } })).unwrap();
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    assert_eq!(call(&endpoint, "optimize", json!({})).await["result"], json!({ "bytes": 3, "width": 7 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_sees_its_declared_secrets_and_no_other() {
    let local = Local::open().await;
    let (mine, other) = (server("mine"), server("other"));
    for (owner, name, value) in
        [(&mine, "TOKEN", "my-value"), (&mine, "UNUSED", "undeclared-value"), (&other, "TOKEN", "other-value")]
    {
        local.publisher.set_secret(owner, &name.parse().unwrap(), SecretString::from(value)).await.unwrap();
    }
    let mut built = artifact(&mine, &worker(ATTACKS));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let (_, endpoint) = local.deploy_artifact(&mine, &built).await;
    let seen = call(&endpoint, "secrets", json!({})).await["result"].to_string();
    assert!(seen.contains("my-value") && !seen.contains("other-value") && !seen.contains("undeclared-value"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_written_nowhere_but_in_its_file() {
    let local = Local::open().await;
    let name = server("mine");
    let value = "very-secret-value";
    local.publisher.set_secret(&name, &"TOKEN".parse().unwrap(), SecretString::from(value)).await.unwrap();
    let mut built = artifact(&name, &worker("say(_, env) { console.log(env.TOKEN); throw new Error(env.TOKEN); }"));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    call(&endpoint, "say", json!({})).await;
    for pid in processes_of(&local.config) {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&arguments).contains(value));
    }
    assert!(!format!("{:?}", local.publisher).contains(value));
    local.publisher.close().await.unwrap();
    let holders: Vec<_> = local.files().into_iter().filter(|file| holds(&local, file, value)).collect();
    assert_eq!(holders, [format!("servers/{}/secrets.json", name.id)]);
}

fn holds(local: &Local, file: &str, value: &str) -> bool {
    let bytes = std::fs::read(local.config.data_dir.join(file)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).contains(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_can_neither_enter_folders_nor_read_files() {
    let local = Local::open().await;
    let name = server("mine");
    local.publisher.set_secret(&name, &"TOKEN".parse().unwrap(), SecretString::from("x")).await.unwrap();
    let (_, endpoint) = local.deploy(&name, &worker("say() { console.log('x'); return 1; }")).await;
    call(&endpoint, "say", json!({})).await;
    let root = std::fs::metadata(&local.config.data_dir).unwrap();
    assert_eq!(root.mode() & 0o777, 0o700);
    for file in local.files() {
        let metadata = std::fs::symlink_metadata(local.config.data_dir.join(&file)).unwrap();
        let mode = metadata.mode() & 0o777;
        // A socket is made by workerd; that nobody else can enter its folder is what protects it.
        let is_socket = file.starts_with("run/") && file.ends_with("/s");
        assert!(is_socket || mode == if metadata.is_dir() { 0o700 } else { 0o600 }, "{file}: {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bubblewrap"]
async fn a_process_in_bubblewrap_sees_neither_the_users_files_nor_other_processes() {
    let local = Local::open_with(|config| config.with_isolation(Isolation::Bubblewrap)).await;
    let name = server("boxed");
    let (_, endpoint) = local.deploy(&name, &worker("hello() { return 'hello'; }")).await;
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    let boxed = processes_of(&local.config).into_iter().find(|pid| {
        // The innermost process has an id in a namespace of its own beside the one in ours.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_workerd = status.starts_with("Name:\tworkerd\n");
        is_workerd && status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2)
    });
    let root = format!("/proc/{}/root", boxed.expect("workerd runs in a namespace"));
    let mut names: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| ["home", "root", "var", "bin", "opt"].contains(&name.as_str()));
    assert_eq!(names, Vec::<String>::new());
    let data = format!("{root}{}", local.config.data_dir.canonicalize().unwrap().display());
    let seen: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(seen, ["run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_settings_reaches_the_worker_unchanged() {
    let local = Local::open().await;
    let name = server("hostile");
    let text = "\"]), (name = \"x\", text = \"\\\n\u{2028}\u{0}${x}`*/</script>é😀\u{7f}";
    let mut built = artifact(&name, &worker("vars(_, env) { return [env.TEXT, env.JSON]; }"));
    built.settings.vars.insert("TEXT".parse().unwrap(), Value::from(text));
    built.settings.vars.insert("JSON".parse().unwrap(), json!({ text: [text] }));
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    assert_eq!(call(&endpoint, "vars", json!({})).await["result"], json!([text, { text: [text] }]));
}
