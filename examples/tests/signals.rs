//! The reference server over standard input and output, told to end while its host says nothing more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use reference::{Host, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_and_a_bridge_end_with_a_signal_though_their_input_is_open() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let owner = Host::start(folder.path()).await;
        let bridge = Host::start(folder.path()).await;
        bridge.client.data("init_mcp_server", json!({ "name": "seen", "description": "By both." })).await;
        end_by(signal, bridge).await;
        let listed = owner.client.data("list_mcp_servers", json!({})).await;
        assert_eq!(listed["servers"][0]["name"], "seen", "{listed}");
        end_by(signal, owner).await;
    }
}

/// Sends the signal and waits for the end; the client, and with it the input, is there until then.
async fn end_by(signal: &str, mut host: Host) {
    let id = host.process.id().unwrap().to_string();
    let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().await.unwrap();
    assert!(sent.success());
    let status = timeout(LIMIT, host.process.wait()).await.expect("it ends though its input is open").unwrap();
    assert!(status.success(), "{status}");
    drop(host.client);
}
