//! What Prometheus reads of the HTTP endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use metamcp_core::server::HttpConfig;
use metamcp_core::{NewApiKey, Scope};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::timeout;

use super::guard::{Guarded, LIMIT, call_message, header};

/// Samples by name and labels, as they were written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Reads the text format 0.0.4 as strictly as its description: each family has its help and type before its
    /// samples, all in one place, and each sample is there once.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut samples, mut families) = (BTreeMap::new(), Vec::<(String, String)>::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a help has a text");
                assert!(!text.is_empty() && is_name(name), "{line}");
                assert!(!families.iter().any(|(known, _)| known == name), "{name} is there twice");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name));
                families.push((name.to_owned(), kind.expect("the type follows").trim().to_owned()));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let (family, kind) = families.last().expect("a family has begun");
            match (kind.as_str(), name.strip_prefix(family.as_str())) {
                ("counter", Some("")) => assert!(name.ends_with("_total"), "{name}"),
                ("gauge", Some("")) | ("histogram", Some("_bucket" | "_sum" | "_count")) => {}
                other => panic!("{line} does not belong to {family}: {other:?}"),
            }
            for label in labels.strip_suffix('}').expect("labels end").split(',').filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once('=').expect("a label has a value");
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                assert!(is_name(name) && !value.expect("it is quoted").contains(['"', '\\', '\n']), "{line}");
            }
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            assert_eq!(samples.insert(series.to_owned(), value), None, "{series} is there twice");
        }
        let scrape = Self(samples);
        scrape.check_histograms();
        scrape
    }

    /// Buckets hold those before them, and the last one all.
    fn check_histograms(&self) {
        for (count, all) in self.0.iter().filter(|(series, _)| series.contains("_count")) {
            let (name, labels) = count.split_once("_count").unwrap();
            let labels = labels.trim_matches(['{', '}']);
            let start = if labels.is_empty() { String::new() } else { format!("{labels},") };
            let prefix = format!("{name}_bucket{{{start}le=\"");
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (series, value) in &self.0 {
                if let Some(bound) = series.strip_prefix(&prefix) {
                    let bound = bound.trim_end_matches("\"}");
                    buckets.push((bound.replace("+Inf", "inf").parse().unwrap(), *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.len() > 5 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *all)), "{name}");
        }
    }

    fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series} is not among {:?}", self.0.keys()))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

async fn scrape(guarded: &Guarded, key: &SecretString) -> reqwest::Response {
    let url = guarded.server.url().join("/metrics").unwrap();
    guarded.http.get(url).bearer_auth(key.expose_secret()).send().await.unwrap()
}

