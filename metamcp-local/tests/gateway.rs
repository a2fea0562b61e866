//! What clients see of the gateway: routing, refusals, streams, switches, and servers that misbehave.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metamcp_core::{Artifact, Endpoint, Publisher, ServerRef};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{Local, artifact, call, call_message, error_message, open, server, worker};

const HELLO: &str = "hello() { return 'hello'; }";

async fn post(
    url: &str,
    change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
) -> (StatusCode, String) {
    let request = reqwest::Client::new().post(url).json(&call_message("hello", &json!({})));
    let response = change(request).send().await.expect("the gateway answers");
    (response.status(), response.text().await.expect("the answer is text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_servers_and_paths_are_not_found_with_help() {
    let local = Local::open().await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    let base = endpoint.url.as_str().trim_end_matches("/hello/mcp");
    for path in ["/nobody/mcp", "/hello/admin", "/hello", "/", "/hello/mcp/x", "/hello//mcp"] {
        let (status, text) = post(&format!("{base}{path}"), |request| request).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(text.contains("\"jsonrpc\":\"2.0\"") && text.contains("server"), "{text}");
    }
    let health = reqwest::get(format!("{base}/hello/health")).await.unwrap();
    assert_eq!(health.text().await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_names_from_elsewhere_are_refused() {
    let local = Local::open_with(|config| config.with_allowed_host("build.example")).await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    let url = endpoint.url.as_str();
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        let (status, text) = post(url, |request| request.header(name, value)).await;
        assert_eq!((status, text.contains(value)), (StatusCode::FORBIDDEN, true), "{name}: {value}");
    }
    assert_eq!(post(url, |request| request.header("host", "build.example")).await.0, StatusCode::OK);
    assert_eq!(post(url, |request| request.header("origin", "http://localhost:6274")).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_everywhere_is_reached_by_loopback() {
    let local = Local::open_with(|config| config.with_listen("0.0.0.0:0".parse().unwrap())).await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    assert_eq!(endpoint.url.host_str(), Some("127.0.0.1"));
    assert_eq!(post(endpoint.url.as_str(), |request| request).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_four_mebibytes_is_refused() {
    let local = Local::open().await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    let large = vec![b'x'; 4 * 1024 * 1024 + 1];
    let (status, _) = post(endpoint.url.as_str(), |request| request.body(large.clone())).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let chunks = futures::stream::iter(
        large.chunks(65_536).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>(),
    );
    let (status, _) = post(endpoint.url.as_str(), |request| request.body(reqwest::Body::wrap_stream(chunks))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_sees_the_host_the_client_named_and_is_told_which_are_allowed() {
    let local = Local::open().await;
    let source = worker(
        "host(_, env, request) { return [request.headers.get('host'), new URL(request.url).pathname, env.METAMCP_HOSTS]; }",
    );
    let (_, endpoint) = local.deploy(&server("hello"), &source).await;
    let answer = call(&endpoint, "host", json!({})).await;
    let port = endpoint.url.port().unwrap();
    assert_eq!(answer["result"][0], format!("127.0.0.1:{port}"));
    assert_eq!(answer["result"][1], "/mcp");
    let hosts: Vec<String> = serde_json::from_str(answer["result"][2].as_str().unwrap()).unwrap();
    assert_eq!(hosts, ["127.0.0.1", "localhost", "[::1]", "metamcp.internal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_arrives_event_by_event() {
    let local = Local::open().await;
    let source = worker(
        r#"
        async stream(parameters, env) {
          const { readable, writable } = new TransformStream();
          const writer = writable.getWriter();
          const send = (text) => writer.write(new TextEncoder().encode(`data: ${text}\n\n`));
          globalThis.release = undefined;
          (async () => {
            await send("first");
            while (!globalThis.release) await new Promise((resolve) => setTimeout(resolve, 5));
            await send("second");
            await writer.close();
          })();
          return new Response(readable, { headers: { "content-type": "text/event-stream" } });
        },
        release() { globalThis.release = true; return "released"; }"#,
    );
    let (_, endpoint) = local.deploy(&server("streams"), &source).await;
    let mut response = reqwest::Client::new()
        .post(endpoint.url.clone())
        .json(&call_message("stream", &json!({})))
        .send()
        .await
        .unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: first\n\n");
    call(&endpoint, "release", json!({})).await;
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: second\n\n");
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_switch_under_constant_traffic_without_a_failed_request() {
    let local = Local::open().await;
    let name = server("busy");
    let source = |number: u64| {
        worker(&format!("async hello() {{ await new Promise((resolve) => setTimeout(resolve, 3)); return {number}; }}"))
    };
    let (_, endpoint) = local.deploy(&name, &source(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let newest_of: Arc<[AtomicU64; 6]> = Arc::default();
    let clients: Vec<_> = (0..newest_of.len())
        .map(|index| {
            let (stop, newest_of, endpoint) = (Arc::clone(&stop), Arc::clone(&newest_of), endpoint.clone());
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let mut newest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let message = call_message("hello", &json!({}));
                    let response =
                        client.post(endpoint.url.clone()).json(&message).send().await.expect("no request fails");
                    assert_eq!(response.status(), StatusCode::OK);
                    let answer: Value = response.json().await.expect("answers are whole");
                    let version = answer["result"].as_u64().unwrap_or_else(|| panic!("{answer}"));
                    assert!(version >= newest, "an older version answered after a newer one");
                    newest = version;
                    newest_of[index].store(version, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=6 {
        local.deploy(&name, &source(number)).await;
        while newest_of.iter().any(|newest| newest.load(Ordering::Relaxed) < number) {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// A server whose tools misbehave, with a timeout of 200 ms for `loop_for_ever`.
async fn deploy_misbehaving(local: &Local) -> Endpoint {
    let name = server("wild");
    local.deploy_artifact(&name, &misbehaving(&name)).await.1
}

fn misbehaving(name: &ServerRef) -> Artifact {
    let source = worker(
        r#"
        hello() { return "well"; },
        loop_for_ever() { for (;;) {} },
        take_all_memory() { const taken = []; for (;;) taken.push(new Array(100_000).fill(Math.random())); },
        async take_buffers() { const taken = []; for (;;) { taken.push(new Uint8Array(10_000_000).fill(1)); await new Promise((resolve) => setTimeout(resolve, 1)); } },
        wait_for_ever() { return new Promise((resolve) => setTimeout(resolve, 100_000)); },
        wait() { return new Promise((resolve) => setTimeout(() => resolve("waited"), 100_000)); }"#,
    );
    let mut built = artifact(name, &source);
    built.settings.limits.memory_mb = 64;
    built.settings.tool_timeouts_ms = [("loop_for_ever".to_owned(), 200), ("wait_for_ever".to_owned(), 200)].into();
    built
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_misbehaves_is_ended_as_a_live_version_is() {
    let local = Local::open().await;
    let name = server("wild");
    for (tool, said) in [
        ("loop_for_ever", "server wild did not answer within the timeout, was caught in a loop, and was stopped"),
        ("take_all_memory", "server wild ran out of memory (limit 64 MiB) and was stopped"),
    ] {
        let staged = local.publisher.stage(&name, &misbehaving(&name)).await.unwrap();
        let preview = staged.preview.unwrap();
        assert_eq!(call(&preview, "hello", json!({})).await["result"], "well");
        // The heap may be full before it is looked at.
        let answer = call(&preview, tool, json!({})).await;
        let told = error_message(&answer).replace("and ended", "and was stopped");
        assert_eq!(told, said);
        assert!(error_message(&call(&preview, "hello", json!({})).await).starts_with("the preview of server wild "));
        local.publisher.discard(&name, &staged.version).await.unwrap();
        let (status, _) = post(preview.url.as_str(), |request| request.json(&call_message("hello", &json!({})))).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looping_tool_is_ended_and_the_server_is_back_for_the_next_call() {
    let local = Local::open().await;
    let endpoint = deploy_misbehaving(&local).await;
    let (_, other) = local.deploy(&server("other"), &worker(HELLO)).await;
    let waiting = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { call(&endpoint, "wait", json!({})).await }
    });
    let looping = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { call(&endpoint, "loop_for_ever", json!({})).await }
    });
    while !looping.is_finished() {
        assert_eq!(call(&other, "hello", json!({})).await["result"], "hello");
    }
    assert!(error_message(&looping.await.unwrap()).contains("server wild did not answer within the timeout"));
    assert!(error_message(&waiting.await.unwrap()).contains("server wild did not answer within the timeout"));
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_never_answered_ends_while_its_server_answers_others() {
    let local = Local::open().await;
    let endpoint = deploy_misbehaving(&local).await;
    let waiting = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { call(&endpoint, "wait_for_ever", json!({})).await }
    });
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "well");
    assert!(error_message(&waiting.await.unwrap()).contains("has not answered this one"));
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looping_tool_is_ended_though_its_caller_went_away() {
    let local = Local::open().await;
    let endpoint = deploy_misbehaving(&local).await;
    let message = call_message("loop_for_ever", &json!({}));
    let request = reqwest::Client::new().post(endpoint.url.clone()).json(&message).timeout(Duration::from_secs(1));
    assert!(request.send().await.unwrap_err().is_timeout());
    // This call's own timeout is 30 s: only the abandoned one can have ended the loop before.
    let answer = call(&endpoint, "hello", json!({})).await;
    assert!(error_message(&answer).contains("caught in a loop"));
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_takes_all_memory_is_ended_with_an_error_that_says_so() {
    let local = Local::open().await;
    let endpoint = deploy_misbehaving(&local).await;
    for tool in ["take_all_memory", "take_buffers"] {
        let answer = call(&endpoint, tool, json!({})).await;
        assert!(error_message(&answer).contains("server wild ran out of memory (limit 64 MiB)"), "{tool}: {answer}");
        assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_whose_server_dies_ends_with_an_error() {
    let local = Local::open().await;
    let source = worker(
        r#"
        stream() {
          const { readable, writable } = new TransformStream();
          const writer = writable.getWriter();
          writer.write(new TextEncoder().encode("data: first\n\n"));
          setTimeout(() => { const taken = []; for (;;) taken.push(new Array(100_000).fill(Math.random())); }, 50);
          return new Response(readable, { headers: { "content-type": "text/event-stream" } });
        }"#,
    );
    let name = server("streams");
    let mut built = artifact(&name, &source);
    built.settings.limits.memory_mb = 64;
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    let (status, text) = post(endpoint.url.as_str(), |request| request.json(&call_message("stream", &json!({})))).await;
    assert_eq!(status, StatusCode::OK);
    let last = text.trim_end().rsplit_once("data: ").unwrap().1;
    assert!(error_message(&serde_json::from_str(last).unwrap()).contains("ran out of memory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_replaced_for_the_next_call() {
    let local = Local::open().await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    for _ in 0..3 {
        for pid in support::processes_of(&local.config) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        // A call that the dying process may have seen is not repeated, but its error says what happened.
        let answer = call(&endpoint, "hello", json!({})).await;
        if answer["error"].is_object() {
            assert!(error_message(&answer).contains("server hello was killed"), "{answer}");
        }
        assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_sleeps_and_wakes_for_many_callers_at_once() {
    let local = Local::open_with(|config| config.with_idle_timeout(Duration::from_millis(100))).await;
    let (_, endpoint) = local.deploy(&server("sleepy"), &worker(HELLO)).await;
    while !support::processes_of(&local.config).is_empty() {
        tokio::task::yield_now().await;
    }
    let calls = (0..20).map(|_| call(&endpoint, "hello", json!({})));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer["result"], "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_stays_and_a_taken_one_is_an_error_that_names_its_holder() {
    let local = Local::open().await;
    let (_, endpoint) = local.deploy(&server("hello"), &worker(HELLO)).await;
    let Local { folder, config, publisher } = local;
    publisher.close().await.unwrap();
    drop(publisher);
    let reopened = open(&config).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    reopened.close().await.unwrap();
    drop(reopened);
    let taken = std::net::TcpListener::bind(("127.0.0.1", endpoint.url.port().unwrap())).unwrap();
    let error = open(&config).await.unwrap_err();
    assert_eq!(error.kind(), metamcp_core::ErrorKind::Conflict);
    assert!(error.message().contains(&format!("(process {})", std::process::id())), "{error}");
    drop((taken, folder));
}
