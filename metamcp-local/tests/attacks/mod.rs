//! What code inside a server's process may try, whatever isolates it: the same for each isolation.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::net::SocketAddr;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use metamcp_core::{EgressRule, Endpoint, Publisher};
use metamcp_local::{Isolation, LocalConfig, ServiceWorker};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{Local, artifact, call, error_message, server, worker};

/// One test for each attack.
macro_rules! against {
    (@one $isolation:expr, [$($ignore:tt)*], $name:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        $($ignore)*
        async fn $name() {
            $crate::attacks::$name($isolation).await;
        }
    };
    (@each $isolation:expr, $ignore:tt, $($name:ident)*) => {
        $($crate::attacks::against! { @one $isolation, $ignore, $name })*
    };
    ($isolation:expr $(, $($ignore:tt)+)?) => {
        $crate::attacks::against! { @each $isolation, [$($($ignore)+)?],
            private_addresses_are_out_of_reach_however_they_are_written
            a_redirect_is_followed_only_to_where_a_request_may_go
            a_redirect_to_a_private_address_is_refused_without_an_egress_list_too
            an_egress_list_allows_exactly_what_it_names
            an_address_block_opens_its_addresses_but_not_names_that_resolve_to_them
            there_are_no_raw_sockets
            an_embedded_worker_answers_rpc_behind_its_binding
            a_server_sees_its_declared_secrets_and_no_other
            hostile_text_in_settings_reaches_the_worker_unchanged
        }
    };
}
pub(crate) use against;

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
async fn attacker(isolation: Isolation, egress: Option<Vec<EgressRule>>) -> (Local, SocketAddr, Endpoint) {
    let address = upstream().await;
    let local = Local::open_with(|config| {
        let config = isolated(config, isolation);
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

pub(crate) async fn private_addresses_are_out_of_reach_however_they_are_written(isolation: Isolation) {
    let (_local, address, endpoint) = attacker(isolation, None).await;
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

pub(crate) async fn a_redirect_is_followed_only_to_where_a_request_may_go(isolation: Isolation) {
    let (_local, _, endpoint) = attacker(isolation, Some(vec![host("allowed.test")])).await;
    let followed = call(&endpoint, "fetch", json!({ "url": "https://allowed.test/to-allowed" })).await;
    assert_eq!(followed["result"][1], "http://allowed.test/");
    let denied = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/to-denied" })).await;
    assert!(error_message(&denied).contains("host denied.test is not in this server's egress list"));
    let private = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/redirect" })).await;
    assert!(error_message(&private).contains("host 127.0.0.1 is not in this server's egress list"));
}

pub(crate) async fn a_redirect_to_a_private_address_is_refused_without_an_egress_list_too(isolation: Isolation) {
    let (_local, _, endpoint) = attacker(isolation, None).await;
    let answer = call(&endpoint, "fetch", json!({ "url": "http://allowed.test/redirect" })).await;
    assert!(error_message(&answer).contains("could not connect to 127.0.0.1"), "{answer}");
}

pub(crate) async fn an_egress_list_allows_exactly_what_it_names(isolation: Isolation) {
    let rules = vec![EgressRule::HostsBelow("test".to_owned()), host("example.invalid")];
    let (_local, _, endpoint) = attacker(isolation, Some(rules)).await;
    for url in ["http://allowed.test/", "https://allowed.test/", "http://ALLOWED.test./"] {
        let answer = call(&endpoint, "fetch", json!({ "url": url })).await;
        assert_eq!(answer["result"][0], 200, "{url}: {answer}");
    }
    for target in ["other.invalid", "test", "notallowed.tests", "example.invalid.evil", "8.8.8.8"] {
        let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{target}/") })).await;
        assert!(error_message(&answer).contains("egress list"), "{target}: {answer}");
    }
}

pub(crate) async fn an_address_block_opens_its_addresses_but_not_names_that_resolve_to_them(isolation: Isolation) {
    let block = EgressRule::Block { address: "127.0.0.0".parse().unwrap(), prefix: 8 };
    let (_local, address, endpoint) = attacker(isolation, Some(vec![block, host("localhost")])).await;
    let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{address}/") })).await;
    assert_eq!(answer["result"][0], 200, "{answer}");
    let mapped = format!("http://[::ffff:127.0.0.1]:{}/", address.port());
    assert_eq!(call(&endpoint, "fetch", json!({ "url": mapped })).await["result"][0], 200);
    for target in ["localhost", "[::1]", "10.0.0.1"] {
        let answer = call(&endpoint, "fetch", json!({ "url": format!("http://{target}:{}/", address.port()) })).await;
        assert!(answer["error"].is_object(), "{target}: {answer}");
    }
}

pub(crate) async fn there_are_no_raw_sockets(isolation: Isolation) {
    let (_local, address, endpoint) = attacker(isolation, None).await;
    for target in [address.to_string(), "example.com:80".to_owned()] {
        assert!(call(&endpoint, "connect", json!({ "address": target })).await["error"].is_object());
    }
    assert!(call(&endpoint, "node", json!({ "port": address.port() })).await["error"].is_object());
}

pub(crate) async fn an_embedded_worker_answers_rpc_behind_its_binding(isolation: Isolation) {
    let images = ServiceWorker::from_source(
        r#"
        import { WorkerEntrypoint } from "cloudflare:workers";
        export default class extends WorkerEntrypoint {
          async optimize(buffer, options) { return { bytes: buffer.byteLength, width: options.width }; }
        }"#,
    );
    let local = Local::open_with(|config| isolated(config, isolation).with_service_worker("pictures", images)).await;
    let name = server("painter");
    let mut built = artifact(&name, &worker(ATTACKS));
    built.settings.bindings =
        serde_json::from_value(json!({ "IMAGES": { "type": "images", "target": "pictures" } })).unwrap();
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    assert_eq!(call(&endpoint, "optimize", json!({})).await["result"], json!({ "bytes": 3, "width": 7 }));
}

pub(crate) async fn a_server_sees_its_declared_secrets_and_no_other(isolation: Isolation) {
    let local = Local::open_with(|config| isolated(config, isolation)).await;
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

pub(crate) async fn hostile_text_in_settings_reaches_the_worker_unchanged(isolation: Isolation) {
    let local = Local::open_with(|config| isolated(config, isolation)).await;
    let name = server("hostile");
    let text = "\"]), (name = \"x\", text = \"\\\n\u{2028}\u{0}${x}`*/</script>é😀\u{7f}";
    let mut built = artifact(&name, &worker("vars(_, env) { return [env.TEXT, env.JSON]; }"));
    built.settings.vars.insert("TEXT".parse().unwrap(), Value::from(text));
    built.settings.vars.insert("JSON".parse().unwrap(), json!({ text: [text] }));
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    assert_eq!(call(&endpoint, "vars", json!({})).await["result"], json!([text, { text: [text] }]));
}

fn isolated(config: LocalConfig, isolation: Isolation) -> LocalConfig {
    let config = config.with_isolation(isolation);
    #[cfg(feature = "docker")]
    if let Ok(image) = std::env::var("METAMCP_DOCKER_BASE_IMAGE") {
        let docker = config.docker.clone().with_base_image(image);
        return config.with_docker(docker);
    }
    config
}
