//! Connecting to what is no MCP endpoint, or not one that is served: what is said of it is short, and what to do next.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use metamcp_core::TrustedHosts;
use serde_json::json;
use tokio::net::TcpListener;

use super::strangers::serve;
use super::{Client, everything, memory};

/// What connecting to it says.
async fn said_of(url: &str) -> String {
    let meta = memory::meta().await.with_trusted_hosts(TrustedHosts::new(["127.0.0.1"]).unwrap());
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "ours", "description": "A server." })).await;
    let connect = json!({ "serverId": "ours", "serverUrl": url, "serverName": "them" });
    let said = client.failure("connect_external_mcp", connect).await;
    assert!(!said.contains("rmcp") && !said.contains("s3cret") && said.len() < 300, "{said}");
    said
}

/// What is said of a server that answers everything alike.
async fn said_of_answer(status: StatusCode, kind: &'static str, body: &'static str) -> String {
    said_of(&serve(Router::new().fallback(async move || (status, [(header::CONTENT_TYPE, kind)], body))).await).await
}

#[tokio::test]
async fn what_is_answered_instead_of_mcp_is_told() {
    let html = "text/html; charset=utf-8";
    for (status, kind, body, expected) in [
        (StatusCode::OK, html, "<p>Hi", "what it answers is text/html; charset=utf-8, not MCP; the address has to be"),
        (StatusCode::OK, "application/json", "{ no", "what it answers is no JSON-RPC message; the address has to be"),
        (StatusCode::OK, "application/json", "[1]", "what it answers is no JSON-RPC message; the address has to be"),
        (StatusCode::NOT_FOUND, html, "<p>No", "HTTP status 404; the address has to be"),
        (StatusCode::FORBIDDEN, html, "<p>No", "HTTP status 403; the address has to be"),
    ] {
        let said = said_of_answer(status, kind, body).await;
        assert!(said.starts_with("verification_failed: ") && said.contains(expected), "{said}");
        assert!(!said.contains("may succeed later"), "{said}");
    }
    let said = said_of_answer(StatusCode::UNAUTHORIZED, html, "<p>Who?").await;
    assert!(said.starts_with("unauthenticated: ") && said.contains("need credentials"), "{said}");
}

#[tokio::test]
async fn what_may_pass_is_told_as_that() {
    for status in [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        let said = said_of_answer(status, "text/html", "<p>Later").await;
        let expected = format!("HTTP status {}; the same call may succeed later", status.as_u16());
        assert!(said.starts_with("unavailable: ") && said.ends_with(&expected), "{said}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    drop(listener);
    let said = said_of(&url).await;
    assert!(said.starts_with("unavailable: "), "{said}");
    assert!(said.ends_with("the connection was refused; the same call may succeed later"), "{said}");
}

#[tokio::test]
async fn a_redirect_is_told_with_where_it_leads_and_not_followed() {
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::PERMANENT_REDIRECT] {
        let redirect = async move || (status, [(header::LOCATION, "/other?token=s3cret")]);
        let followed = async || -> StatusCode { panic!("it was followed") };
        let router = Router::new().route("/other", axum::routing::any(followed)).fallback(redirect);
        let url = serve(router).await;
        let said = said_of(&url).await;
        let to = url.replace("/mcp", "/other");
        assert!(said.starts_with("verification_failed: "), "{said}");
        assert!(said.contains(&format!("it redirects to {to}, which is not followed")), "{said}");
    }
}

#[tokio::test]
async fn a_server_of_the_old_transport_is_told_as_that() {
    let answer = async |method: Method| -> Response {
        if method != Method::GET {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let event = "event: endpoint\ndata: /messages?session=1\n\n";
        let events = stream::iter([Ok::<_, Infallible>(event)]).chain(stream::pending());
        ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
    };
    let said = said_of(&serve(Router::new().fallback(answer)).await).await;
    assert!(said.starts_with("unsupported: "), "{said}");
    let expected =
        "speaks only the HTTP+SSE transport of 2024-11-05, which is not supported; use the server's streamable";
    assert!(said.contains(expected), "{said}");
}
