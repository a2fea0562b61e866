//! Web sockets that the API gives the address of.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use metamcp_core::{Error, ErrorKind, Result};
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{StatusCode, Upgraded};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use url::Url;

use super::{CONNECT_LIMIT, Client};
use crate::config::is_protected;

/// Largest message that is read.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// An open web socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Upgraded>,
}

impl Client {
    /// Opens a web socket. Its address is its own key: the token is not sent there.
    pub(crate) async fn open_socket(&self, address: &str, protocol: &'static str, limit: Duration) -> Result<Socket> {
        timeout(limit, self.connect(address, protocol)).await.unwrap_or_else(|_| {
            let message = format!("the WebSocket did not open within {} s", limit.as_secs());
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    async fn connect(&self, address: &str, protocol: &'static str) -> Result<Socket> {
        // The address is a key, so no error shows it.
        let failed = |what: &str| Error::new(ErrorKind::Unavailable, format!("the WebSocket {what}"));
        let mut url = Url::parse(address).map_err(|_| failed("has an address that is no URL"))?;
        let scheme = if url.scheme() == "ws" { "http" } else { "https" };
        if url.set_scheme(scheme).is_err() || !is_protected(&url) {
            return Err(failed("has an address that is not encrypted"));
        }
        // HTTP/2 knows no upgrades.
        let http = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| failed("cannot be opened").with_source(error))?;
        let key = generate_key();
        let request = http
            .get(url)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, protocol);
        let response =
            request.send().await.map_err(|error| failed("cannot be opened").with_source(error.without_url()))?;
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().to_vec());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS
            || accepted.as_deref() != Some(derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(failed(&format!("was refused with status {}", response.status())));
        }
        let upgraded =
            response.upgrade().await.map_err(|error| failed("did not open").with_source(error.without_url()))?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
        Ok(Socket { stream: WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await })
    }
}

impl Socket {
    /// Sends a text.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.stream.send(Message::text(text)).await.map_err(broken)
    }

    /// The next text or bytes; `None` once it is closed.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.stream.next().await {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    return Ok(Some(message.into_data().to_vec()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
            }
        }
    }
}

fn broken(error: tungstenite::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the WebSocket broke").with_source(error)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::CloudflareConfig;

    #[tokio::test]
    async fn who_takes_a_connection_and_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("ws://{}/s3cret", silent.local_addr().unwrap());
        let client = Client::new(CloudflareConfig::new("0".repeat(32), "token".into()).unwrap()).unwrap();
        let error = client.open_socket(&address, "any", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
