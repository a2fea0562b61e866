//! Tools from an OpenAPI document, deployed and called: what reaches the API.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod live;

use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use live::{Client, Era, Live};
use metamcp_core::{ApiImport, ImportOptions, ServerDefinition, ServerKey};
use serde_json::{Value, json};

const PETSTORE: &str = include_str!("../../metamcp-core/tests/openapi/petstore.yaml");

/// What looks like a result of MCP, and has a number that no double holds.
const PAGE: &str = r#"{"content":[{"type":"paragraph","id":9007199254740993}],"isError":true,"structuredContent":{}}"#;

/// Requests as they came: method, target, headers that matter, body.
type Seen = Arc<Mutex<Vec<String>>>;

/// An API that answers every request, in the way its path asks for.
async fn serve(seen: Seen) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v2", listener.local_addr().unwrap());
    let service = Router::new().fallback(answer).with_state(seen);
    tokio::spawn(async move { axum::serve(listener, service).await });
    url
}

async fn answer(State(seen): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let told = ["authorization", "x-api-key", "cookie", "x-trace", "content-type"];
    let told: Vec<_> = told.into_iter().filter_map(|name| Some(format!("{name}: {}", header(name)?))).collect();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    seen.lock()
        .unwrap()
        .push(format!("{} {} [{}] {body}", parts.method, parts.uri, told.join(", ")).trim_end().to_owned());
    match parts.uri.path() {
        "/v2/pets/broken" => (StatusCode::CONFLICT, "it is broken").into_response(),
        "/v2/pets/moved" => (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:9/")]).into_response(),
        "/v2/orders/moved" => {
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, parts.uri.to_string())]).into_response()
        }
        "/v2/orders/gone" => (StatusCode::NOT_FOUND, format!("cannot get {}", parts.uri)).into_response(),
        "/v2/orders/echo" => Json(json!({ "content": [], "url": parts.uri.to_string() })).into_response(),
        "/v2/orders/page" => ([(header::CONTENT_TYPE, "application/json")], PAGE).into_response(),
        "/v2/pets/nothing" => StatusCode::NO_CONTENT.into_response(),
        "/v2/pets/picture" => ([(header::CONTENT_TYPE, "image/png")], [1_u8, 2, 3]).into_response(),
        _ => ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], r#"{"pets":[1]}"#).into_response(),
    }
}

/// The pets' server, live, with its secrets set.
async fn pets(live: &Live, url: &str) -> Client {
    let mut options = ImportOptions::default();
    options.base_url = Some(url.parse().unwrap());
    let import = ApiImport::read(PETSTORE, &options).unwrap();
    let definition = import.add_to(&ServerDefinition::new("pets", "Pets.")).unwrap();
    let key: ServerKey = live.create(serde_json::to_value(definition).unwrap()).await;
    for name in import.secrets {
        let value = format!("{}\u{e9}", name.to_lowercase());
        let value = if name.starts_with("BASIC") { value } else { name.to_lowercase() };
        live.meta.secrets().set(&key, &name.parse().unwrap(), value.into()).await.unwrap();
    }
    let deployment = live.meta.deployments().deploy(&key).await.unwrap();
    Client::connect(deployment.url.as_str(), Era::Discover).await
}

