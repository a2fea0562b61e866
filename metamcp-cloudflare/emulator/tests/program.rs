//! The emulator as a program of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use reqwest::Client;
use serde_json::{Value, json};

struct Program {
    process: Child,
    base_url: String,
    /// It goes on writing there, and ends if nobody could read it.
    _output: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metamcp-cloudflare-emulator"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Program {
    let mut process = command(arguments).spawn().unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut lines = output.by_ref().lines().map_while(Result::ok);
    let base_url = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).unwrap();
    Program { process, base_url, _output: output }
}

#[tokio::test]
async fn workers_kv_is_as_stale_as_it_was_asked_to_be() {
    for (staleness, status) in [("0", 200), ("86400", 404)] {
        let program = start(&["--port", "0", "--kv-staleness", staleness]);
        let namespaces =
            format!("{}/accounts/0123456789abcdef0123456789abcdef/storage/kv/namespaces", program.base_url);
        let client = Client::new();
        let made = client.post(&namespaces).bearer_auth("any").json(&json!({ "title": "notes" })).send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        let value = format!("{namespaces}/{}/values/key", made["result"]["id"].as_str().unwrap());
        client.put(&value).bearer_auth("any").body("text").send().await.unwrap().error_for_status().unwrap();
        let read = client.get(&value).bearer_auth("any").send().await.unwrap();
        assert_eq!(read.status().as_u16(), status, "after {staleness} s");
    }
}

#[test]
fn an_argument_that_it_does_not_know_is_told() {
    for arguments in [["--prot", "0"].as_slice(), &["--port"], &["--port", "many"]] {
        let ended = command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && told.contains("--port"), "{arguments:?}: {told}");
    }
}
