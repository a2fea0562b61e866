//! The options of the template `routing`: where upstreams may be, and with which secrets.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use metamcp_core::{ServerDefinition, ValidDefinition, ValidationErrors, validate};
use serde_json::{Value, json};

fn check(options: &Value, rest: &Value) -> Result<ValidDefinition, ValidationErrors> {
    let mut definition =
        json!({ "name": "router", "description": "Routes.", "template": "routing", "options": options });
    for (key, value) in rest.as_object().unwrap() {
        definition[key] = value.clone();
    }
    validate(&serde_json::from_value::<ServerDefinition>(definition).unwrap())
}

/// The problem of a router with one upstream at this URL.
fn problem_of(url: &str, egress: Option<&[&str]>) -> Option<String> {
    let rest = egress.map_or(json!({}), |rules| json!({ "egress": rules }));
    let options = json!({ "upstreams": [{ "name": "db", "replicas": [{ "url": url }] }] });
    let errors = check(&options, &rest).err()?;
    let [problem] = errors.problems() else { panic!("one problem was expected: {errors}") };
    assert_eq!(problem.pointer, "/options/upstreams/0/replicas/0/url");
    Some(problem.message.clone())
}

#[test]
fn defaults_are_filled_in_for_every_upstream_and_replica() {
    let url = "https://mcp.example.com/mcp";
    let options = json!({ "upstreams": [{ "name": "db", "timeoutMs": 500, "replicas": [{ "url": url }] }] });
    let valid = check(&options, &json!({})).unwrap();
    assert_eq!(
        Value::Object(valid.options().clone()),
        json!({
            "upstreams": [{
                "name": "db",
                "strategy": "round-robin",
                "timeoutMs": 500,
                "replicas": [{ "url": url, "headers": {} }],
            }],
            "refreshMs": 60000,
            "breaker": { "failures": 3, "openMs": 10000 },
        })
    );
}

#[test]
fn upstreams_have_to_be_within_reach() {
    let reachable: [(&str, Option<&[&str]>); 10] = [
        ("https://mcp.example.com/mcp", None),
        ("https://mcp.example.com./mcp", Some(&["MCP.example.com"])),
        ("https://a.b.example.com/mcp", Some(&["*.example.com"])),
        ("https://8.8.8.7/mcp", None),
        ("http://127.0.0.1:8080/mcp", Some(&["127.0.0.1"])),
        ("http://[::1]:8080/mcp", Some(&["::1"])),
        ("http://10.1.2.3/mcp", Some(&["10.0.0.0/8"])),
        ("http://[::ffff:10.1.2.3]/mcp", Some(&["0.0.0.0/0"])),
        ("http://100.64.0.1/mcp", Some(&["100.64.0.1"])),
        ("http://198.18.0.1/mcp", Some(&["198.18.0.0/15"])),
    ];
    for (url, egress) in reachable {
        assert_eq!(problem_of(url, egress), None, "{url} with {egress:?}");
    }

    let unreachable: [(&str, Option<&[&str]>, &str); 20] = [
        ("mcp.example.com", None, "is no URL"),
        ("ftp://mcp.example.com", None, "is no URL of HTTP"),
        ("https://user:pass@mcp.example.com/mcp", None, "holds credentials"),
        ("https://mcp.example.com/mcp#x", None, "has a fragment"),
        ("http://mcp.example.com/mcp", None, "write https"),
        ("http://8.8.8.7/mcp", None, "write https"),
        ("https://localhost/mcp", None, "names a private host"),
        ("https://db.internal/mcp", None, "names a private host"),
        ("http://127.0.0.1:8080/mcp", None, "add it there"),
        ("http://2130706433/mcp", None, "add it there"),
        ("https://100.64.0.1/mcp", None, "add it there"),
        ("https://192.0.0.8/mcp", None, "add it there"),
        ("https://224.0.0.251/mcp", None, "add it there"),
        ("https://255.255.255.255/mcp", None, "add it there"),
        ("https://[64:ff9b::7f00:1]/mcp", None, "add it there"),
        ("https://[2002:7f00:1::]/mcp", None, "add it there"),
        ("http://10.1.2.3/mcp", Some(&["10.2.0.0/16"]), "add it there"),
        ("https://example.com/mcp", Some(&["*.example.com"]), "add it there"),
        ("https://badexample.com/mcp", Some(&["*.example.com"]), "add it there"),
        ("https://8.8.8.7/mcp", Some(&["mcp.example.com"]), "add it there"),
    ];
    for (url, egress, expected) in unreachable {
        let message = problem_of(url, egress).unwrap_or_else(|| panic!("{url} with {egress:?} was allowed"));
        assert!(message.contains(expected), "{url} with {egress:?}: {message}");
    }
}

