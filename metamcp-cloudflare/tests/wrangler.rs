//! Cloudflare's own client against the emulator: what it accepts, an independent hand wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use account::{Account, ID, TOKEN};
use metamcp_cloudflare::{D1Executor, D1Registry, WorkersKvCache};
use metamcp_core::{ErrorKind, KvCache, Registry, Ttl};
use tokio::process::Command;
use tokio::time::timeout;

const WRANGLER: &str = "wrangler@4.164.0";
/// npm may have to fetch a hundred megabytes.
const LIMIT: Duration = Duration::from_secs(300);

struct Wrangler<'a> {
    account: &'a Account,
    folder: tempfile::TempDir,
}

impl<'a> Wrangler<'a> {
    async fn install(account: &'a Account) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("package.json"), "{\"private\": true}").unwrap();
        let wrangler = Self { account, folder };
        wrangler.run("npm", &["install", "--no-audit", "--no-fund", "--ignore-scripts", WRANGLER]).await.unwrap();
        wrangler
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// What wrangler says; `Err` if it fails.
    async fn try_wrangler(&self, arguments: &[&str]) -> Result<String, String> {
        let program = self.folder.path().join("node_modules/.bin/wrangler");
        self.run(program, arguments).await
    }

    async fn wrangler(&self, arguments: &[&str]) -> String {
        self.try_wrangler(arguments).await.unwrap_or_else(|said| panic!("wrangler {}: {said}", arguments.join(" ")))
    }

    async fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<String, String> {
        let command = Command::new(program.as_ref())
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("CLOUDFLARE_API_BASE_URL", self.account.emulator.base_url())
            .env("CLOUDFLARE_API_TOKEN", TOKEN)
            .env("CLOUDFLARE_ACCOUNT_ID", ID)
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CI", "true")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, command).await.expect("it ends in time").expect("it is on PATH");
        let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

fn config(database: &str) -> String {
    format!(
        r#"{{ "name": "spec", "compatibility_date": "2026-11-01", "d1_databases": [{{ "binding": "DB",
            "database_name": "meta-mcp-db", "database_id": "{database}", "migrations_dir": "migrations" }}] }}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_works_on_the_registry_beside_us() {
    let account = Account::start().await;
    let wrangler = Wrangler::install(&account).await;

    let created = wrangler.wrangler(&["d1", "create", "meta-mcp-db"]).await;
    let executor = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    assert!(created.contains(executor.database_id()), "{created}");
    wrangler.write("wrangler.jsonc", &config(executor.database_id()));

    let registry = D1Registry::open(executor.clone()).await.unwrap();
    std::fs::create_dir(wrangler.folder.path().join("migrations")).unwrap();
    for (name, text) in metamcp_core::registry::sql::MIGRATIONS {
        wrangler.write(&format!("migrations/{name}"), text);
    }
    let d1 = |rest: &[&'static str]| [&["d1"], rest, &["--remote"]].concat();
    let listed = wrangler.wrangler(&d1(&["migrations", "list", "meta-mcp-db"])).await;
    assert!(listed.contains("No migrations to apply"), "{listed}");

    let key = "absent".parse().unwrap();
    assert_eq!(registry.get_server(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    let counted = wrangler
        .wrangler(&d1(&["execute", "meta-mcp-db", "--command", "SELECT count(*) AS n FROM mcp_servers", "--json"]))
        .await;
    assert!(counted.contains("\"n\": 0"), "{counted}");

    // The other way round: what wrangler migrates, we open.
    wrangler.wrangler(&["d1", "create", "second"]).await;
    let second = D1Executor::open(account.client(), "second").await.unwrap();
    wrangler.write("wrangler.jsonc", &config(second.database_id()).replace("meta-mcp-db", "second"));
    wrangler.wrangler(&d1(&["migrations", "apply", "second"])).await;
    D1Registry::open(second).await.unwrap();

    wrangler.write("rows.sql", "CREATE TABLE extra (x TEXT);\nINSERT INTO extra VALUES ('one;'), ('two');\n");
    wrangler.wrangler(&d1(&["execute", "second", "--file", "rows.sql", "--yes"])).await;
    wrangler.wrangler(&d1(&["export", "second", "--output", "dump.sql"])).await;
    let dump = std::fs::read_to_string(wrangler.folder.path().join("dump.sql")).unwrap();
    assert!(dump.contains("VALUES('one;')") && dump.contains("CREATE TABLE"), "{dump}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_and_we_see_the_same_keys() {
    let account = Account::start().await;
    let wrangler = Wrangler::install(&account).await;
    wrangler.wrangler(&["kv", "namespace", "create", "META_MCP_KV"]).await;
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    let namespace = format!("--namespace-id={}", cache.namespace_id());
    let kv = |rest: &[&'static str]| [&["kv"], rest, &[namespace.as_str(), "--remote"]].concat();

    cache.put("ours/with space:%é", "from us".into(), Ttl::HOUR).await.unwrap();
    let read = wrangler.wrangler(&kv(&["key", "get", "ours/with space:%é", "--text"])).await;
    assert!(read.contains("from us"), "{read}");
    wrangler.wrangler(&kv(&["key", "put", "theirs", "from wrangler", "--ttl=120", "--metadata={\"a\":1}"])).await;
    assert_eq!(cache.get("theirs").await.unwrap(), Some("from wrangler".into()));
    wrangler.write("bulk.json", r#"[{ "key": "b1", "value": "1" }, { "key": "b2", "value": "2" }]"#);
    wrangler.wrangler(&kv(&["bulk", "put", "bulk.json"])).await;
    assert_eq!(cache.list("").await.unwrap(), ["b1", "b2", "ours/with space:%é", "theirs"]);
    let listed = wrangler.wrangler(&kv(&["key", "list"])).await;
    assert!(listed.contains("ours/with space:%é") && listed.contains("\"expiration\""), "{listed}");
    wrangler.wrangler(&kv(&["key", "delete", "theirs"])).await;
    assert_eq!(cache.get("theirs").await.unwrap(), None);
    assert!(wrangler.try_wrangler(&kv(&["key", "put", "short", "x", "--ttl=10"])).await.is_err());
}
