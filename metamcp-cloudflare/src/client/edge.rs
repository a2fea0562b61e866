//! What a Worker says of itself, asked where its callers ask. This is not the API: the token is not sent.

use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use url::Url;

use super::retry::Failure;
use super::{Client, made, read_bounded};

/// Who is called.
const PEER: &str = "the Worker";
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Health {
    version: Option<String>,
}

/// Makes a connection for each request: one that is kept leads to the same machine of Cloudflare's again.
pub(super) fn http_client() -> Result<reqwest::Client> {
    made(reqwest::Client::builder().pool_max_idle_per_host(0).timeout(ATTEMPT_LIMIT))
}

impl Client {
    /// The version that a Worker says it is, at its `/health`; `None` of one that says nothing.
    pub(crate) async fn version_at(&self, health: &Url) -> Result<Option<String>> {
        let sent = self.edge.get(health.clone()).send().await;
        let response = sent.map_err(|error| Failure::from_transport(PEER, error).into_error())?;
        let status = response.status();
        let bytes = read_bounded(PEER, response, ANSWER_BYTES).await.map_err(Failure::into_error)?;
        if !status.is_success() {
            return Err(Error::new(ErrorKind::Unavailable, format!("{PEER} answers with status {status}")));
        }
        // The placeholder's answer is no JSON.
        Ok(serde_json::from_slice::<Health>(&bytes).ok().and_then(|health| health.version))
    }
}
