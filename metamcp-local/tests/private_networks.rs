//! Which addresses a body reaches, in a network of the test's own where every address is this machine.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use support::{Local, call, error_message, server, worker};

const INSIDE: &str = "METAMCP_TEST_EVERY_ADDRESS_IS_THIS_MACHINE";
const BODY: &str = "async fetch({ url }) { return (await fetch(url)).status; }";

/// Runs itself again in that network.
#[test]
#[ignore = "needs root, unshare and ip"]
fn only_addresses_of_the_public_internet_are_reached() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(check());
    }
    let network = "ip link set lo up
        for half in 0.0.0.0/1 128.0.0.0/1; do ip route add local $half dev lo; done
        for half in ::/1 8000::/1; do ip -6 route add local $half dev lo; done
        exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-ec", network, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "only_addresses_of_the_public_internet_are_reached", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

async fn check() {
    let listener = tokio::net::TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(|| async { "reached" }))).await });
    let local = Local::open().await;
    let name = server("curious");
    let (_, endpoint) = local.deploy(&name, &worker(BODY)).await;
    let fetch = async |host: &str| call(&endpoint, "fetch", json!({ "url": format!("http://{host}:{port}/") })).await;

    for host in ["1.1.1.1", "8.8.8.8", "198.20.0.1", "[2606:4700::1111]", "[2a00::1]"] {
        assert_eq!(fetch(host).await["result"], 200, "{host}");
    }
    let private = [
        "0.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.2.9",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.5",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[100::9]",
        "[2001::1]",
        "[2001:db8::9]",
        "[2002:7f00:1::]",
        "[3fff::9]",
        "[4000::9]",
        "[5f00::9]",
        "[8000::1]",
        "[fc00::1]",
        "[fe80::1]",
        "[fec0::9]",
    ];
    for host in private {
        let answer = fetch(host).await;
        assert!(error_message(&answer).contains("could not connect to"), "{host}: {answer}");
    }
}
