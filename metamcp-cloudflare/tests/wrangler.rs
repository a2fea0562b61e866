//! Cloudflare's own client against the emulator: what it accepts, an independent hand wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use account::{Account, ID, TOKEN};
use metamcp_cloudflare::{D1Executor, D1Registry, WorkersKvCache};
use metamcp_cloudflare_emulator::{Effect, Fault, SeenUpload};
use metamcp_core::registry::Expect;
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use metamcp_core::{ErrorKind, KvCache, Registry, ServerDefinition, Ttl, generate, validate};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
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

    /// The project that is generated for a server, with its own wrangler.
    async fn install_project(account: &'a Account, definition: &ServerDefinition) -> Self {
        let wrangler = Self { account, folder: tempfile::tempdir().unwrap() };
        wrangler.write_project(definition);
        wrangler.run("npm", &["install", "--no-audit", "--no-fund", "--ignore-scripts"]).await.unwrap();
        wrangler
    }

    fn write_project(&self, definition: &ServerDefinition) {
        for (path, content) in generate(&validate(definition).unwrap()).unwrap().iter() {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
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

    /// wrangler with a text on its standard input.
    async fn wrangler_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.write("input.txt", input);
        let program = self.folder.path().join("node_modules/.bin/wrangler");
        let input = std::fs::File::open(self.folder.path().join("input.txt")).unwrap();
        let said = self.run_with(program, arguments, input.into()).await;
        said.unwrap_or_else(|said| panic!("wrangler {}: {said}", arguments.join(" ")))
    }

    async fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<String, String> {
        self.run_with(program, arguments, Stdio::null()).await
    }

    async fn run_with(&self, program: impl AsRef<Path>, arguments: &[&str], input: Stdio) -> Result<String, String> {
        let command = self.command(program, arguments).stdin(input).output();
        let output = timeout(LIMIT, command).await.expect("it ends in time").expect("it is on PATH");
        let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn command(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("CLOUDFLARE_API_BASE_URL", self.account.emulator.base_url())
            .env("CLOUDFLARE_API_TOKEN", TOKEN)
            .env("CLOUDFLARE_ACCOUNT_ID", ID)
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CI", "true")
            .kill_on_drop(true);
        command
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
    let schema = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' AND name <> 'd1_migrations'
         ORDER BY type, name";
    let schema = || vec![Statement::new(schema, [])];
    D1Registry::open(second.clone()).await.unwrap();
    assert_eq!(second.execute(schema()).await.unwrap(), executor.execute(schema()).await.unwrap());

    // A whole registry, by way of a file.
    let record = registry.put_server(&validate(&server("it's;\n")).unwrap(), Expect::Absent).await.unwrap();
    wrangler.write("registry.sql", &registry.export().await.unwrap());
    wrangler.wrangler(&["d1", "create", "third"]).await;
    let third = D1Executor::open(account.client(), "third").await.unwrap();
    wrangler.write("wrangler.jsonc", &config(third.database_id()).replace("meta-mcp-db", "third"));
    wrangler.wrangler(&d1(&["execute", "third", "--file", "registry.sql", "--yes"])).await;
    let copy = D1Registry::open(third).await.unwrap();
    assert_eq!(copy.get_server(&record.id.into()).await.unwrap(), record);
    let listed = wrangler.wrangler(&d1(&["migrations", "list", "third"])).await;
    assert!(listed.contains("No migrations to apply"), "{listed}");
    // The same by our own hand.
    let fourth = D1Executor::open(account.client(), "fourth").await.unwrap();
    let copy = D1Registry::import(fourth, &registry.export().await.unwrap()).await.unwrap();
    assert_eq!(copy.get_server(&record.id.into()).await.unwrap(), record);

    wrangler.write("wrangler.jsonc", &config(second.database_id()).replace("meta-mcp-db", "second"));
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

fn server(answer: &str) -> ServerDefinition {
    serde_json::from_value(serde_json::json!({
        "name": "by-wrangler", "description": "Says which version it is.", "secrets": ["TOKEN"],
        "tools": [{
            "name": "version", "description": "Its version and its secret.",
            "implementation": format!("return `{answer} ${{env.TOKEN ?? 'none'}}`;")
        }]
    }))
    .unwrap()
}

async fn ask(account: &Account) -> String {
    ask_at(&format!("{}by-wrangler.emulator.workers.dev/mcp", account.emulator.workers_dev_url())).await
}

async fn ask_at(url: &str) -> String {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap();
    let result = client.call_tool(CallToolRequestParams::new("version")).await.unwrap();
    client.cancel().await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_deploys_what_we_generate() {
    let account = Account::start().await;
    let wrangler = Wrangler::install_project(&account, &server("one")).await;
    let said = wrangler.wrangler(&["deploy"]).await;
    assert!(said.contains("https://by-wrangler.emulator.workers.dev"), "{said}");
    assert_eq!(ask(&account).await, "one none");

    wrangler.wrangler_with_input(&["secret", "put", "TOKEN"], "s3cret").await;
    wrangler.write_project(&server("two"));
    wrangler.wrangler(&["deploy"]).await;
    assert_eq!(ask(&account).await, "two s3cret");
    let versions = wrangler.wrangler(&["versions", "list"]).await;
    assert_eq!(versions.matches("Version ID:").count(), 3, "{versions}");
    wrangler.wrangler(&["rollback", "-y", "-m", "back"]).await;
    assert_eq!(ask(&account).await, "one s3cret");
    let said = wrangler.wrangler(&["deployments", "list"]).await;
    assert!(said.contains("back"), "{said}");
    wrangler.wrangler(&["delete", "--force"]).await;
    let url = format!("{}by-wrangler.emulator.workers.dev/mcp", account.emulator.workers_dev_url());
    assert_eq!(reqwest::get(url).await.unwrap().status(), 404);
}

/// An update by both, with 50 ms added to each request; prints what the README's table says.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
#[expect(clippy::print_stderr, reason = "the figures are for whoever runs it")]
async fn an_update_takes_fewer_requests_than_wranglers() {
    let account = Account::start().await;
    let wrangler = Wrangler::install_project(&account, &server("one")).await;
    wrangler.wrangler(&["deploy"]).await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let mut ours = server("one");
    ours.name = "by-us".to_owned();
    meta.servers().create(&ours).await.unwrap();
    meta.deployments().deploy(&"by-us".parse().unwrap()).await.unwrap();
    ours.tools = server("two").tools;
    meta.servers().edit(&"by-us".parse().unwrap(), |_| Ok(ours.clone())).await.unwrap();
    wrangler.write_project(&server("two"));

    let slow = Fault { method: None, path: String::new(), skip: 0, times: u32::MAX, effect: Effect::Delay(50) };
    account.emulator.faults().add(slow);
    let requests = || account.emulator.faults().seen().len();
    let (before, begin) = (requests(), Instant::now());
    wrangler.wrangler(&["deploy"]).await;
    let (wranglers, took) = (requests() - before, begin.elapsed());
    eprintln!("wrangler deploy: {wranglers} requests, {} ms", took.as_millis());
    let (before, begin) = (requests(), Instant::now());
    meta.deployments().deploy(&"by-us".parse().unwrap()).await.unwrap();
    let (our, took) = (requests() - before, begin.elapsed());
    eprintln!("deployments().deploy, checked twice: {our} requests, {} ms", took.as_millis());
    assert!(our < wranglers, "{our} requests, wrangler {wranglers}");
    assert_eq!(ask(&account).await, "two none");
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_deploys_into_a_dispatch_namespace() {
    let account = Account::start().await;
    let wrangler = Wrangler::install_project(&account, &server("one")).await;
    wrangler.wrangler(&["dispatch-namespace", "create", "meta-mcp"]).await;
    let said = wrangler.wrangler(&["dispatch-namespace", "list"]).await;
    assert!(said.contains("meta-mcp"), "{said}");
    wrangler.wrangler(&["deploy", "--dispatch-namespace", "meta-mcp"]).await;
    // The dispatcher comes with a server of ours.
    let meta = metamcp_cloudflare::open(account.config().with_dispatch_namespace("meta-mcp").unwrap()).await.unwrap();
    let mut ours = server("ours");
    ours.name = "ours".to_owned();
    let record = meta.servers().create(&ours).await.unwrap();
    let deployment = meta.deployments().deploy(&record.id.into()).await.unwrap();
    let theirs = deployment.url.as_str().replace("/ours/mcp", "/by-wrangler/mcp");
    assert_eq!(ask_at(&theirs).await, "one none");
    assert_eq!(ask_at(deployment.url.as_str()).await, "ours none");
    wrangler.write_project(&server("two"));
    wrangler.wrangler(&["deploy", "--dispatch-namespace", "meta-mcp"]).await;
    assert_eq!(ask_at(&theirs).await, "two none");
    // Neither does it take ours for its own, nor do we take its.
    meta.deployments().remove(&record.id.into()).await.unwrap();
    wrangler.wrangler(&["dispatch-namespace", "delete", "meta-mcp"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_tails_what_runs() {
    let account = Account::start().await;
    let mut logging = server("one");
    logging.tools[0].implementation = "console.log('from the body', 1); return 'logged';".into();
    let wrangler = Wrangler::install_project(&account, &logging).await;
    wrangler.wrangler(&["deploy"]).await;
    let program = wrangler.folder.path().join("node_modules/.bin/wrangler");
    let mut tailing = wrangler
        .command(program, &["tail", "by-wrangler", "--format", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tailing.stdout.take().unwrap()).lines();
    let hear = async {
        let mut heard = String::new();
        while !heard.contains("from the body") {
            heard.push_str(&lines.next_line().await.unwrap().expect("the tail goes on"));
        }
        heard
    };
    // A call that a line cut off would never log.
    let call = async {
        loop {
            assert_eq!(ask(&account).await, "logged");
        }
    };
    let heard = timeout(LIMIT, async {
        tokio::select! { heard = hear => heard, () = call => String::new() }
    })
    .await;
    // It is a tree of processes, which do not all end by themselves.
    let group = format!("-{}", tailing.id().unwrap());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().await.unwrap().success());
    assert!(heard.expect("it is heard in time").contains("by-wrangler"));
}

/// A definition with one of everything that an upload's metadata speaks of.
fn server_with_everything() -> ServerDefinition {
    serde_json::from_value(serde_json::json!({
        "name": "compared", "description": "Everything that is bound.", "sessions": true,
        "vars": { "UNITS": "metric", "LEVELS": [1, 2] },
        "bindings": {
            "NOTES": { "type": "kv", "target": "0123456789abcdef0123456789abcdef" },
            "ROWS": { "type": "d1", "target": "01234567-89ab-cdef-0123-456789abcdef" },
            "FILES": { "type": "r2", "target": "files" },
            "OTHER": { "type": "service", "target": "other" },
            "MODEL": { "type": "ai" }
        },
        "tools": [{ "name": "one", "description": "One.", "implementation": "return 1;" }]
    }))
    .unwrap()
}

/// An upload's bindings in an order of their own. wrangler still writes `id` where the API's name is `database_id`.
fn bindings(upload: &SeenUpload) -> Vec<Value> {
    let mut bindings = upload.metadata["bindings"].as_array().unwrap().clone();
    for binding in &mut bindings {
        if let Some(id) = binding.as_object_mut().unwrap().remove("id") {
            binding["database_id"] = id;
        }
    }
    bindings.sort_by_key(|binding| binding["name"].to_string());
    bindings
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn our_upload_says_what_wranglers_says() {
    let account = Account::start().await;
    let definition = server_with_everything();
    let wrangler = Wrangler::install_project(&account, &definition).await;
    wrangler.wrangler(&["deploy", "--dry-run", "--outfile", "form.txt"]).await;
    let form = std::fs::read(wrangler.folder.path().join("form.txt")).unwrap();
    let first_line = form.split(|byte| *byte == b'\r').next().unwrap();
    let boundary = String::from_utf8_lossy(&first_line[2..]).into_owned();
    let url = format!("{}/accounts/{ID}/workers/scripts/by-hand", account.emulator.base_url());
    let request = reqwest::Client::new().put(url).bearer_auth(TOKEN).body(form);
    let content_type = format!("multipart/form-data; boundary={boundary}");
    // It is refused, as a dry run cannot know which migrations to send; its form was seen.
    request.header("content-type", content_type).send().await.unwrap();

    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let record = meta.servers().create(&definition).await.unwrap();
    // So is ours: the emulator has not all that it is bound to.
    meta.deployments().deploy(&record.id.into()).await.unwrap_err();

    let uploads = account.emulator.uploads();
    let (theirs, ours) = (&uploads[0], &uploads[uploads.len() - 1]);
    let mut of_ours = bindings(ours);
    // By which the edge is asked whether it has arrived: wrangler does not ask.
    let name = &ours.metadata["annotations"]["workers/tag"];
    let version = serde_json::json!({ "type": "plain_text", "name": "METAMCP_VERSION", "text": name });
    let at = of_ours.iter().position(|binding| *binding == version).expect("the version is bound");
    of_ours.remove(at);
    assert_eq!(of_ours, bindings(theirs));
    for field in ["compatibility_date", "compatibility_flags", "observability"] {
        assert_eq!(ours.metadata[field], theirs.metadata[field], "{field}");
    }
    for upload in [ours, theirs] {
        let main = upload.metadata["main_module"].as_str().unwrap();
        assert_eq!(upload.modules[main], "application/javascript+module");
    }
    // wrangler puts the definition into the main module.
    let bodies = |upload: &SeenUpload| {
        let bodies = upload.modules.iter().filter(|(name, _)| name.contains("bodies/"));
        bodies.map(|(name, kind)| (name.trim_start_matches("./").to_owned(), kind.clone())).collect::<Vec<_>>()
    };
    assert_eq!(bodies(ours), bodies(theirs));
}
