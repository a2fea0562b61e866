//! A keep-alive client that calls one tool again and again, and what it measured.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One call as it goes over the wire, to a server of [`metamcp_benches::definition`].
#[derive(Debug, Clone)]
pub(crate) struct Call {
    headers: &'static [(&'static str, &'static str)],
    body: Bytes,
}

impl Call {
    /// As a client of 2025-11-25 calls, after its handshake.
    pub(crate) fn of_2025() -> Self {
        Self { headers: &[("mcp-protocol-version", "2025-11-25")], body: message(&json!({})) }
    }

    /// As a client of 2026-07-28 calls.
    pub(crate) fn of_2026() -> Self {
        let headers = &[("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "tool_0")];
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1.0.0" },
            "io.modelcontextprotocol/clientCapabilities": {}
        });
        Self { headers, body: message(&meta) }
    }
}

fn message(meta: &serde_json::Value) -> Bytes {
    let mut params = json!({ "name": "tool_0", "arguments": { "a": 2, "b": 3 } });
    if meta.as_object().is_some_and(|meta| !meta.is_empty()) {
        params["_meta"] = meta.clone();
    }
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string().into()
}

/// Where a call goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
}

/// One round on one target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// `calls` calls over so many connections at once.
pub(crate) async fn load(target: &Target, call: &Call, connections: usize, calls: usize) -> Result<Round, Failure> {
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(target.address).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|sender| tokio::spawn(call_again_and_again(sender, target.clone(), call.clone(), calls / connections)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let elapsed = started.elapsed();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
    let per_second = times.len() as f64 / elapsed.as_secs_f64();
    Ok(Round { per_second, p50: at(50), p99: at(99) })
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call_again_and_again(
    mut sender: SendRequest<Full<Bytes>>,
    target: Target,
    call: Call,
    calls: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let mut request = Request::post(&target.path)
            .header(header::HOST, target.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(call.body.clone()))?;
        let started = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        times.push(started.elapsed());
        if !body.windows(12).any(|part| part == b"the sum is 5") {
            return Err(format!("an unexpected answer: {}", String::from_utf8_lossy(&body)).into());
        }
    }
    Ok(times)
}
