//! The one REST client: authentication, envelope, error table, retry and paging for every product.
//!
//! *Invariant:* nothing else calls Cloudflare's API, and nothing else sends the token; `workers/account.rs` derives
//! the keys from it with which servers are checked.

mod edge;
mod envelope;
mod manager;
mod named;
mod retry;
mod socket;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use metamcp_core::{Error, ErrorKind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::CloudflareConfig;
pub(crate) use envelope::Answer;
use envelope::Form as AnswerForm;
pub(crate) use manager::{ManagerClient, Problem};
pub(crate) use named::Collection;
use retry::{Failure, Retry};
pub(crate) use socket::Socket;

/// Who is called.
const PEER: &str = "Cloudflare";
/// How long one attempt of a call may take; D1 gives a batch 30 s.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(40);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read: a KV value at its limit, and an envelope around as much.
const ANSWER_BYTES: usize = 36 * 1024 * 1024;

/// Cloudflare's REST API for one account. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For what is not the API.
    edge: reqwest::Client,
    config: CloudflareConfig,
    authorization: HeaderValue,
}

/// Whether an attempt that may have been carried out can be made again with the same outcome.
///
/// One that was refused for too many requests, or never reached the API, is repeated in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Reading, or writing the same again.
    Safe,
    /// Each call makes something new.
    Unsafe,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    /// Below the account, percent-encoded.
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Body>,
    repeat: Repeat,
}

/// What a call sends.
#[derive(Debug)]
enum Body {
    Bytes(HeaderValue, Bytes),
    Form(Vec<FormPart>),
}

/// A part of a multipart form.
#[derive(Debug, Clone)]
pub(crate) struct FormPart {
    pub(crate) name: String,
    /// Name and content type, for a part that is a file.
    pub(crate) file: Option<(String, &'static str)>,
    pub(crate) content: Bytes,
}

impl Call {
    /// A call of `path` below `accounts/{id}/`, whose variable parts went through [`segment`].
    pub(crate) fn new(method: Method, path: impl Into<String>, repeat: Repeat) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: None, repeat }
    }

    /// Reading.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Repeat::Safe)
    }

    /// Adds a query parameter.
    pub(crate) fn with_query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Sends a value as JSON.
    pub(crate) fn with_json(self, value: &impl Serialize) -> Self {
        // Plain data has a JSON form.
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.with_bytes(HeaderValue::from_static("application/json"), text.into())
    }

    /// Sends bytes.
    pub(crate) fn with_bytes(mut self, content_type: HeaderValue, bytes: Bytes) -> Self {
        self.body = Some(Body::Bytes(content_type, bytes));
        self
    }

    /// Sends a multipart form.
    pub(crate) fn with_form(mut self, parts: Vec<FormPart>) -> Self {
        self.body = Some(Body::Form(parts));
        self
    }
}

/// A variable part of a path, with everything encoded that could mean something in a URL.
pub(crate) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Client {
    /// A client for an account. It connects when it is first used.
    pub fn new(config: CloudflareConfig) -> Result<Self> {
        let (http, authorization) = (http_client()?, bearer(config.api_token(), "the API token")?);
        Ok(Self { http, edge: edge::http_client()?, config, authorization })
    }

    /// Which account it works on.
    pub fn config(&self) -> &CloudflareConfig {
        &self.config
    }

    /// Makes a call that is answered by an envelope, and returns what is in it.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<Answer<T>> {
        envelope::read(&self.repeat(call, AnswerForm::Envelope).await?)
    }

    /// Makes a call that is answered by bytes; `None` for what does not exist.
    pub(crate) async fn read(&self, call: &Call) -> Result<Option<Bytes>> {
        match self.repeat(call, AnswerForm::Bytes).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a call for its effect.
    pub(crate) async fn execute(&self, call: &Call) -> Result<()> {
        self.repeat(call, AnswerForm::Envelope).await.map(drop)
    }

    async fn repeat(&self, call: &Call, form: AnswerForm) -> Result<Bytes> {
        let mut retry = Retry::new(self.config.retry());
        loop {
            let failure = match self.attempt(call, form).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            match retry.pause(&failure, call.repeat) {
                Some(pause) => {
                    tracing::debug!(method = %call.method, path = call.path, ?pause, "repeating a call to Cloudflare");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(retry.give_up(failure)),
            }
        }
    }

    async fn attempt(&self, call: &Call, form: AnswerForm) -> Result<Bytes, Failure> {
        let unsent = |error| Failure::from_transport(PEER, error);
        let url = format!("{}accounts/{}/{}", self.config.base_url(), self.config.account_id(), call.path);
        let mut request = self.http.request(call.method.clone(), url).header(AUTHORIZATION, &self.authorization);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        request = match &call.body {
            None => request,
            Some(Body::Bytes(content_type, bytes)) => request.header(CONTENT_TYPE, content_type).body(bytes.clone()),
            Some(Body::Form(parts)) => request.multipart(multipart(parts).map_err(unsent)?),
        };
        let response = request.send().await.map_err(unsent)?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let (ray, challenged) = (header(&response, "cf-ray"), header(&response, "cf-mitigated").is_some());
        let bytes = read_bounded(PEER, response, ANSWER_BYTES).await?;
        tracing::trace!(method = %call.method, path = call.path, %status, "Cloudflare answered");
        let Some(error) = envelope::failure(status, &bytes, form, ray.as_deref()) else { return Ok(bytes) };
        let challenge = "Cloudflare's firewall challenged the request: try from another network";
        let error = if challenged { error.with_help(challenge) } else { error };
        Err(Failure::from_answer(status, retry_after, error))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

fn http_client() -> Result<reqwest::Client> {
    made(reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).timeout(ATTEMPT_LIMIT))
}

fn made(client: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    client
        // The token must not follow a redirect to anywhere.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Error::new(ErrorKind::ConfigInvalid, "no HTTP client can be made").with_source(error))
}

fn bearer(secret: &SecretString, what: &str) -> Result<HeaderValue> {
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", secret.expose_secret()))
        .map_err(|_| Error::new(ErrorKind::ConfigInvalid, format!("{what} cannot be sent in a header")))?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

fn multipart(parts: &[FormPart]) -> reqwest::Result<Form> {
    // Names of modules have slashes, which have to arrive as they are.
    parts.iter().try_fold(Form::new().percent_encode_noop(), |form, part| {
        // With its length, so that the form has one too.
        let length = part.content.len() as u64;
        let mut content = Part::stream_with_length(part.content.clone(), length);
        if let Some((name, content_type)) = &part.file {
            content = content.file_name(name.clone()).mime_str(content_type)?;
        }
        Ok(form.part(part.name.clone(), content))
    })
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Cloudflare gives seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn read_bounded(peer: &str, mut response: Response, limit: usize) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => {
                let message = format!("an answer of {peer} has more than {limit} bytes");
                return Err(Failure::permanent(Error::new(ErrorKind::LimitExceeded, message)));
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes.into()),
            Err(error) => return Err(Failure::from_transport(peer, error)),
        }
    }
}