#[test]
fn credentials_are_never_shown() {
    let message = problem_of("https://user:s3cret@mcp.example.com/mcp", None).unwrap();
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn every_problem_is_reported_at_its_place() {
    let replica = json!({
        "url": "https://mcp.example.com/mcp",
        "headers": {
            "Authorization": { "scheme": "Bearer", "secret": "TOKN" },
            "authorization": { "secret": "TOKEN" },
            "Mcp-Session-Id": { "secret": "TOKEN" },
            "Content-Type": { "secret": "TOKEN" },
            "a b": { "secret": "TOKEN" },
        }
    });
    let upstream = json!({ "name": "db", "replicas": [replica] });
    let options = json!({ "upstreams": [upstream, { "name": "db", "replicas": [{ "url": "nowhere" }] }] });
    let errors = check(&options, &json!({ "secrets": ["TOKEN"] })).unwrap_err();
    insta::assert_snapshot!(errors, @r#"
    the definition has 7 problems
      /options/upstreams/0/replicas/0/headers/Authorization/secret: secret "TOKN" is not declared; did you mean "TOKEN"?; add it to `secrets`
      /options/upstreams/0/replicas/0/headers/Content-Type: "Content-Type" is a header of the protocol itself; remove it
      /options/upstreams/0/replicas/0/headers/Mcp-Session-Id: "Mcp-Session-Id" is a header of the protocol itself; remove it
      /options/upstreams/0/replicas/0/headers/a b: "a b" is no name of a header; for example "Authorization"
      /options/upstreams/0/replicas/0/headers/authorization: header "authorization" is taken by an earlier one; choose another
      /options/upstreams/1/name: upstream name "db" is taken by an earlier one; choose another
      /options/upstreams/1/replicas/0/url: "nowhere" is no URL (relative URL without a base); write one such as "https://mcp.example.com/mcp"
    "#);
}

#[test]
fn wrong_shapes_are_reported_by_the_schema() {
    let upstream =
        json!({ "name": "DB", "prefix": "a b", "strategy": "random", "timeoutMs": 1, "replicas": [], "more": 1 });
    let errors = check(&json!({ "upstreams": [upstream], "refreshMs": 5 }), &json!({})).unwrap_err();
    insta::assert_snapshot!(errors, @r#"
    the definition has 7 problems
      /options/refreshMs: does not match the template's options: the value is less than the minimum of 1000
      /options/upstreams/0/name: does not match the template's options: the value does not match "^[a-z][a-z0-9_-]{0,31}$"
      /options/upstreams/0/prefix: does not match the template's options: the value does not match "^[A-Za-z0-9_.-]{0,32}$"
      /options/upstreams/0/replicas: does not match the template's options: the value has less than 1 item
      /options/upstreams/0/strategy: does not match the template's options: the value is not one of "round-robin", "least-latency" or "failover"
      /options/upstreams/0/timeoutMs: does not match the template's options: the value is less than the minimum of 50
      /options/upstreams/0: does not match the template's options: Additional properties are not allowed ('more' was unexpected)
    "#);
}

#[test]
fn upstreams_may_all_be_external_servers() {
    assert_eq!(check(&json!({}), &json!({})).unwrap().options()["upstreams"], json!([]));
}

#[test]
fn pins_are_digests() {
    let upstream =
        json!({ "name": "db", "replicas": [{ "url": "https://mcp.example.com/mcp" }], "pins": { "query": "new" } });
    let errors = check(&json!({ "upstreams": [upstream] }), &json!({})).unwrap_err();
    assert_eq!(errors.problems()[0].pointer, "/options/upstreams/0/pins/query");
}

#[test]
fn a_tool_may_not_be_called_as_the_templates_own() {
    let tool = json!({ "name": "Route_Status", "description": "Mine.", "implementation": "return 1;" });
    let options = json!({ "upstreams": [{ "name": "db", "replicas": [{ "url": "https://mcp.example.com/mcp" }] }] });
    let errors = check(&options, &json!({ "tools": [tool] })).unwrap_err();
    assert_eq!(errors.problems()[0].pointer, "/tools/0/name");
}