#[tokio::test]
async fn arguments_reach_the_api_where_its_document_says() {
    let live = Live::open().await;
    let seen = Seen::default();
    let client = pets(&live, &serve(seen.clone()).await).await;
    let list = json!({
        "X-Trace": "t1", "limit": 5, "status": ["here", "gone"], "near": { "lat": 1.5, "lon": -2 }, "filter": { "a": "b c" }
    });
    assert_eq!(client.text("listPets", list).await, r#"{"pets":[1]}"#);
    client.text("listPets", json!({})).await;
    client.text("pets_create", json!({ "body": { "name": "Rex \u{e9}", "parents": [] } })).await;
    client.text("GET_pets_petId", json!({ "petId": "a/../b ?#%2e\u{e9}" })).await;
    client.text("deletePet", json!({ "petId": "7" })).await;
    client.text("report", json!({ "body": { "text": "a b&c", "tags": ["x", "y"] } })).await;
    insta::assert_snapshot!(seen.lock().unwrap().join("\n"), @r#"
    GET /v2/pets?filter=%7B%22a%22%3A%22b+c%22%7D&limit=5&near%5Blat%5D=1.5&near%5Blon%5D=-2&status%5B%5D=here&status%5B%5D=gone [authorization: Bearer petstore_auth, x-trace: t1]
    GET /v2/pets [authorization: Bearer petstore_auth]
    POST /v2/pets [authorization: Bearer petstore_auth, content-type: application/json] {"name":"Rex é","parents":[]}
    GET /v2/pets/a%2F..%2Fb%20%3F%23%252e%C3%A9 []
    DELETE /v2/pets/7 [x-api-key: api_key, cookie: sid=session]
    POST /v2/report [authorization: Basic YmFzaWNfdXNlcm5hbWXDqTpiYXNpY19wYXNzd29yZMOp, content-type: application/x-www-form-urlencoded;charset=UTF-8] tags=x&tags=y&text=a+b%26c
    "#);
    live.close().await;
}

#[tokio::test]
async fn what_an_api_answers_is_told_and_no_value_leads_elsewhere() {
    let live = Live::open().await;
    let seen = Seen::default();
    let client = pets(&live, &serve(seen.clone()).await).await;
    let pet = |id: &str| json!({ "petId": id });
    let broken = client.failure("GET_pets_petId", pet("broken")).await;
    assert!(broken.starts_with("HTTP 409 Conflict: it is broken"), "{broken}");
    let moved = client.failure("GET_pets_petId", pet("moved")).await;
    assert!(moved.starts_with("HTTP 302: a redirect to http://127.0.0.1:9/, which is not followed"), "{moved}");
    assert_eq!(client.text("GET_pets_petId", pet("nothing")).await, "done (HTTP 204)");
    let picture = client.call("GET_pets_petId", pet("picture")).await;
    assert_eq!(serde_json::to_value(&picture.content[0]).unwrap()["data"], Value::from("AQID"));
    let before = seen.lock().unwrap().len();
    for id in ["..", ".", ""] {
        let said = client.failure("GET_pets_petId", pet(id)).await;
        assert!(said.contains("cannot be sent") || said.contains("is empty"), "{id:?}: {said}");
    }
    assert_eq!(seen.lock().unwrap().len(), before, "nothing was sent");
    let wrong = client.failure("listPets", json!({ "limit": 0 })).await;
    assert!(wrong.contains("Invalid arguments"), "{wrong}");

    live.meta.secrets().remove(&"pets".parse().unwrap(), &"API_KEY".parse().unwrap()).await.unwrap();
    let unset = client.failure("deletePet", pet("7")).await;
    assert!(unset.starts_with("the secret API_KEY is not set"), "{unset}");
    live.close().await;
}

#[tokio::test]
async fn answers_are_passed_on_as_they_are_but_never_with_the_key() {
    const KEY: &str = "TOP SECRET/1";
    let live = Live::open().await;
    let seen = Seen::default();
    let document = json!({
        "openapi": "3.1.0",
        "servers": [{ "url": "https://api.example.com" }],
        "security": [{}, { "key": [] }],
        "paths": { "/orders/{id}": { "get": {
            "operationId": "order", "parameters": [{ "name": "id", "in": "path", "schema": { "type": "string" } }]
        } } },
        "components": { "securitySchemes": { "key": { "type": "apiKey", "in": "query", "name": "api_key" } } }
    });
    let mut options = ImportOptions::default();
    options.base_url = Some(serve(seen.clone()).await.parse().unwrap());
    let import = ApiImport::read(&document.to_string(), &options).unwrap();
    let definition = import.add_to(&ServerDefinition::new("orders", "Orders.")).unwrap();
    let key: ServerKey = live.create(serde_json::to_value(definition).unwrap()).await;
    let deployment = live.meta.deployments().deploy(&key).await.unwrap();
    let client = Client::connect(deployment.url.as_str(), Era::Discover).await;
    let order = |id: &str| json!({ "id": id });

    assert_eq!(client.text("order", order("page")).await, PAGE);
    live.meta.secrets().set(&key, &"KEY".parse().unwrap(), KEY.into()).await.unwrap();
    let echoed = client.text("order", order("echo")).await;
    assert_eq!(echoed, r#"{"content":[],"url":"/v2/orders/echo?api_key=***"}"#);
    let moved = client.failure("order", order("moved")).await;
    assert!(moved.contains("/v2/orders/moved, which is not followed"), "{moved}");
    let gone = client.failure("order", order("gone")).await;
    assert!(gone.starts_with("HTTP 404 Not Found: cannot get /v2/orders/gone?api_key=***"), "{gone}");
    let targets = seen.lock().unwrap().join("\n");
    assert_eq!(targets.matches("?api_key=TOP+SECRET%2F1").count(), 3, "{targets}");
    live.close().await;
}
