//! Tool bodies that people write, word for word, against stand-ins for the services they call.

mod live;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use live::{Client, ERAS, Live, text};
use metamcp_local::ServiceWorker;
use secrecy::SecretString;
use serde_json::{Value, json};

const CREATE_ISSUE: &str = r#"
    const { repo, title, body } = parameters;
    const response = await fetch('https://api.github.com/repos/' + repo + '/issues', {
      method: 'POST',
      headers: { 'Authorization': 'token ' + env.GITHUB_TOKEN },
      body: JSON.stringify({ title, body })
    });
    const issue = await response.json();
    return {
      content: [{
        type: "text",
        text: "Created issue #" + issue.number
      }]
    };
  "#;

const OPTIMIZE_IMAGE: &str = r#"
    const { imageUrl, maxWidth = 1200 } = parameters;
    
    // Fetch image from URL
    const response = await fetch(imageUrl);
    const imageBuffer = await response.arrayBuffer();
    
    // Use Cloudflare Images API
    const optimized = await env.IMAGES.optimize(imageBuffer, {
      width: maxWidth,
      format: 'webp'
    });
    
    return {
      content: [{
        type: "image",
        data: optimized,
        mimeType: "image/webp"
      }]
    };
  "#;

const WEATHER: &str = r#"
const { city } = parameters;
const response = await fetch(`https://api.weather.com/${city}`);
const data = await response.json();

return {
  content: [{
    type: "text",
    text: JSON.stringify(data)
  }]
};
"#;

/// What a stand-in was asked.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    method: String,
    host: String,
    path: String,
    authorization: Option<String>,
    body: String,
}

/// A service of the test's own that notes what it is asked and always answers the same.
async fn stand_in(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<Asked>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let router = Router::new().fallback(move |request: Request| async move {
        let (head, body) = request.into_parts();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let body = to_bytes(body, 1_000_000).await.unwrap();
        notes.lock().unwrap().push(Asked {
            method: head.method.to_string(),
            host: header("host").unwrap_or_default(),
            path: head.uri.to_string(),
            authorization: header("authorization"),
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        answer
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn create_issue_calls_its_service_with_the_secret_and_tells_the_number() {
    let (github, asked) = stand_in(br#"{"number": 4711}"#).await;
    let live = Live::open_with(|config| config.with_outbound_override("api.github.com", github)).await;
    let deployment = live
        .deploy(json!({
            "name": "github-integration",
            "description": "GitHub API tools for AI agents",
            "secrets": ["GITHUB_TOKEN"],
            "tools": [{
                "name": "create_issue",
                "description": "Create a GitHub issue",
                "parameters": {
                    "repo": { "type": "string", "required": true },
                    "title": { "type": "string", "required": true },
                    "body": { "type": "string", "required": false }
                },
                "implementation": CREATE_ISSUE
            }]
        }))
        .await;
    let token = "ghp_'\"`${x}".to_owned();
    let name = "GITHUB_TOKEN".parse().unwrap();
    live.meta.secrets().set(&deployment.server_id.into(), &name, SecretString::from(token.clone())).await.unwrap();

    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        let arguments = json!({ "repo": "octo/cat", "title": "It's \"broken\"", "body": "line 1\nline 2" });
        assert_eq!(client.text("create_issue", arguments.clone()).await, "Created issue #4711");
        let asked = asked.lock().unwrap().pop().unwrap();
        assert_eq!((asked.method.as_str(), asked.host.as_str()), ("POST", "api.github.com"));
        assert_eq!(asked.path, "/repos/octo/cat/issues");
        assert_eq!(asked.authorization, Some(format!("token {token}")));
        let sent: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(sent, json!({ "title": arguments["title"], "body": arguments["body"] }));
    }
    assert!(asked.lock().unwrap().is_empty(), "each call asks once");
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optimize_image_gives_what_the_images_binding_made_of_the_fetched_bytes() {
    let (pictures, asked) = stand_in(&[0, 1, 254, 255]).await;
    let images = ServiceWorker::from_source(
        r#"
        import { WorkerEntrypoint } from "cloudflare:workers";
        export default class extends WorkerEntrypoint {
          async optimize(buffer, { width, format }) {
            const header = new TextEncoder().encode(`${format} ${width} `);
            return new Uint8Array([...header, ...new Uint8Array(buffer)]).buffer;
          }
        }"#,
    );
    let live = Live::open_with(|config| {
        config.with_outbound_override("pictures.example", pictures).with_service_worker("IMAGES", images)
    })
    .await;
    let deployment = live
        .deploy(json!({
            "name": "image-processor",
            "description": "Optimizes images",
            "bindings": { "IMAGES": { "type": "service" } },
            "tools": [{
                "name": "optimize_image",
                "description": "Optimize and resize images",
                "parameters": {
                    "imageUrl": { "type": "string", "required": true },
                    "maxWidth": { "type": "number", "required": false }
                },
                "implementation": OPTIMIZE_IMAGE
            }]
        }))
        .await;

    for era in ERAS {
        let client = Client::connect(&deployment.url, era).await;
        for (arguments, expected) in [
            (json!({ "imageUrl": "https://pictures.example/a.png" }), b"webp 1200 \x00\x01\xfe\xff".as_slice()),
            (json!({ "imageUrl": "http://pictures.example/a.png", "maxWidth": 7 }), b"webp 7 \x00\x01\xfe\xff"),
        ] {
            let result = client.call("optimize_image", arguments).await;
            let [block] = result.content.as_slice() else { panic!("{result:?}") };
            let image = block.as_image().unwrap_or_else(|| panic!("{result:?}"));
            assert_eq!(image.mime_type, "image/webp");
            assert_eq!(STANDARD.decode(&image.data).unwrap(), expected);
            assert_eq!(asked.lock().unwrap().pop().unwrap().path, "/a.png");
        }
    }
    live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weather_gives_what_its_service_answers_and_fails_with_it() {
    let (weather, asked) = stand_in(br#"{"sky": "clear"}"#).await;
    let (broken, _) = stand_in(b"<html>down for maintenance</html>").await;
    for (service, works) in [(weather, true), (broken, false)] {
        let live = Live::open_with(|config| config.with_outbound_override("api.weather.com", service)).await;
        let deployment = live
            .deploy(json!({
                "name": "weather-api",
                "description": "MCP server for weather data",
                "tools": [{
                    "name": "get_weather",
                    "description": "Get current weather for a city",
                    "parameters": { "city": { "type": "string", "required": true } },
                    "implementation": WEATHER
                }]
            }))
            .await;
        for era in ERAS {
            let client = Client::connect(&deployment.url, era).await;
            let result = client.call("get_weather", json!({ "city": "Oslo" })).await;
            if works {
                assert_eq!(text(&result), r#"{"sky":"clear"}"#);
                assert_eq!(asked.lock().unwrap().pop().unwrap().path, "/Oslo");
            } else {
                assert_eq!(result.is_error, Some(true));
                assert!(text(&result).contains("JSON") && text(&result).contains("line 4"), "{}", text(&result));
            }
        }
        live.close().await;
    }
}
