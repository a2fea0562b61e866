//! A server's whole life on Cloudflare, as the emulator has it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
#[path = "story/builds.rs"]
mod builds;
#[path = "story/edge.rs"]
mod edge;
#[path = "story/interrupted.rs"]
mod interrupted;
#[path = "story/left.rs"]
mod left;

use std::pin::pin;
use std::time::Duration;

use account::Account;
use futures::StreamExt as _;
use left::{left, scripts};
use metamcp_cloudflare::{CloudflareConfig, D1Executor, Placement, WorkersKvCache};
use metamcp_cloudflare_emulator::Options;
use metamcp_core::registry::RecordStatus;
use metamcp_core::registry::sql::{SqlExecutor, Statement};
use metamcp_core::{
    DeployEvent, Deployment, ErrorKind, EventSink, KvCache, LogOptions, MetaMcp, ServerDefinition, ServerKey,
};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;

fn definition(name: &str, answer: &str) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": name, "description": "Says which version it is.",
        "secrets": ["TOKEN"],
        "tools": [
            {
                "name": "version", "description": "Its version.", "implementation": format!("return '{answer}';"),
                "examples": [{ "expected": answer }]
            },
            { "name": "token", "description": "Its secret.", "implementation": "return env.TOKEN ?? 'none';" }
        ]
    }))
    .unwrap()
}

fn key(name: &str) -> ServerKey {
    name.parse().unwrap()
}

async fn create_and_deploy(meta: &MetaMcp, definition: &ServerDefinition) -> metamcp_core::Result<Deployment> {
    let record = meta.servers().create(definition).await?;
    meta.deployments().deploy(&record.id.into()).await
}

async fn change(meta: &MetaMcp, to: ServerDefinition) {
    meta.servers().edit(&key(&to.name.clone()), |_| Ok(to.clone())).await.unwrap();
}

async fn ask(url: &str, tool: &'static str) -> String {
    try_ask(url, tool).await.unwrap()
}

async fn try_ask(url: &str, tool: &'static str) -> Result<String, String> {
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.map_err(|error| error.to_string())?;
    let result = client.call_tool(CallToolRequestParams::new(tool)).await.map_err(|error| error.to_string())?;
    client.cancel().await.map_err(|error| error.to_string())?;
    Ok(result.content[0].as_text().unwrap().text.clone())
}

