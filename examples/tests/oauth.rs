//! The reference server with access tokens of an issuer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use reference::{Http, node, tools};

/// An issuer that trusts one client.
struct Issuer {
    url: String,
    state: Arc<Tokens>,
}

struct Tokens {
    issuer: String,
    key: EncodingKey,
    /// What was asked for, as `scope` and `resource`.
    asked: Mutex<Vec<(String, String)>>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pair.as_ref());
        let state = Arc::new(Tokens { issuer: url.clone(), key, asked: Mutex::default() });
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }
}

impl Tokens {
    fn sign(&self, audience: &str, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "iss": self.issuer, "sub": "agent", "aud": audience, "exp": now + 600, "scope": scope });
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some("key".to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

async fn metadata(State(tokens): State<Arc<Tokens>>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", tokens.issuer);
    Json(json!({
        "issuer": tokens.issuer, "jwks_uri": at("/keys"), "token_endpoint": at("/token"),
        "authorization_endpoint": at("/authorize"), "response_types_supported": ["code"],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"]
    }))
}

async fn keys(State(tokens): State<Arc<Tokens>>) -> Json<Value> {
    let mut key = serde_json::to_value(Jwk::from_encoding_key(&tokens.key, Algorithm::ES256).unwrap()).unwrap();
    key["kid"] = "key".into();
    Json(json!({ "keys": [key] }))
}

async fn token(State(tokens): State<Arc<Tokens>>, headers: HeaderMap, body: String) -> Result<Json<Value>, StatusCode> {
    // agent:agent-secret
    if headers.get("authorization").is_none_or(|value| value != "Basic YWdlbnQ6YWdlbnQtc2VjcmV0") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut form = Url::parse("http://form.example").unwrap();
    form.set_query(Some(&body));
    let form: HashMap<_, _> = form.query_pairs().into_owned().collect();
    let (scope, resource) = (form["scope"].clone(), form["resource"].clone());
    tokens.asked.lock().unwrap().push((scope.clone(), resource.clone()));
    let token = tokens.sign(&resource, &scope);
    Ok(Json(json!({ "access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": scope })))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_issuer_does_what_a_key_does() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().await;
    let server = Http::start_with(folder.path(), &["--oauth-issuer", &issuer.url, "--oauth-audience", "tools"]).await;
    let token = issuer.state.sign("tools", "read write");
    let client = server.connect(&token).await;
    client.data("init_mcp_server", json!({ "name": "made", "description": "By a token." })).await;
    let admin = server.connect(server.admin_key.as_ref().unwrap()).await;
    let log = admin.data("list_audit_log", json!({})).await;
    assert_eq!((&log["entries"][0]["actor"], &log["entries"][0]["server"]), (&json!("oauth:agent"), &json!("made")));

    let metrics = Url::parse(&server.url).unwrap().join("/metrics").unwrap();
    let scraped = reqwest::Client::new().get(metrics).bearer_auth(&token).send().await.unwrap().text().await.unwrap();
    assert!(scraped.contains("metamcp_tool_calls_total{tool=\"init_mcp_server\",outcome=\"ok\"} 1\n"), "{scraped}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22 and the official TypeScript client, which .ci/run installs"]
async fn the_official_typescript_client_finds_the_issuer_and_asks_for_what_it_lacks() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/oauth.mjs");
    for era in ["2025-11-25", "2026-07-28"] {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::start().await;
        let server = Http::start_with(folder.path(), &["--oauth-issuer", &issuer.url]).await;
        let arguments: [OsString; 5] = [
            script.clone().into(),
            tools().join("package.json").into(),
            era.into(),
            server.url.clone().into(),
            issuer.url.clone().into(),
        ];
        let seen = node(arguments).await;
        let (first, stepped) = ("read call write deploy", "read call write deploy admin");
        let expected = json!({
            "offered": [true, false], "first": first, "servers": { "servers": [] }, "audit": { "entries": [] },
            "stepped": stepped
        });
        assert_eq!(seen, expected, "{era}");
        let asked = [first, stepped].map(|scope| (scope.to_owned(), server.url.clone()));
        assert_eq!(*issuer.state.asked.lock().unwrap(), asked, "{era}");
        server.end().await;
    }
}