#[tokio::test]
async fn what_was_done_is_counted_and_callers_and_servers_are_not_named() {
    let guarded = Guarded::start().await;
    let (_, admin) = guarded.key(&[Scope::Admin]).await;
    let (_, reader) = guarded.key(&[Scope::Read]).await;
    guarded.call(&admin, "init_mcp_server", json!({ "name": "counted", "description": "A server." })).await;
    guarded.call(&admin, "init_mcp_server", json!({ "name": "counted-too", "description": "A server." })).await;
    let tool =
        json!({ "serverId": "counted", "toolName": "say", "description": "Says.", "implementation": "return 1;" });
    guarded.call(&admin, "add_mcp_tool", tool).await;
    guarded.call(&admin, "deploy_mcp_server", json!({ "serverId": "counted" })).await;
    guarded.call(&admin, "deploy_mcp_server", json!({ "serverId": "absent" })).await;
    guarded.call(&admin, "no_such_tool", json!({})).await;
    guarded.call(&reader, "add_mcp_tool", json!({})).await;
    guarded.post("mmk_wrong", &call_message("list_templates", &json!({}))).send().await.unwrap();

    let response = scrape(&guarded, &reader).await;
    assert_eq!(
        (response.status().as_u16(), header(&response, "content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    let text = response.text().await.unwrap();
    let seen = Scrape::parse(&text);
    for (series, value) in [
        ("metamcp_http_requests_total{status=\"2xx\"}", 6.0),
        ("metamcp_http_requests_total{status=\"4xx\"}", 2.0),
        ("metamcp_http_requests_total{status=\"5xx\"}", 0.0),
        ("metamcp_http_unauthenticated_total", 1.0),
        ("metamcp_http_forbidden_total", 1.0),
        ("metamcp_http_rate_limited_total", 0.0),
        ("metamcp_http_request_duration_seconds_count", 8.0),
        ("metamcp_tool_calls_total{tool=\"init_mcp_server\",outcome=\"ok\"}", 2.0),
        ("metamcp_tool_calls_total{tool=\"deploy_mcp_server\",outcome=\"ok\"}", 1.0),
        ("metamcp_tool_calls_total{tool=\"deploy_mcp_server\",outcome=\"not_found\"}", 1.0),
        ("metamcp_tool_calls_total{tool=\"none\",outcome=\"not_found\"}", 1.0),
        ("metamcp_deployments_total{outcome=\"ok\"}", 1.0),
        ("metamcp_servers{live=\"true\"}", 1.0),
        ("metamcp_servers{live=\"false\"}", 1.0),
        ("metamcp_deployments_total{outcome=\"not_found\"}", 1.0),
        ("metamcp_tool_call_duration_seconds_count{tool=\"deploy_mcp_server\"}", 2.0),
        (concat!("metamcp_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert!((seen.value(series) - value).abs() < f64::EPSILON, "{series}: {}", seen.value(series));
    }
    assert!(seen.value("metamcp_tool_call_duration_seconds_sum{tool=\"deploy_mcp_server\"}") > 0.0);
    if cfg!(target_os = "linux") {
        assert!(seen.value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(seen.value("process_open_fds") > 2.0);
    }
    for hidden in ["counted", "absent", "no_such_tool", "mmk_"] {
        assert!(!text.contains(hidden), "{hidden} is in the metrics");
    }
    let again = Scrape::parse(&scrape(&guarded, &admin).await.text().await.unwrap());
    assert!((again.value("metamcp_http_requests_total{status=\"2xx\"}") - 7.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_request_is_in_flight_until_the_end_of_its_stream() {
    let guarded = Guarded::start().await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let in_flight = async |expected: f64| {
        let seen = timeout(LIMIT, async {
            loop {
                let seen = Scrape::parse(&scrape(&guarded, &key).await.text().await.unwrap());
                // The scrape itself is one.
                if (seen.value("metamcp_http_requests_in_flight") - 1.0 - expected).abs() < f64::EPSILON {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("not {expected} in flight"));
    };
    let definition = json!({
        "name": "slow", "description": "Hangs.", "probe": { "tool": "hang" },
        "tools": [{ "name": "hang", "description": "Hangs.", "implementation": "return 'hang';" }]
    });
    guarded.call(&key, "import_server", json!({ "definition": definition })).await.text().await.unwrap();
    in_flight(0.0).await;
    let mut message = call_message("deploy_mcp_server", &json!({ "serverId": "slow" }));
    message["params"]["_meta"] = json!({ "progressToken": 1 });
    let stream = guarded.post(key.expose_secret(), &message).send().await.unwrap();
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    in_flight(1.0).await;
    drop(stream);
    in_flight(0.0).await;
}

#[tokio::test]
async fn only_who_may_read_about_all_servers_sees_the_metrics() {
    let guarded = Guarded::start().await;
    let url = guarded.server.url().join("/metrics").unwrap();
    assert_eq!(guarded.http.get(url.clone()).send().await.unwrap().status().as_u16(), 401);
    let (_, caller) = guarded.key(&[Scope::Call]).await;
    let refused = scrape(&guarded, &caller).await;
    assert!(header(&refused, "www-authenticate").contains("error=\"insufficient_scope\", scope=\"read\""));
    assert_eq!(refused.status().as_u16(), 403);
    let mut limited = NewApiKey::new("team", [Scope::Admin]);
    limited.servers = vec!["team-*".into()];
    let (_, limited) = guarded.make_key(limited).await;
    assert_eq!(scrape(&guarded, &limited).await.status().as_u16(), 403);
    let (_, reader) = guarded.key(&[Scope::Read]).await;
    let rebound = guarded.http.get(url.clone()).bearer_auth(reader.expose_secret()).header("host", "evil.example.com");
    assert_eq!(rebound.send().await.unwrap().status().as_u16(), 403);
    let posted = guarded.http.post(url).bearer_auth(reader.expose_secret()).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    assert_eq!(scrape(&guarded, &reader).await.status().as_u16(), 200);

    let few = HttpConfig::new().with_requests_per_minute(1.try_into().unwrap());
    let busy = Guarded::start_with(few).await;
    let (_, reader) = busy.key(&[Scope::Read]).await;
    assert_eq!(scrape(&busy, &reader).await.status().as_u16(), 200);
    assert_eq!(scrape(&busy, &reader).await.status().as_u16(), 429);
}
