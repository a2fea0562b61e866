//! The HTTP+SSE transport of 2024-11-05, which is not supported: telling that a server speaks nothing else.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use url::Url;

use crate::{Error, ErrorKind};

/// How long a server may take to open its stream.
const LIMIT: Duration = Duration::from_secs(5);
/// Most that is read of the stream to find its first event.
const MAX_BEGINNING: usize = 4 * 1024;

/// Whether a `GET` opens a stream whose first event names the endpoint for messages. The specification has clients look
/// for it where a `POST` was refused.
pub(super) async fn answers(http: &reqwest::Client, url: &Url) -> bool {
    let looked = tokio::time::timeout(LIMIT, first_event_is_endpoint(http, url)).await;
    matches!(looked, Ok(Ok(true)))
}

/// The refusal of it.
pub(super) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message).with_help("use the server's streamable HTTP endpoint, often at /mcp")
}

async fn first_event_is_endpoint(http: &reqwest::Client, url: &Url) -> reqwest::Result<bool> {
    let mut response = http.get(url.clone()).header(ACCEPT, "text/event-stream").send().await?;
    let kind = response.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if !response.status().is_success() || !kind.starts_with(b"text/event-stream") {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        beginning.extend(chunk.iter().take(MAX_BEGINNING - beginning.len()));
        if let Some(event) = first_event(&beginning) {
            return Ok(event == b"endpoint");
        }
        if beginning.len() == MAX_BEGINNING {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The type of the first event, once its line has ended.
fn first_event(text: &[u8]) -> Option<&[u8]> {
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.filter_map(|line| line.strip_prefix(b"event:")).map(<[u8]>::trim_ascii).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_known_once_its_line_has_ended() {
        assert_eq!(first_event(b": hello\nevent: endp"), None);
        assert_eq!(first_event(b": hello\r\nevent: endpoint\r\ndata: /messages\r\n"), Some(b"endpoint".as_slice()));
        assert_eq!(first_event(b"event:message\nevent:endpoint\n"), Some(b"message".as_slice()));
    }
}