/// The account's two places for servers.
fn placements(account: &Account) -> [CloudflareConfig; 2] {
    [account.config(), account.config().with_dispatch_namespace("meta-mcp").unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_definition_to_nothing_left() {
    let account = Account::start().await;
    account.put_script("scripts/foreign").await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();

    let first = create_and_deploy(&meta, &definition("story", "one")).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    meta.secrets().set(&key("story"), &"TOKEN".parse().unwrap(), "s3cret".into()).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "token").await, "s3cret");

    let mut bad = definition("story", "two");
    bad.tools[0].examples[0].expected = json!("three");
    change(&meta, bad).await;
    let error = meta.deployments().deploy(&key("story")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(ask(first.url.as_str(), "version").await, "one");

    change(&meta, definition("story", "three")).await;
    let third = meta.deployments().deploy(&key("story")).await.unwrap();
    assert_eq!(third.url, first.url);
    assert_eq!(ask(first.url.as_str(), "version").await, "three");
    // Secrets are kept by new versions, and an older one gets those of now.
    meta.secrets().set(&key("story"), &"TOKEN".parse().unwrap(), "changed".into()).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "token").await, "changed");
    meta.deployments().rollback(&key("story"), &first.version).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    assert_eq!(ask(first.url.as_str(), "token").await, "changed");

    // Another program finds all of it.
    let other = metamcp_cloudflare::open(account.config()).await.unwrap();
    let record = other.servers().get(&key("story")).await.unwrap();
    assert_eq!((record.status, record.live.unwrap().version), (RecordStatus::Deployed, first.version.clone()));

    let error = create_and_deploy(&meta, &definition("foreign", "one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for name in ["story", "foreign"] {
        meta.deployments().remove(&key(name)).await.unwrap();
    }
    assert_eq!(left(&account).await, ["script foreign"]);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_version_is_served_while_a_bad_one_is_tried() {
    let account = Account::start().await;
    for config in placements(&account) {
        let has_previews = *config.placement() == Placement::AccountScripts;
        let meta = metamcp_cloudflare::open(config).await.unwrap();
        let first = create_and_deploy(&meta, &definition("steady", "one")).await.unwrap();
        let mut bad = definition("steady", "two");
        bad.tools[0].examples[0].expected = json!("three");
        change(&meta, bad).await;
        let key = key("steady");
        let deployments = meta.deployments();
        let mut deploying = pin!(deployments.deploy(&key));
        let mut answers = Vec::new();
        let error = loop {
            tokio::select! {
                deployed = &mut deploying => break deployed.unwrap_err(),
                answer = try_ask(first.url.as_str(), "version") => answers.push(answer.unwrap()),
            }
        };
        assert_eq!(error.kind(), ErrorKind::VerificationFailed);
        // Without previews a version has to be live to be checked.
        assert!(!answers.is_empty());
        let allowed: &[&str] = if has_previews { &["one"] } else { &["one", "two"] };
        assert!(answers.iter().all(|answer| allowed.contains(&answer.as_str())), "{answers:?}");
        assert_eq!(ask(first.url.as_str(), "version").await, "one");
        meta.deployments().remove(&key).await.unwrap();
        assert_eq!(left(&account).await, Vec::<String>::new());
    }
}

/// A new host name fails, and an edge that does not know of a deployment answers as before: neither counts against a
/// version. What is wrong with a version still does.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_its_time_to_arrive_is_waited_for() {
    let account = Account::start_with(Options { host_failures: 4, stale_answers: 3, ..Options::default() }).await;
    for config in placements(&account) {
        // The log of a version that was tried is not what this is about.
        let config = config.with_log_window(Duration::from_millis(100));
        let is_dispatched = *config.placement() != Placement::AccountScripts;
        let hasty = metamcp_cloudflare::open(config.clone().with_settle_time(Duration::ZERO)).await.unwrap();
        let error = create_and_deploy(&hasty, &definition("hasty", "one")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

        let meta = metamcp_cloudflare::open(config).await.unwrap();
        // What a version answers that failed may be anything.
        change(&meta, definition("hasty", "two")).await;
        let mended = meta.deployments().deploy(&key("hasty")).await.unwrap();
        meta.deployments().remove(&key("hasty")).await.unwrap();
        assert_eq!(mended.verification.calls, 1);
        let first = create_and_deploy(&meta, &definition("slow", "one")).await.unwrap();

        let mut second = definition("slow", "two");
        second.tools.push(
            serde_json::from_value(json!({ "name": "new", "description": "New." , "implementation": "return 1;" }))
                .unwrap(),
        );
        change(&meta, second).await;
        let second = meta.deployments().deploy(&key("slow")).await.unwrap();
        assert_eq!(meta.servers().get(&key("slow")).await.unwrap().live.unwrap().version, second.version);
        // Its lists are those of before: only its answers could tell.
        change(&meta, definition("slow", "three")).await;
        meta.deployments().deploy(&key("slow")).await.unwrap();
        if !is_dispatched {
            let tested = meta.deployments().test_tool(&key("slow"), "version", serde_json::Map::new()).await;
            assert_eq!(tested.unwrap().answer.content[0]["text"], "three");
        }

        let mut bad = definition("slow", "four");
        bad.tools[0].examples[0].expected = json!("five");
        change(&meta, bad).await;
        let error = meta.deployments().deploy(&key("slow")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::VerificationFailed, "{error}");
        assert!(error.message().contains("\"four\""), "{error}");
        let (events, seen) = EventSink::channel();
        let back = meta.deployments().rollback_with_events(&key("slow"), &first.version, events).await.unwrap();
        assert_eq!(back.version, first.version);
        let seen: Vec<_> = seen.collect().await;
        let steps = [DeployEvent::Started { revision: first.revision }, DeployEvent::Confirmed(back.verification)];
        assert_eq!([&seen[0], &seen[2]], [&steps[0], &steps[1]], "{seen:?}");
        meta.deployments().remove(&key("slow")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_objects_come_with_the_version_that_brings_them() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let first = create_and_deploy(&meta, &definition("talks", "one")).await.unwrap();
    let mut sessions = definition("talks", "two");
    sessions.sessions = true;
    change(&meta, sessions.clone()).await;
    meta.deployments().deploy(&key("talks")).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "two");
    // No preview could tell that this one is bad: what was live is live again.
    sessions.tools[0].examples[0].expected = json!("three");
    change(&meta, sessions).await;
    let error = meta.deployments().deploy(&key("talks")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed);
    assert_eq!(ask(first.url.as_str(), "version").await, "two");
    meta.deployments().rollback(&key("talks"), &first.version).await.unwrap();
    assert_eq!(ask(first.url.as_str(), "version").await, "one");
    assert!(!left::durable_objects(&account).await.is_empty());
    meta.deployments().remove(&key("talks")).await.unwrap();
    assert_eq!(left(&account).await, Vec::<String>::new());
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_cannot_enforce_is_refused() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let mut closed = definition("closed", "one");
    closed.egress = Some(vec!["api.example.com".to_owned()]);
    let error = create_and_deploy(&meta, &closed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("egress"), "{error}");
    assert_eq!(scripts(&account).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_know_its_secret_are_let_in() {
    let account = Account::start().await;
    account::check_bearer(&metamcp_cloudflare::open(account.config()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_a_secret_outlive_the_api_token() {
    let account = Account::start_open().await;
    let with = async |token: &str| metamcp_cloudflare::open(account.config_with(token)).await.unwrap();
    account::check_new_token(with).await;
}

/// A server whose tool `say` logs a line.
fn talkative() -> ServerDefinition {
    serde_json::from_value(json!({
        "name": "talkative", "description": "Logs.",
        "tools": [{
            "name": "say", "description": "Logs a line.",
            "implementation": "console.log('hello', { of: 1 }); return 'said';"
        }]
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tested_tool_logs_comes_with_its_answer() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    meta.servers().create(&talkative()).await.unwrap();
    let tested = meta.deployments().test_tool(&key("talkative"), "say", serde_json::Map::new()).await.unwrap();
    assert_eq!(tested.answer.content[0]["text"], "said");
    let lines: Vec<_> = tested.logs.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, [r#"hello {"of":1}"#]);
    assert_eq!(account.emulator.tails(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_logs_is_seen_while_it_is_listened_to() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let deployment = create_and_deploy(&meta, &talkative()).await.unwrap();
    let mut listening =
        std::pin::pin!(async { meta.deployments().logs(&key("talkative"), LogOptions::new(1)).await.unwrap() });
    // Called until it was heard.
    let lines = loop {
        tokio::select! {
            lines = &mut listening => break lines,
            said = ask(deployment.url.as_str(), "say") => assert_eq!(said, "said"),
        }
    };
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].text.as_str(), &lines[0].version), (r#"hello {"of":1}"#, &deployment.version));
    assert_eq!(account.emulator.tails(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_listening_leaves_no_tail_open() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    create_and_deploy(&meta, &talkative()).await.unwrap();
    let (deployments, talkative) = (meta.deployments(), key("talkative"));
    tokio::select! {
        lines = deployments.logs(&talkative, LogOptions::new(1)) => panic!("{lines:?}"),
        () = until(|| account.emulator.tails() == 1) => {}
    }
    until(|| account.emulator.tails() == 0).await;
}

/// Fails where it does not become true.
async fn until(is_true: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(10));
    let waiting = async {
        while !is_true() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_logs_shows_no_secret() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let indiscreet: ServerDefinition = serde_json::from_value(json!({
        "name": "indiscreet", "description": "Logs.", "secrets": ["TOKEN"],
        "tools": [{
            "name": "tell", "description": "Logs a secret, and throws one where nobody catches it.",
            "implementation": "console.log('it is', { token: env.TOKEN });
                setTimeout(() => { throw new TypeError(`no ${env.TOKEN}`); });
                await new Promise((resolve) => setTimeout(resolve, 20));
                return 'told';"
        }]
    }))
    .unwrap();
    let deployment = create_and_deploy(&meta, &indiscreet).await.unwrap();
    meta.secrets().set(&key("indiscreet"), &"TOKEN".parse().unwrap(), "t0p-s3cret".into()).await.unwrap();
    let mut listening =
        std::pin::pin!(async { meta.deployments().logs(&key("indiscreet"), LogOptions::new(2)).await.unwrap() });
    let lines = loop {
        tokio::select! {
            lines = &mut listening => break lines,
            told = ask(deployment.url.as_str(), "tell") => assert_eq!(told, "told"),
        }
    };
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    let thrown = "uncaught in tool \"tell\": TypeError: no [secret TOKEN] (line 2 of the body)";
    assert_eq!(texts, ["it is { token: '[secret TOKEN]' }", thrown]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_lead_to_what_they_name() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let cache = WorkersKvCache::open(account.client(), "NOTES").await.unwrap();
    let database = D1Executor::open(account.client(), "notes").await.unwrap();
    let statement = Statement::new("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, size REAL)", []);
    database.execute(vec![statement]).await.unwrap();
    let bound: ServerDefinition = serde_json::from_value(json!({
        "name": "bound", "description": "Uses what it is bound to.",
        "bindings": {
            "NOTES": { "type": "kv", "target": cache.namespace_id() },
            "ROWS": { "type": "d1", "target": database.database_id() }
        },
        "tools": [
            {
                "name": "keys", "description": "Writes and lists keys.",
                "implementation": "await env.NOTES.put('ä/1', 'one', { metadata: { a: 1 } }); await env.NOTES.put('b', 'two');
                    await env.NOTES.delete('b');
                    const [value, absent, list] = await Promise.all([env.NOTES.getWithMetadata('ä/1'), env.NOTES.get('b'), env.NOTES.list()]);
                    return JSON.stringify([value.value, value.metadata, absent, list.keys.map((key) => key.name), list.list_complete]);"
            },
            {
                "name": "rows", "description": "Writes and reads rows.",
                "implementation": "const insert = env.ROWS.prepare('INSERT INTO notes (text, size) VALUES (?, ?)');
                    await env.ROWS.batch([insert.bind('one', 1.5), insert.bind(null, 2)]);
                    const failed = await env.ROWS.prepare('SELECT * FROM absent').all().catch((error) => error.message);
                    const { results } = await env.ROWS.prepare('SELECT * FROM notes ORDER BY id').all();
                    return JSON.stringify([results, await env.ROWS.prepare('SELECT count(*) AS n FROM notes').first('n'), failed]);"
            }
        ]
    }))
    .unwrap();
    let deployment = create_and_deploy(&meta, &bound).await.unwrap();
    assert_eq!(ask(deployment.url.as_str(), "keys").await, r#"["one",{"a":1},null,["ä/1"],true]"#);
    assert_eq!(cache.get("ä/1").await.unwrap(), Some("one".into()));
    let rows = ask(deployment.url.as_str(), "rows").await;
    let expected = r#"[[{"id":1,"text":"one","size":1.5},{"id":2,"text":null,"size":2}],2,"D1_ERROR: no such table: absent: SQLITE_ERROR"]"#;
    assert_eq!(rows, expected);

    let mut dangling = bound.clone();
    dangling.bindings.get_mut("NOTES").unwrap().target = Some("0123456789abcdef0123456789abcdef".to_owned());
    change(&meta, dangling).await;
    let error = meta.deployments().deploy(&key("bound")).await.unwrap_err();
    assert!(error.message().contains("10041") && error.help().unwrap().contains("`target`"), "{error}");
}

/// A body that could write to the registry or the cache would run as every other server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_get_at_what_the_others_are_kept_in() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    let targets = [("d1", database.database_id()), ("kv", cache.namespace_id()), ("service", "containers-manager")];
    for (number, (kind, target)) in targets.into_iter().enumerate() {
        let mut curious = definition(&format!("curious-{number}"), "one");
        curious.bindings = serde_json::from_value(json!({ "MINE": { "type": kind, "target": target } })).unwrap();
        let error = create_and_deploy(&meta, &curious).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("MINE"), "{error}");
    }
    assert_eq!(scripts(&account).await, Vec::<String>::new());
}
