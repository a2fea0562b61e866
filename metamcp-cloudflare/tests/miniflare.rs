//! The registry on Cloudflare's own local D1: what miniflare answers, an independent hand wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use metamcp_cloudflare::{Client, CloudflareConfig, D1Executor, D1Registry};
use metamcp_core::Registry;
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const WRANGLER: &str = "wrangler@4.164.0";
const DATABASE: &str = "6f0c1b7e-0000-4000-8000-000000000001";
const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
/// npm may have to fetch a hundred megabytes.
const LIMIT: Duration = Duration::from_secs(300);

/// `wrangler dev` with one D1 database; its API has the paths of the real one, without the account.
struct Miniflare {
    process: Child,
    _folder: tempfile::TempDir,
    explorer: String,
}

/// wrangler is a tree of processes.
impl Drop for Miniflare {
    fn drop(&mut self) {
        let Some(group) = self.process.id() else { return };
        let ended = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
        assert!(ended.is_ok_and(|status| status.success()), "wrangler dev was left running");
    }
}

impl Miniflare {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"{{ "name": "oracle", "main": "index.js", "compatibility_date": "2026-11-01", "d1_databases":
                [{{ "binding": "DB", "database_name": "meta-mcp-db", "database_id": "{DATABASE}" }}] }}"#
        );
        std::fs::write(folder.path().join("wrangler.jsonc"), config).unwrap();
        std::fs::write(folder.path().join("package.json"), "{\"private\": true}").unwrap();
        std::fs::write(folder.path().join("index.js"), "export default { fetch: () => new Response() };").unwrap();
        let mut install = command(folder.path(), "npm");
        install.args(["install", "--no-audit", "--no-fund", WRANGLER]).stdout(Stdio::null());
        assert!(timeout(LIMIT, install.status()).await.expect("npm ends in time").unwrap().success());

        let mut dev = command(folder.path(), folder.path().join("node_modules/.bin/wrangler"));
        dev.args(["dev", "--port", "0", "--ip", "127.0.0.1"]).stdout(Stdio::piped());
        let mut process = dev.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("wrangler dev goes on");
                if let Some((_, url)) = line.split_once("Ready on ") {
                    return url.trim().to_owned();
                }
            }
        };
        let url = timeout(LIMIT, ready).await.expect("wrangler dev is ready in time");
        // Its later lines have to go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { process, _folder: folder, explorer: format!("{url}/cdn-cgi/local/explorer/api") }
    }

    /// An API with accounts in its paths before it.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/client/v4", listener.local_addr().unwrap());
        let explorer = self.explorer.clone();
        let forward = move |request: Request| async move {
            let path = request.uri().path_and_query().unwrap().as_str();
            let url = path.replace(&format!("/client/v4/accounts/{ACCOUNT}"), &explorer);
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let forwarded = reqwest::Client::new().request(parts.method, url).body(body);
            let answer = forwarded.header("content-type", "application/json").send().await.unwrap();
            (answer.status(), answer.bytes().await.unwrap()).into_response()
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(forward)).into_future());
        url
    }
}

fn command(folder: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("WRANGLER_SEND_METRICS", "false")
        .env("CI", "true")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn the_registry_keeps_its_promises_on_miniflare() {
    let miniflare = Miniflare::start().await;
    let config = CloudflareConfig::new(ACCOUNT, "any".into()).unwrap();
    let client = Client::new(config.with_base_url(&miniflare.serve().await).unwrap()).unwrap();
    let executor = D1Executor::with_database(client, DATABASE);
    let registry = D1Registry::open(executor.clone()).await.unwrap();
    let subject: &dyn Registry = &registry;
    metamcp_core::registry_contract!(in_turn, subject);

    // A statement that fails takes the others of its batch back.
    let batch = ["CREATE TABLE extra (x)", "INSERT INTO absent VALUES (1)"].map(|sql| Statement::new(sql, []));
    let error = executor.execute(batch.into()).await.unwrap_err();
    assert!(error.message().contains("no such table"), "{error}");
    let left = executor.execute(vec![Statement::new("SELECT * FROM extra", [])]).await.unwrap_err();
    assert!(left.message().contains("no such table"), "{left}");
}
