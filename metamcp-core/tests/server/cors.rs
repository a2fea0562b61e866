//! What browsers are told about pages of other origins.

use metamcp_core::server::{HttpConfig, serve_http};
use metamcp_core::{ErrorKind, Scope};
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use serde_json::json;

use super::guard::{Guarded, call_message, header};
use super::memory;

const PAGE: &str = "https://app.example.com";

async fn start() -> Guarded {
    Guarded::start_with(HttpConfig::new().with_allowed_origin(PAGE)).await
}

/// A browser's question, which it sends without credentials.
async fn ask(guarded: &Guarded, origin: &str) -> Response {
    let request = guarded.http.request(Method::OPTIONS, guarded.server.url().clone()).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    let wanted = "authorization,content-type,mcp-protocol-version,Mcp-Param-City,x-forwarded-for";
    request.header("access-control-request-headers", wanted).send().await.unwrap()
}

#[tokio::test]
async fn a_page_that_was_allowed_may_ask_send_and_read() {
    let guarded = start().await;
    let preflight = ask(&guarded, PAGE).await;
    assert_eq!(preflight.status().as_u16(), 204);
    assert_eq!(header(&preflight, "access-control-allow-origin"), PAGE);
    assert_eq!(header(&preflight, "vary"), "Origin");
    assert_eq!(header(&preflight, "access-control-allow-methods"), "POST, GET, DELETE");
    let allowed = header(&preflight, "access-control-allow-headers");
    assert_eq!(allowed, "authorization, content-type, mcp-protocol-version, mcp-param-city");

    let (_, key) = guarded.key(&[Scope::Read]).await;
    let message = call_message("list_templates", &json!({}));
    // What is refused has to be readable, too: it leads to a key or a token.
    for (key, status) in [(key.expose_secret(), 200), ("wrong", 401)] {
        let response = guarded.post(key, &message).header("origin", PAGE).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(header(&response, "access-control-allow-origin"), PAGE);
        assert_eq!(header(&response, "access-control-expose-headers"), "WWW-Authenticate, Retry-After, Mcp-Session-Id");
        assert!(header(&response, "vary").contains("Origin"));
        assert_eq!(header(&response, "access-control-allow-credentials"), "");
    }
    // Who is no page of another origin is told nothing of that.
    let response = guarded.call(&key, "list_templates", json!({})).await;
    assert_eq!((response.status().as_u16(), header(&response, "access-control-allow-origin")), (200, ""));
}

#[tokio::test]
async fn other_pages_are_refused_and_may_read_nothing() {
    let guarded = start().await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let message = call_message("list_templates", &json!({}));
    let similar = ["https://app.example.com:8443", "http://app.example.com", "https://app.example.com.evil.example"];
    for origin in similar.into_iter().chain(["https://evil.example.com", "null"]) {
        let preflight = ask(&guarded, origin).await;
        let sent = guarded.post(key.expose_secret(), &message).header("origin", origin).send().await.unwrap();
        for response in [preflight, sent] {
            assert_eq!(response.status().as_u16(), 403, "{origin}");
            assert_eq!(header(&response, "access-control-allow-origin"), "", "{origin}");
        }
    }
    let closed = Guarded::start().await;
    assert_eq!(ask(&closed, PAGE).await.status().as_u16(), 403);
}

#[tokio::test]
async fn what_is_no_origin_is_not_taken_for_one() {
    for text in ["app.example.com", "https://app.example.com/page", "*", "null"] {
        let config = HttpConfig::new().with_allowed_origin(text);
        let error = serve_http(memory::meta().await, config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{text}");
        assert!(error.to_string().contains("an origin looks like https://app.example.com"), "{error}");
    }
}
