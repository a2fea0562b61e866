//! The internet, as far as a test needs it: every host answers with the path, and redirects where it is asked to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metamcp_cloudflare_emulator::Options;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
pub(crate) struct Outside {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Outside {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream));
            }
        });
        Self { address, requests }
    }

    /// Options of an emulator whose scripts find these hosts here.
    pub(crate) fn as_hosts(&self, hosts: &[&str]) -> Options {
        let hosts = hosts.iter().map(|host| ((*host).to_owned(), self.address));
        Options { outbound_overrides: hosts.collect(), ..Options::default() }
    }

    /// How many requests arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// One request on each connection.
async fn answer(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await.unwrap();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    let target = first.split(' ').nth(1).unwrap_or_default();
    let answer = if let Some((_, to)) = target.split_once("?to=") {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    } else {
        let body = format!("seen {target}");
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
}
