//! What a generated server does for clients of both protocol eras, by rmcp and by plain HTTP.
#![expect(deprecated, reason = "servers still log to clients, in the newest revision too")]

mod live;

use live::http::{self, Answer, message, post, prepare, request};
use live::{Client, ERAS, Era, Live, protocol_error, text};
use metamcp_core::{Deployment, ErrorKind, ServerKey};
use rmcp::model::{CallToolRequestParams, LoggingLevel, RequestMetaObject};
use secrecy::SecretString;
use serde_json::{Value, json};

/// A server with one of everything.
fn definition() -> Value {
    let number = json!({ "type": "number" });
    let sum = json!({ "type": "object", "properties": { "sum": number }, "required": ["sum"] });
    json!({
        "name": "everything", "description": "One of everything.", "version": "3.2.1",
        "tools": [
            { "name": "add", "title": "Add", "description": "Adds.",
              "parameters": { "a": { "type": "number", "required": true }, "b": { "type": "number", "default": 10 } },
              "outputSchema": sum, "annotations": { "readOnlyHint": true },
              "implementation": "return { sum: parameters.a + parameters.b };" },
            { "name": "mismatch", "description": "Breaks its promise.", "outputSchema": sum,
              "implementation": "return { sum: 'much' };" },
            { "name": "options", "description": "Says what it was given.",
              "parameters": {
                  "size": { "type": "string", "enum": ["s", "m"], "default": "m" },
                  "deep": { "type": "object", "properties": { "on": { "type": "boolean", "default": true } } },
                  "list": { "type": "array", "items": { "type": "integer" }, "default": [1, 2] }
              },
              "implementation": "return parameters;" },
            { "name": "count", "description": "Reports how far it is.",
              "implementation": "for (let n = 1; n <= 3; n += 1) {\n  await ctx.progress(n, 3, `step ${n}`);\n  await ctx.log('warning', { n });\n}\nreturn 'counted';" },
            { "name": "outer", "description": "Is built of another tool.",
              "implementation": "const inner = await ctx.callTool('add', { a: 1 });\nreturn `inner: ${inner.structuredContent.sum}`;" },
            { "name": "outer_wrong", "description": "Passes on what another tool says.",
              "implementation": "return await ctx.callTool('add', { a: 'x' });" },
            { "name": "one_at_a_time", "description": "Waits until it may go on.", "limits": { "concurrency": 1 },
              "implementation": "globalThis.entered = true;\nwhile (!globalThis.released) await new Promise((r) => setTimeout(r, 2));\nreturn 'through';" },
            { "name": "has_entered", "description": "Whether somebody waits.", "implementation": "return Boolean(globalThis.entered);" },
            { "name": "release", "description": "Lets them go on.", "implementation": "globalThis.released = true;\nreturn 'released';" }
        ],
        "resources": [
            { "uri": "all://text", "name": "text", "description": "Text.", "implementation": "return `read ${uri}`;" },
            { "uri": "all://bytes", "name": "bytes", "mimeType": "application/octet-stream",
              "implementation": "return new Uint8Array([0, 1, 254, 255]);" },
            { "uri": "all://broken", "name": "broken", "implementation": "\nthrow new Error('torn');" },
            { "uriTemplate": "all://item/{id}{?lang}", "name": "item", "mimeType": "application/json",
              "implementation": "return { uri, ...variables };" }
        ],
        "prompts": [
            { "name": "review", "description": "Asks for a review.",
              "arguments": [
                  { "name": "language", "required": true, "completion": ["rust", "ruby", "Racket", "go"] },
                  { "name": "focus" }
              ],
              "template": "Review this {{language}} code. {{ focus }}" },
            { "name": "greet", "description": "Greets.", "arguments": [{ "name": "who", "required": true }],
              "implementation": "return [{ role: 'assistant', content: { type: 'text', text: 'Hello ' + parameters.who } }];" }
        ],
        "probe": { "tool": "add", "arguments": { "a": 1 } }
    })
}

