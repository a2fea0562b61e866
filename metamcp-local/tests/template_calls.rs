//! The templates that make several calls within one, deployed and called by a real client.

mod live;

use live::{Client, ERAS, Live};
use metamcp_core::{ServerDefinition, validate};
use serde_json::{Value, json};

/// Its server's calls may take 100 ms; a tool's and a batch's own limits say otherwise.
fn tool_calling() -> Value {
    json!({
        "name": "caller",
        "description": "Calls its own tools.",
        "template": "tool-calling",
        "limits": { "timeoutMs": 100 },
        "options": { "defaults": { "backoffMs": 1 }, "tools": { "steady": { "waitMs": 60_000 } } },
        "tools": [
            {
                "name": "steady",
                "description": "Takes its time, one call after the other.",
                "parameters": { "n": { "type": "integer", "required": true } },
                "limits": { "timeoutMs": 60_000, "concurrency": 1 },
                "implementation": "await new Promise((resolve) => setTimeout(resolve, 400));\nreturn `${parameters.n}`;"
            },
            {
                "name": "second_try",
                "description": "Fails on every first run.",
                "annotations": { "idempotentHint": true },
                "limits": { "timeoutMs": 60_000 },
                "implementation": "globalThis.runs = (globalThis.runs ?? 0) + 1;\nif (globalThis.runs % 2) throw new Error('not yet');\nreturn 'worked';"
            },
            {
                "name": "outer",
                "description": "Calls another tool.",
                "limits": { "timeoutMs": 60_000 },
                "implementation": "return ctx.callTool('second_try');"
            }
        ]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_call_tools_are_tried_again_and_run_in_batches() {
    let live = Live::open().await;
    let url = live.deploy(tool_calling()).await.url;
    for era in ERAS {
        let client = Client::connect(url.as_str(), era).await;
        assert_eq!(client.text("outer", json!({})).await, "worked");

        // Four times 400 ms in one place: longer than the server's limit with all that is allowed on top of it.
        let mut calls: Vec<_> = (0..4).map(|n| json!({ "tool": "steady", "arguments": { "n": n } })).collect();
        calls.push(json!({ "tool": "unsteady" }));
        let outcome = client.call("batch", json!({ "calls": calls })).await.structured_content.unwrap();
        assert_eq!((&outcome["succeeded"], &outcome["failed"]), (&json!(4), &json!(1)), "{era:?}: {outcome}");
        let values: Vec<_> = (0..4).map(|index| outcome["results"][index]["value"].as_str().unwrap()).collect();
        assert_eq!(values, ["0", "1", "2", "3"]);
        assert_eq!(outcome["results"][4]["reason"], "unknown_tool");
        client.service.cancel().await.unwrap();
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tool_runs_over_many_inputs_and_many_tools_over_one() {
    let live = Live::open().await;
    let check = |name: &str, body: &str| {
        let parameters = json!({ "n": { "type": "integer", "required": true } });
        json!({ "name": name, "description": "Judges a number.", "parameters": parameters, "implementation": body })
    };
    let definition = json!({
        "name": "judges",
        "description": "Judges numbers.",
        "template": "parallelisation",
        "limits": { "timeoutMs": 60_000 },
        "tools": [
            check("small", "return parameters.n < 10;"),
            check("even", "return parameters.n % 2 === 0;"),
            check("slow", "return new Promise((resolve) => setTimeout(() => resolve(false), parameters.n));")
        ]
    });
    let url = live.deploy(definition).await.url;
    for era in ERAS {
        let client = Client::connect(url.as_str(), era).await;
        let answer = async |tool: &str, arguments| client.call(tool, arguments).await.structured_content.unwrap();

        let inputs: Vec<_> =
            (0..40).map(|n| json!({ "n": if n == 20 { json!("twenty") } else { json!(n) } })).collect();
        let all = answer("map", json!({ "tool": "even", "inputs": inputs })).await;
        assert_eq!((&all["succeeded"], &all["failed"]), (&json!(39), &json!(1)), "{era:?}: {all}");
        assert_eq!(all["results"][20]["reason"], "arguments");
        assert_eq!((&all["results"][7]["value"], &all["results"][8]["value"]), (&json!("false"), &json!("true")));

        let inputs = [json!({ "n": 59_000 }), json!({ "n": 1 })];
        let first = answer("map", json!({ "tool": "slow", "inputs": inputs, "aggregate": "first" })).await;
        assert_eq!((&first["winner"], &first["value"]), (&json!(1), &json!("false")));

        let tools = ["small", "even", "slow"];
        let vote = answer("fan_out", json!({ "tools": tools, "input": { "n": 8 }, "aggregate": "vote" })).await;
        assert_eq!((&vote["value"], &vote["votes"][0]["count"]), (&json!("true"), &json!(2)));
        client.service.cancel().await.unwrap();
    }
    live.close().await;
}

#[test]
fn options_are_refused_where_they_stand() {
    let mut definition = tool_calling();
    definition["options"] = json!({
        "tools": { "stedy": { "attempts": 0 }, "batch": {} },
        "batchTimeoutMs": 5,
        "retries": 3
    });
    definition["tools"][0]["name"] = json!("BATCH");
    let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
    let errors = validate(&definition).unwrap_err();
    let mut pointers: Vec<_> = errors.problems().iter().map(|problem| problem.pointer.as_str()).collect();
    pointers.sort_unstable();
    let expected = [
        "/options",
        "/options/batchTimeoutMs",
        "/options/tools/batch",
        "/options/tools/stedy",
        "/options/tools/stedy/attempts",
        "/tools/0/name",
    ];
    assert_eq!(pointers, expected, "{errors}");
}
