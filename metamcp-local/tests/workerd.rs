//! The life of a server's versions on the local publisher.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod support;

use std::time::Duration;

use metamcp_core::{DurableObjectClass, Endpoint, ErrorKind, LogOptions, Publisher, ServerRef};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Local, artifact, call, error_message, open, processes_of, server, worker};

/// A Worker whose only tool says which version it is.
fn version(name: &str) -> String {
    worker(&format!("hello() {{ return {name:?}; }}"))
}

/// Whether something answers `GET /health` beside an endpoint.
async fn is_healthy(endpoint: &Endpoint) -> bool {
    let health = endpoint.url.join("health").unwrap();
    reqwest::get(health).await.unwrap().status().is_success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_version_answers_on_its_preview_and_is_live_once_it_is_activated() {
    let local = Local::open().await;
    let weather = server("weather");
    let staged = local.publisher.stage(&weather, &artifact(&weather, &version("one"))).await.unwrap();
    let preview = staged.preview.unwrap();
    assert_eq!(call(&preview, "hello", json!({})).await["result"], "one");
    assert!(is_healthy(&preview).await);
    assert_eq!(local.publisher.endpoint(&weather).await.unwrap_err().kind(), ErrorKind::NotFound);
    let endpoint = local.publisher.activate(&weather, &staged.version).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
    assert_eq!(local.publisher.endpoint(&weather).await.unwrap().url, endpoint.url);
    assert!(endpoint.url.path().ends_with("/weather/mcp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_can_be_made_live_again_and_again() {
    let local = Local::open().await;
    let weather = server("weather");
    let (one, endpoint) = local.deploy(&weather, &version("one")).await;
    let (two, _) = local.deploy(&weather, &version("two")).await;
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "two");
    local.publisher.activate(&weather, &one).await.unwrap();
    local.publisher.activate(&weather, &one).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
    let versions = local.publisher.list_versions(&weather).await.unwrap();
    let listed: Vec<_> = versions.iter().map(|version| (&version.version, version.active)).collect();
    assert_eq!(listed, [(&two, false), (&one, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_live_can_be_discarded_and_the_live_one_cannot() {
    let local = Local::open().await;
    let weather = server("weather");
    let (live, endpoint) = local.deploy(&weather, &version("one")).await;
    let files = local.files();
    let staged = local.publisher.stage(&weather, &artifact(&weather, &version("two"))).await.unwrap();
    local.publisher.discard(&weather, &staged.version).await.unwrap();
    local.publisher.discard(&weather, &staged.version).await.unwrap();
    assert_eq!(local.files(), files);
    assert!(!is_healthy(&staged.preview.unwrap()).await);
    assert_eq!(local.publisher.activate(&weather, &staged.version).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(local.publisher.discard(&weather, &live).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_says_why_and_leaves_nothing() {
    for (seconds, source, reason) in [
        (60, "export default { fetch( {", "SyntaxError"),
        (60, "throw new Error('top level');", "top level"),
        (
            60,
            "export default { fetch() { return new Response('not well', { status: 500 }); } }",
            "500 Internal Server Error not well",
        ),
        (1, "export default { fetch() { return new Promise(() => {}); } }", "does not start"),
        (1, "export default { fetch() { for (;;) {} } }", "not healthy within 1 s"),
    ] {
        let local = Local::open_with(|config| config.with_start_timeout(Duration::from_secs(seconds))).await;
        let weather = server("weather");
        let empty = local.files();
        let error = local.publisher.stage(&weather, &artifact(&weather, source)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!((local.files(), processes_of(&local.config)), (empty, Vec::new()));
        assert!(local.publisher.list_servers().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_the_target_cannot_offer_are_all_named() {
    let local = Local::open().await;
    let weather = server("weather");
    let mut built = artifact(&weather, &version("one"));
    built.settings.bindings = serde_json::from_value(json!({
        "BUCKET": { "type": "r2" }, "MODEL": { "type": "ai" }, "PICTURES": { "type": "images", "optional": true }
    }))
    .unwrap();
    let error = local.publisher.stage(&weather, &built).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.message(), "the local target does not offer binding BUCKET (r2), binding MODEL (ai)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_the_server_that_had_it_first() {
    let local = Local::open().await;
    let (_, endpoint) = local.deploy(&server("weather"), &version("one")).await;
    let other = server("weather");
    let error = local.publisher.stage(&other, &artifact(&other, &version("two"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    local.publisher.unpublish(&other).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_servers_are_served_at_the_same_urls_when_the_directory_is_opened_again() {
    let local = Local::open().await;
    let (weather, maps) = (server("weather"), server("maps"));
    let (_, weather_endpoint) = local.deploy(&weather, &version("weather")).await;
    let (live, maps_endpoint) = local.deploy(&maps, &version("maps")).await;
    let staged = local.publisher.stage(&maps, &artifact(&maps, &version("maps two"))).await.unwrap();
    let Local { folder, config, publisher } = local;
    assert_eq!(open(&config).await.unwrap_err().kind(), ErrorKind::Conflict);
    publisher.close().await.unwrap();
    publisher.close().await.unwrap();
    drop(publisher);
    assert!(processes_of(&config).is_empty());

    let reopened = open(&config).await.unwrap();
    assert_eq!(call(&weather_endpoint, "hello", json!({})).await["result"], "weather");
    assert_eq!(call(&maps_endpoint, "hello", json!({})).await["result"], "maps");
    let servers = reopened.list_servers().await.unwrap();
    assert_eq!(servers.iter().map(|server| server.server.clone()).collect::<Vec<_>>(), [maps.clone(), weather]);
    assert_eq!(servers[0].active, Some(live));
    reopened.activate(&maps, &staged.version).await.unwrap();
    assert_eq!(call(&maps_endpoint, "hello", json!({})).await["result"], "maps two");
    drop((reopened, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_server_is_gone_with_its_versions_and_secrets() {
    let local = Local::open().await;
    let empty = local.files();
    let weather = server("weather");
    local.publisher.set_secret(&weather, &"TOKEN".parse().unwrap(), SecretString::from("x")).await.unwrap();
    let (_, endpoint) = local.deploy(&weather, &version("one")).await;
    local.publisher.unpublish(&weather).await.unwrap();
    local.publisher.unpublish(&weather).await.unwrap();
    let response = reqwest::get(endpoint.url.clone()).await.unwrap();
    assert_eq!(response.status(), reqwest::StatusCode::NOT_FOUND);
    assert!(local.publisher.list_servers().await.unwrap().is_empty());
    assert!(local.publisher.list_secret_names(&weather).await.unwrap().is_empty());
    assert_eq!((local.files(), processes_of(&local.config)), (empty, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_version_sees_a_changed_secret_from_its_next_request_on() {
    let local = Local::open().await;
    let weather = server("weather");
    let token = "TOKEN".parse().unwrap();
    let mut built = artifact(&weather, &worker("hello(_, env) { return env.TOKEN ?? null; }"));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let (_, endpoint) = local.deploy_artifact(&weather, &built).await;
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], Value::Null);
    for value in ["first", "se\"cond\n\\x", "LD_PRELOAD=é\u{2028}"] {
        local.publisher.set_secret(&weather, &token, SecretString::from(value)).await.unwrap();
        assert_eq!(call(&endpoint, "hello", json!({})).await["result"], value);
    }
    assert_eq!(local.publisher.list_secret_names(&weather).await.unwrap(), ["TOKEN".parse().unwrap()]);
    local.publisher.remove_secret(&weather, &token).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], Value::Null);
    let error = local.publisher.set_secret(&weather, &token, SecretString::from("a\0b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_version_goes_live_with_the_secret_set_after_it_was_staged() {
    let local = Local::open().await;
    let weather = server("weather");
    let mut built = artifact(&weather, &worker("hello(_, env) { return env.TOKEN ?? null; }"));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let staged = local.publisher.stage(&weather, &built).await.unwrap();
    local.publisher.set_secret(&weather, &"TOKEN".parse().unwrap(), SecretString::from("late")).await.unwrap();
    let endpoint = local.publisher.activate(&weather, &staged.version).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_log_is_kept_without_the_values_of_its_secrets() {
    let local = Local::open().await;
    let weather = server("weather");
    let mut built = artifact(&weather, &worker("say({ text }, env) { console.log(text, env.TOKEN); return 'said'; }"));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    local.publisher.set_secret(&weather, &"TOKEN".parse().unwrap(), SecretString::from("s3cr3t")).await.unwrap();
    let (live, endpoint) = local.deploy_artifact(&weather, &built).await;
    call(&endpoint, "say", json!({ "text": "first" })).await;
    call(&endpoint, "say", json!({ "text": "second" })).await;
    let lines = loop {
        let lines = local.publisher.logs(&weather, LogOptions::new(2)).await.unwrap();
        if lines.len() == 2 {
            break lines;
        }
        tokio::task::yield_now().await;
    };
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["first [secret TOKEN]", "second [secret TOKEN]"]);
    assert!(lines.iter().all(|line| line.version == live));
    assert!(local.publisher.logs(&server("nobody"), LogOptions::default()).await.unwrap().is_empty());
}

/// A Worker with a counter in a Durable Object, whose step differs between versions.
fn counter(name: &ServerRef, step: u32) -> metamcp_core::Artifact {
    let source = format!(
        r#"
        import {{ DurableObject }} from "cloudflare:workers";
        export class Counter extends DurableObject {{
          async add() {{
            const count = ((await this.ctx.storage.get("count")) ?? 0) + {step};
            await this.ctx.storage.put("count", count);
            return count;
          }}
        }}
        {}"#,
        worker("add(_, env) { return env.COUNTER.get(env.COUNTER.idFromName('one')).add(); }")
    );
    let mut built = artifact(name, &source);
    built.settings.durable_objects = vec![DurableObjectClass::new("COUNTER", "Counter")];
    built
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_objects_keep_their_state_over_versions_and_restarts() {
    let local = Local::open().await;
    let name = server("counter");
    let (_, endpoint) = local.deploy_artifact(&name, &counter(&name, 1)).await;
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], 1);
    // Calls wait while the state changes hands.
    let staged = local.publisher.stage(&name, &counter(&name, 10)).await.unwrap();
    let calls = futures::future::join_all((0..8).map(|_| call(&endpoint, "add", json!({}))));
    let (answers, activated) = tokio::join!(calls, local.publisher.activate(&name, &staged.version));
    activated.unwrap();
    assert!(answers.iter().all(|answer| answer["result"].is_u64()), "{answers:?}");
    let before = call(&endpoint, "add", json!({})).await["result"].as_u64().unwrap();
    let Local { folder, config, publisher } = local;
    publisher.close().await.unwrap();
    drop(publisher);
    let reopened = open(&config).await.unwrap();
    assert_eq!(call(&endpoint, "add", json!({})).await["result"], before + 10);
    drop((reopened, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_is_refused_and_healed_by_the_next_deploy() {
    let local = Local::open().await;
    let weather = server("weather");
    let (one, _) = local.deploy(&weather, &version("one")).await;
    local.deploy(&weather, &version("two")).await;
    let bundles = local.config.data_dir.join("bundles");
    for entry in std::fs::read_dir(&bundles).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("one", "eno");
        std::fs::write(path, text).unwrap();
    }
    let error = local.publisher.activate(&weather, &one).await.unwrap_err();
    assert!(error.to_string().contains("does not have the content it was kept with"), "{error}");
    let (_, endpoint) = local.deploy(&weather, &version("one")).await;
    local.publisher.close().await.unwrap();
    let Local { folder, config, publisher } = local;
    drop(publisher);
    let reopened = open(&config).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
    drop((reopened, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_servers_made_called_and_removed_leave_nothing() {
    let local = Local::open().await;
    let (files, descriptors) = (local.files(), open_descriptors());
    for number in 0..50 {
        let name = server(&format!("server-{number}"));
        let (_, endpoint) = local.deploy(&name, &version("one")).await;
        assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
        local.publisher.unpublish(&name).await.unwrap();
    }
    assert_eq!((local.files(), processes_of(&local.config)), (files, Vec::new()));
    while open_descriptors() > descriptors + 2 {
        tokio::task::yield_now().await;
    }
}

/// Number of file descriptors this process has.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_publisher_ends_its_processes() {
    let local = Local::open().await;
    local.deploy(&server("weather"), &version("one")).await;
    let Local { folder, config, publisher } = local;
    assert!(!processes_of(&config).is_empty());
    drop(publisher);
    while !processes_of(&config).is_empty() {
        tokio::task::yield_now().await;
    }
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_live_version_answers_that_it_has_none() {
    let local = Local::open().await;
    let weather = server("weather");
    let (_, endpoint) = local.deploy(&server("other"), &version("one")).await;
    local.publisher.stage(&weather, &artifact(&weather, &version("one"))).await.unwrap();
    let mut url = endpoint;
    url.url.set_path("/weather/mcp");
    assert!(error_message(&call(&url, "hello", json!({})).await).contains("server weather has no live version"));
}