async fn everything() -> (Live, Deployment) {
    let live = Live::open().await;
    let deployment = live.deploy(definition()).await;
    (live, deployment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_either_era_sees_the_server_as_it_is_defined() {
    let (live, deployment) = everything().await;
    assert_eq!(deployment.verification.calls, 1);
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let info = serde_json::to_value(client.service.peer_info().unwrap()).unwrap();
        assert_eq!(info["protocolVersion"], era.version(), "{info}");
        assert!(info.to_string().contains(r#""name":"everything""#) && info.to_string().contains("3.2.1"), "{info}");

        let tools = client.service.list_all_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        let defined = definition();
        let wanted: Vec<_> =
            defined["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted);
        let add = serde_json::to_value(&tools[0]).unwrap();
        assert_eq!(add["title"], "Add");
        assert_eq!(add["annotations"], json!({ "readOnlyHint": true }));
        assert_eq!(add["inputSchema"]["required"], json!(["a"]));
        assert_eq!(add["outputSchema"], defined["tools"][0]["outputSchema"]);

        let resources = client.service.list_all_resources().await.unwrap();
        let uris: Vec<_> = resources.iter().map(|resource| resource.uri.as_str()).collect();
        assert_eq!(uris, ["all://text", "all://bytes", "all://broken"]);
        let templates = client.service.list_all_resource_templates().await.unwrap();
        assert_eq!(templates[0].uri_template, "all://item/{id}{?lang}");
        let prompts = client.service.list_all_prompts().await.unwrap();
        assert_eq!(serde_json::to_value(&prompts[0].arguments).unwrap()[0]["required"], true);
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_give_structured_content_defaults_and_errors_a_model_can_use() {
    let (live, deployment) = everything().await;
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let sum = client.call("add", json!({ "a": 1 })).await;
        assert_eq!(sum.structured_content, Some(json!({ "sum": 11 })));
        assert_eq!(text(&sum), r#"{"sum":11}"#);
        assert_eq!(
            client.call("add", json!({ "a": 1, "b": 2.5 })).await.structured_content,
            Some(json!({ "sum": 3.5 }))
        );

        let mismatch = client.failure("mismatch", json!({})).await;
        assert!(mismatch.contains("output schema") && mismatch.contains("/sum"), "{mismatch}");

        let options: Value = serde_json::from_str(&client.text("options", json!({ "deep": {} })).await).unwrap();
        assert_eq!(options, json!({ "size": "m", "deep": { "on": true }, "list": [1, 2] }));
        let wrong = client.failure("options", json!({ "size": "xl", "list": ["x"], "color": 1 })).await;
        for place in ["Input validation error", "/size", "/list/0", "color"] {
            assert!(wrong.contains(place), "{place}: {wrong}");
        }
        assert!(client.failure("add", json!({})).await.contains(r#"required property "a""#));

        assert_eq!(client.text("outer", json!({})).await, "inner: 11");
        assert!(client.failure("outer_wrong", json!({})).await.contains("Input validation error"));
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_log_messages_reach_the_client_before_the_result() {
    let (live, deployment) = everything().await;
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let mut params = CallToolRequestParams::new("count");
        let mut meta = RequestMetaObject::default();
        meta.set_log_level(LoggingLevel::Debug);
        params.meta = Some(meta);
        let result = client.service.call_tool(params).await.unwrap();
        assert_eq!(text(&result), "counted");
        // They came on the result's own stream, but each is handled by a task of its own.
        while client.notifications().len() < 6 {
            tokio::task::yield_now().await;
        }
        let notifications = client.notifications();
        let mut steps: Vec<_> = notifications.iter().filter_map(|seen| seen["message"].as_str()).collect();
        steps.sort_unstable();
        assert_eq!(steps, ["step 1", "step 2", "step 3"]);
        let logged: Vec<_> = notifications.iter().filter(|seen| seen["level"] == "warning").collect();
        assert_eq!(logged.len(), 3, "{notifications:?}");

        let params = json!({ "name": "count", "arguments": {}, "_meta": { "progressToken": "p" } });
        let answer = request(deployment.url.as_str(), era, "tools/call", &params).await;
        assert_eq!(answer.content_type, "text/event-stream");
        let progress: Vec<_> =
            answer.messages.iter().filter(|message| message["method"] == "notifications/progress").collect();
        assert_eq!(progress.len(), 3);
        assert_eq!(
            progress[1]["params"],
            json!({ "progressToken": "p", "progress": 2, "total": 3, "message": "step 2" })
        );
        assert_eq!(answer.result()["content"][0]["text"], "counted");
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_prompts_and_completions_answer_in_both_eras() {
    let (live, deployment) = everything().await;
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let read = client.read("all://text").await.unwrap();
        assert_eq!(read, json!([{ "uri": "all://text", "mimeType": "text/plain", "text": "read all://text" }]));
        let bytes = client.read("all://bytes").await.unwrap();
        assert_eq!(bytes[0]["blob"], "AAH+/w==");
        let item = client.read("all://item/a%2Fb%20c?lang=%C3%A9").await.unwrap();
        let item: Value = serde_json::from_str(item[0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(item, json!({ "uri": "all://item/a%2Fb%20c?lang=%C3%A9", "id": "a/b c", "lang": "é" }));

        let review = client.prompt("review", json!({ "language": "{{focus}} $&" })).await.unwrap();
        assert_eq!(review[0]["content"]["text"], "Review this {{focus}} $& code. ");
        assert_eq!(review[0]["role"], "user");
        let greet = client.prompt("greet", json!({ "who": "you" })).await.unwrap();
        assert_eq!((&greet[0]["role"], &greet[0]["content"]["text"]), (&json!("assistant"), &json!("Hello you")));

        let completion = client.service.complete_prompt_argument("review", "language", "r", None).await.unwrap();
        assert_eq!(completion.values, ["rust", "ruby", "Racket"]);
        let nothing = client.service.complete_prompt_argument("review", "focus", "", None).await.unwrap();
        assert!(nothing.values.is_empty());
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_has_its_eras_error_code() {
    const INVALID_PARAMS: i32 = -32602;
    let (live, deployment) = everything().await;
    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        for name in ["nobody", "constructor", "__proto__", "ADD"] {
            let (code, message) = protocol_error(client.try_call(name, json!({})).await);
            assert_eq!((code, message.contains(name)), (INVALID_PARAMS, true), "{message}");
            let (code, message) = protocol_error(client.prompt(name, json!({})).await);
            assert_eq!((code, message.contains(name)), (INVALID_PARAMS, true), "{message}");
        }
        let missing_resource = if era == Era::Initialize { -32002 } else { INVALID_PARAMS };
        for uri in ["all://nothing", "all://item/a/b", "all://item/"] {
            assert_eq!(protocol_error(client.read(uri).await).0, missing_resource, "{uri}");
        }
        let (code, message) = protocol_error(client.read("all://broken").await);
        assert_eq!((code, message.as_str()), (-32603, "torn (line 2 of the body)"));
        let (code, message) = protocol_error(client.prompt("review", json!({})).await);
        assert_eq!((code, message.contains("language")), (INVALID_PARAMS, true), "{message}");
        let completed = client.service.complete_prompt_argument("nobody", "x", "", None).await;
        assert_eq!(protocol_error(completed).0, INVALID_PARAMS);
        let answer = request(deployment.url.as_str(), era, "no/such", &json!({})).await;
        assert_eq!(answer.error_code(), -32601);
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_full_says_so_and_takes_the_next_call() {
    let (live, deployment) = everything().await;
    let client = Client::connect(&deployment.url, Era::Discover).await;
    let waiting = async { client.text("one_at_a_time", json!({})).await };
    let meanwhile = async {
        while client.text("has_entered", json!({})).await != "true" {
            tokio::task::yield_now().await;
        }
        let busy = client.failure("one_at_a_time", json!({})).await;
        assert!(busy.contains("is busy: 1 calls are running already"), "{busy}");
        client.text("release", json!({})).await;
    };
    let (through, ()) = tokio::join!(waiting, meanwhile);
    assert_eq!(through, "through");
    assert_eq!(client.text("one_at_a_time", json!({})).await, "through");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_mcp_are_refused_in_the_terms_of_http() {
    let (live, deployment) = everything().await;
    let url = deployment.url.as_str();
    let http = reqwest::Client::new();
    for method in [reqwest::Method::GET, reqwest::Method::DELETE, reqwest::Method::PUT, reqwest::Method::PATCH] {
        let response = http.request(method.clone(), url).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["allow"].to_str().unwrap()),
            (405, "POST"),
            "{method}"
        );
    }
    let elsewhere =
        [("/everything/mcp", "/nobody/mcp"), ("/mcp", "/mcpx"), ("/mcp", "/mcp/"), ("/everything/mcp", "/mcp")];
    for (part, other) in elsewhere {
        let answer = Answer::of(post(&url.replace(part, other)).body("{}").send().await.unwrap()).await;
        assert_eq!(answer.status, 404, "{other}");
    }
    let list = message(Era::Initialize, "tools/list", &json!({})).to_string();
    for (header, value, status) in [
        ("host", "evil.example", 403),
        ("host", "localhost.evil.example", 403),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:6274", 200),
        ("mcp-protocol-version", "1999-01-01", 400),
    ] {
        let response = post(url).header(header, value).body(list.clone()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{header}: {value}");
    }
    let plain = http.post(url).header("content-type", "text/plain").body(list.clone()).send().await.unwrap();
    assert_eq!(plain.status().as_u16(), 415);

    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("\u{feff}nonsense", 400, -32700),
        ("{}", 400, -32600),
        ("null", 400, -32600),
        ("7", 400, -32600),
        ("[]", 400, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600),
    ] {
        let answer = Answer::of(post(url).body(body).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.error_code()), (status, code), "{body:?}");
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_taken_up_to_its_limit_and_not_beyond() {
    let (live, deployment) = everything().await;
    let url = deployment.url.as_str();
    for era in ERAS {
        let sized = |bytes: usize| json!({ "name": "options", "arguments": { "size": "x".repeat(bytes) } });
        let large = request(url, era, "tools/call", &sized(4_000_000)).await;
        assert_eq!((large.status, &large.result()["isError"]), (200, &json!(true)));
        let too_large = request(url, era, "tools/call", &sized(4_200_000)).await;
        assert_eq!(too_large.status, 413);
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_belong_to_the_one_revision_that_had_them() {
    let (live, deployment) = everything().await;
    let url = deployment.url.as_str();
    let ping = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
    let batch = json!([ping(1), ping(2)]).to_string();
    let answer = Answer::of(post(url).body(batch).send().await.unwrap()).await;
    let ids: Vec<_> = answer.last().as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!((answer.status, ids), (200, vec![1, 2]));

    let list = message(Era::Discover, "tools/list", &json!({}));
    let modern = prepare(url, Era::Discover, "tools/list", &json!({})).body(json!([list]).to_string());
    let answer = Answer::of(modern.send().await.unwrap()).await;
    assert_eq!((answer.status, answer.error_code()), (400, -32600), "{answer:?}");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_accepted_in_silence() {
    let (live, deployment) = everything().await;
    for body in [r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]
    {
        let answer = Answer::of(post(deployment.url.as_str()).body(body).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.messages), (202, Vec::new()), "{body}");
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_newer_era_have_to_agree_with_the_message() {
    let (live, deployment) = everything().await;
    let url = deployment.url.as_str();
    let params = json!({ "name": "add", "arguments": { "a": 1 } });
    let body = message(Era::Discover, "tools/call", &params).to_string();
    let send = |method: &'static str, name: &'static str, version: &'static str| {
        let request = post(url).header("mcp-method", method).header("mcp-name", name);
        request.header("mcp-protocol-version", version).body(body.clone()).send()
    };
    let good = Answer::of(send("tools/call", "add", "2026-07-28").await.unwrap()).await;
    assert_eq!(good.result()["structuredContent"], json!({ "sum": 11 }));
    for (method, name) in [("tools/list", "add"), ("tools/call", "count")] {
        let answer = Answer::of(send(method, name, "2026-07-28").await.unwrap()).await;
        assert_eq!((answer.status, answer.error_code()), (400, -32020), "{method} {name}");
    }
    let bare =
        Answer::of(post(url).header("mcp-protocol-version", "2026-07-28").body(body.clone()).send().await.unwrap());
    assert_eq!(bare.await.error_code(), -32020);
    let unknown = Answer::of(
        prepare(url, Era::Discover, "tools/list", &json!({}))
            .body(body.replace("2026-07-28", "2099-01-01"))
            .header("mcp-protocol-version", "2099-01-01")
            .send()
            .await
            .unwrap(),
    );
    assert_eq!(unknown.await.status, 400);
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_bearer_secret_is_deployed_once_it_is_set_and_opens_to_those_who_send_it() {
    let live = Live::open().await;
    let key: ServerKey = "guarded".parse().unwrap();
    live.create(json!({
        "name": "guarded", "description": "Not for everybody.", "secrets": ["CALLER_TOKEN"],
        "auth": { "bearer": { "secret": "CALLER_TOKEN" } },
        "tools": [{ "name": "hello", "description": "Says hello.", "implementation": "return 'hello';" }]
    }))
    .await;

    let refused = live.meta.deployments().deploy(&key).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConfigInvalid, "{refused}");
    assert!(refused.to_string().contains("CALLER_TOKEN") && refused.to_string().contains("not set"), "{refused}");

    let name = "CALLER_TOKEN".parse().unwrap();
    live.meta.secrets().set(&key, &name, SecretString::from("let-me.in_2026~")).await.unwrap();
    let deployment = live.meta.deployments().deploy(&key).await.unwrap();
    live.meta.deployments().verify(&key).await.unwrap();

    let url = deployment.url.as_str();
    for era in ERAS {
        let params = json!({ "name": "hello", "arguments": {} });
        for credentials in
            [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic let-me.in_2026~"), Some("let-me.in_2026~")]
        {
            let mut asked = prepare(url, era, "tools/call", &params);
            if let Some(credentials) = credentials {
                asked = asked.header("authorization", credentials);
            }
            let response = asked.send().await.unwrap();
            assert_eq!(response.status().as_u16(), 401, "{credentials:?}");
            assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{credentials:?}");
        }
        let asked = prepare(url, era, "tools/call", &params).header("authorization", "Bearer let-me.in_2026~");
        let answer = http::Answer::of(asked.send().await.unwrap()).await;
        assert_eq!(answer.result()["content"][0]["text"], "hello");
        assert!(Client::try_connect(url, era, None).await.is_err());
        let client = Client::try_connect(url, era, Some("let-me.in_2026~")).await.unwrap();
        assert_eq!(client.text("hello", json!({})).await, "hello");
    }
    live.close().await;
}
