//! The limits of the HTTP endpoint, from outside: what one caller, one connection or all of them may take.

use std::num::NonZeroU32;
use std::time::Duration;

use metamcp_core::Scope;
use metamcp_core::server::HttpConfig;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::guard::{Guarded, LIMIT, call_message, header};

async fn connect(guarded: &Guarded) -> TcpStream {
    TcpStream::connect(guarded.server.url().socket_addrs(|| None).unwrap()[0]).await.unwrap()
}

/// A request's head, which promises so many bytes.
fn head(key: &SecretString, length: usize) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {length}\r\n\r\n",
        key.expose_secret()
    )
}

/// What is answered, until it has this.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut answer = Vec::new();
    timeout(LIMIT, async {
        while !String::from_utf8_lossy(&answer).contains(wanted) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    })
    .await
    .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_caller_whose_minute_is_full_is_answered_before_the_body_is_read() {
    let guarded = Guarded::start_with(HttpConfig::new().with_requests_per_minute(NonZeroU32::MIN)).await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    assert_eq!(guarded.call(&key, "list_templates", json!({})).await.status().as_u16(), 200);
    let mut stream = connect(&guarded).await;
    stream.write_all(head(&key, 1_000_000).as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 429 "));
}

#[tokio::test]
async fn a_caller_has_so_many_requests_in_flight_and_others_have_theirs() {
    let two = NonZeroU32::new(2).unwrap();
    let guarded = Guarded::start_with(HttpConfig::new().with_requests_at_once(two)).await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let (_, other) = guarded.key(&[Scope::Read]).await;
    let message = call_message("list_templates", &json!({})).to_string();
    // Two whose bodies do not come.
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&guarded).await;
        stream.write_all(head(&key, message.len()).as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let refused = timeout(LIMIT, async {
        loop {
            let response = guarded.call(&key, "list_templates", json!({})).await;
            if response.status().as_u16() == 429 {
                return response;
            }
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(header(&refused, "retry-after"), "1");
    assert!(refused.text().await.unwrap().contains("2 requests of this caller are in flight"));
    assert_eq!(guarded.call(&other, "list_templates", json!({})).await.status().as_u16(), 200);

    let mut first = waiting.remove(0);
    first.write_all(message.as_bytes()).await.unwrap();
    assert!(read_until(&mut first, "\r\n0\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(guarded.call(&key, "list_templates", json!({})).await.status().as_u16(), 200);
}

#[tokio::test]
async fn where_all_connections_are_taken_the_next_are_told_so() {
    let guarded = Guarded::start_with(HttpConfig::new().with_connection_limits(1, LIMIT)).await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let message = call_message("list_templates", &json!({})).to_string();
    let mut taken = connect(&guarded).await;
    taken.write_all(format!("{}{message}", head(&key, message.len())).as_bytes()).await.unwrap();
    read_until(&mut taken, "\r\n0\r\n\r\n").await;

    let refused = guarded.call(&key, "list_templates", json!({})).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "5"));
    assert_eq!(header(&refused, "connection"), "close");
    drop(taken);
    timeout(LIMIT, async { while guarded.call(&key, "list_templates", json!({})).await.status().as_u16() != 200 {} })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection() {
    let config = HttpConfig::new().with_connection_limits(1, Duration::from_millis(200));
    let guarded = Guarded::start_with(config).await;
    let (_, key) = guarded.key(&[Scope::Admin]).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let request = format!("{}{list}", head(&key, list.len()));
    let mut stream = connect(&guarded).await;
    // Far more answers than what lies between the two ends can hold.
    let sent = timeout(LIMIT, async { while stream.write_all(request.as_bytes()).await.is_ok() {} });
    sent.await.expect("the connection is closed");
    timeout(LIMIT, async { while guarded.call(&key, "list_templates", json!({})).await.status().as_u16() != 200 {} })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_400() {
    let guarded = Guarded::start().await;
    let (_, key) = guarded.key(&[Scope::Read]).await;
    let mut stream = connect(&guarded).await;
    let head = head(&key, 0).replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(format!("{head}5\r\n{{\"a\":\r\nnothing\r\n").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}
