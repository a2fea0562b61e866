//! The Container Manager's HTTPS face: a Worker of the account, which has a key of its own.
//!
//! *Invariant:* every call can be repeated, so each is, as often as the retry policy allows.

use std::fmt;

use bytes::Bytes;
use metamcp_core::{Error, ErrorKind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::retry::{Failure, Retry};
use super::{Repeat, bearer, http_client, read_bounded, retry_after};
use crate::containers::ContainerManagerConfig;

/// Who is called.
const PEER: &str = "the Container Manager";
/// Largest answer: what was bundled, as JSON.
const ANSWER_BYTES: usize = 96 << 20;
/// How much of an answer that is no JSON is shown.
const SHOWN_CHARACTERS: usize = 200;

/// Calls the Container Manager. Clones share their connections.
#[derive(Clone)]
pub(crate) struct ManagerClient {
    http: reqwest::Client,
    config: ContainerManagerConfig,
    authorization: HeaderValue,
}

/// What a refusal looks like.
#[derive(Deserialize)]
struct Refusal {
    error: Problem,
}

/// A failure in the Container Manager's words.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    kind: String,
    message: String,
    help: Option<String>,
}

impl ManagerClient {
    pub(crate) fn new(config: ContainerManagerConfig) -> Result<Self> {
        let (http, authorization) = (http_client()?, bearer(config.key(), "the Container Manager's key")?);
        Ok(Self { http, config, authorization })
    }

    pub(crate) fn config(&self) -> &ContainerManagerConfig {
        &self.config
    }

    /// Reads JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        read(&self.call(Method::GET, path, None).await?)
    }

    /// Sends JSON, and reads JSON.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, value: &impl Serialize) -> Result<T> {
        // Plain data has a JSON form.
        let text = serde_json::to_vec(value).unwrap_or_default();
        read(&self.call(Method::PUT, path, Some(text.into())).await?)
    }

    /// Removes something, which need not be there.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// Makes a call of `path` below `/v1/`, whose variable parts went through [`segment`](super::segment).
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Bytes> {
        let mut retry = Retry::new(self.config.retry());
        loop {
            let failure = match self.attempt(method.clone(), path, body.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            let Some(pause) = retry.pause(&failure, Repeat::Safe) else { return Err(retry.give_up(failure)) };
            tracing::debug!(%method, path, ?pause, "repeating a call to the Container Manager");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Bytes, Failure> {
        let url = format!("{}v1/{path}", self.config.url());
        let mut request = self.http.request(method, url).header(AUTHORIZATION, &self.authorization);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/octet-stream").body(body);
        }
        let response = request.send().await.map_err(|error| Failure::from_transport(PEER, error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let bytes = read_bounded(PEER, response, ANSWER_BYTES).await?;
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(Failure::from_answer(status, retry_after, refusal(status, &bytes)))
        }
    }
}

impl fmt::Debug for ManagerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerClient").field("config", &self.config).finish_non_exhaustive()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let error = Error::new(kind(&problem.kind), problem.message);
        match problem.help {
            _ if error.kind() == ErrorKind::Unauthenticated => {
                error.with_help("check CLOUDFLARE_CONTAINER_MANAGER_KEY")
            }
            Some(help) => error.with_help(help),
            None => error,
        }
    }
}

fn kind(word: &str) -> ErrorKind {
    let known = [
        ErrorKind::BuildFailed,
        ErrorKind::ConfigInvalid,
        ErrorKind::Conflict,
        ErrorKind::LimitExceeded,
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::TimedOut,
        ErrorKind::Unauthenticated,
        ErrorKind::Unavailable,
        ErrorKind::Unsupported,
    ];
    known.into_iter().find(|kind| kind.as_str() == word).unwrap_or(ErrorKind::Unexpected)
}

/// What a refusal says. An answer that is none of the Container Manager's comes from what stands in front of it, or the
/// URL leads elsewhere.
fn refusal(status: StatusCode, bytes: &[u8]) -> Error {
    if let Ok(Refusal { error }) = serde_json::from_slice(bytes) {
        return error.into();
    }
    let text: String = String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARACTERS).collect();
    let message = format!("{PEER} answered with status {status}: {}", text.escape_debug());
    match status {
        StatusCode::TOO_MANY_REQUESTS => Error::new(ErrorKind::RateLimited, message),
        _ if status.is_server_error() => Error::new(ErrorKind::Unavailable, message),
        _ => Error::new(ErrorKind::ConfigInvalid, message).with_help(
            "check CLOUDFLARE_CONTAINER_MANAGER_URL; a Worker that was just deployed takes a moment to answer",
        ),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("an answer of {PEER} does not have its form");
        Error::new(ErrorKind::Unexpected, message)
            .with_source(error)
            .with_help("deploy the version that belongs to this program")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_kind_and_its_help() {
        let body = br#"{"error":{"kind":"not_found","message":"job x does not exist","help":"look again"}}"#;
        let error = refusal(StatusCode::NOT_FOUND, body);
        assert_eq!((error.kind(), error.help()), (ErrorKind::NotFound, Some("look again")));
        let error = refusal(StatusCode::UNAUTHORIZED, br#"{"error":{"kind":"unauthenticated","message":"no"}}"#);
        assert!(error.to_string().contains("CLOUDFLARE_CONTAINER_MANAGER_KEY"), "{error}");
    }

    #[test]
    fn an_answer_of_somebody_else_is_no_missing_environment() {
        assert_eq!(refusal(StatusCode::NOT_FOUND, b"There is nothing here yet").kind(), ErrorKind::ConfigInvalid);
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>\x1b");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!error.message().contains('\u{1b}'), "{error}");
    }
}
