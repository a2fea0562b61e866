//! [`Issuer`]: an authorization server's keys, found by its metadata and kept for a while.
//!
//! These are the only requests of this crate that do not speak MCP, and so do not go through rmcp's transports.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::http::{StatusCode, header};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use url::Url;

use super::keys::KeySet;
use super::{is_loopback, is_secure};
use crate::{Error, ErrorKind, Result};

/// How old keys may become before the issuer is asked again, while they go on to hold.
const REFRESH_AFTER: Duration = Duration::from_secs(600);
/// How long keys hold while the issuer does not answer.
const KEEP_FOR: Duration = Duration::from_secs(3_600);
/// The issuer is asked this many times in a row, and then once in each period, whatever tokens come.
const FETCHES_AT_ONCE: NonZeroU32 = const { NonZeroU32::new(5).expect("not zero") };
const FETCH_PERIOD: Duration = Duration::from_secs(10);
/// Size of a document of the issuer.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// An authorization server.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Letter for letter as in its tokens.
    name: String,
    url: Url,
    http: reqwest::Client,
    timeout: Duration,
    refresh_after: Duration,
    keep_for: Duration,
    fetches: DefaultDirectRateLimiter,
    fetched: RwLock<Option<Fetched>>,
    /// Held by who asks the issuer; when that was done last.
    asking: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
}

/// What is read of an issuer's metadata.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

impl Issuer {
    pub(super) fn new(name: String, url: Url, timeout: Duration) -> Result<Self> {
        // No idle connections: they would belong to the runtime that opened them.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no HTTP client can be made").with_source(error))?;
        let quota = Quota::with_period(FETCH_PERIOD).unwrap_or(Quota::per_minute(FETCHES_AT_ONCE));
        let fetches = RateLimiter::direct(quota.allow_burst(FETCHES_AT_ONCE));
        Ok(Self {
            name,
            url,
            http,
            timeout,
            refresh_after: REFRESH_AFTER,
            keep_for: KEEP_FOR,
            fetches,
            fetched: RwLock::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Its keys. [`ErrorKind::Unavailable`] if there are none that are young enough, and it cannot be asked.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Arc<KeySet>> {
        let Some(Fetched { keys, at }) = self.young_enough() else { return self.newer_keys().await };
        // Who asks already will bring the new ones; nobody waits for them.
        if at.elapsed() >= self.refresh_after && self.asking.try_lock().is_ok() {
            tokio::spawn(Arc::clone(self).refresh(Instant::now()));
        }
        Ok(keys)
    }

    /// Its keys as of now, or those that are known if it was asked too often or cannot be asked.
    pub(super) async fn newer_keys(self: &Arc<Self>) -> Result<Arc<KeySet>> {
        // A client that goes away does not take the answer from those who wait for it too.
        let refreshed = tokio::spawn(Arc::clone(self).refresh(Instant::now())).await;
        refreshed.map_err(|error| Error::new(ErrorKind::Unexpected, "the look-up broke down").with_source(error))?;
        self.young_enough().map(|fetched| fetched.keys).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the keys of issuer {} cannot be had now", self.name))
        })
    }

    fn young_enough(&self) -> Option<Fetched> {
        let fetched = self.fetched.read().unwrap_or_else(PoisonError::into_inner).clone();
        fetched.filter(|fetched| fetched.at.elapsed() < self.keep_for)
    }

    /// Asks the issuer, unless that was done since `wanted`.
    async fn refresh(self: Arc<Self>, wanted: Instant) {
        let mut asked = self.asking.lock().await;
        if asked.is_some_and(|at| at > wanted) || self.fetches.check().is_err() {
            return;
        }
        match tokio::time::timeout(self.timeout, self.fetch()).await {
            Ok(Ok(keys)) => {
                let fetched = Fetched { keys: Arc::new(keys), at: Instant::now() };
                *self.fetched.write().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            }
            Ok(Err(error)) => tracing::warn!(%error, issuer = self.name, "an issuer's keys were not fetched"),
            Err(_) => tracing::warn!(issuer = self.name, "an issuer's keys did not come in time"),
        }
        *asked = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<KeySet> {
        KeySet::parse(&self.get(self.discover().await?).await?)
    }

    /// Where its keys are.
    async fn discover(&self) -> Result<Url> {
        let mut problem = Error::new(ErrorKind::Unavailable, "it has no metadata where OAuth and OpenID Connect say");
        for url in metadata_urls(&self.url) {
            match self.metadata_at(url).await {
                Ok(metadata) => return Ok(metadata.jwks_uri),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    async fn metadata_at(&self, url: Url) -> Result<Metadata> {
        let metadata: Metadata = serde_json::from_slice(&self.get(url).await?)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "its metadata cannot be read").with_source(error))?;
        if metadata.issuer != self.name {
            return Err(Error::new(ErrorKind::ConfigInvalid, "its metadata names another issuer")
                .with_help("configure the issuer letter for letter as its metadata says"));
        }
        let is_as_secure =
            is_secure(&metadata.jwks_uri) && (!is_loopback(&metadata.jwks_uri) || is_loopback(&self.url));
        if !is_as_secure {
            return Err(Error::new(ErrorKind::PermissionDenied, "its jwks_uri is not https"));
        }
        Ok(metadata)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>> {
        let failed = |error: reqwest::Error| {
            Error::new(ErrorKind::Unavailable, "it does not answer").with_source(error.without_url())
        };
        let request = self.http.get(url.clone()).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            let status = response.status();
            let kind = if status == StatusCode::NOT_FOUND { ErrorKind::NotFound } else { ErrorKind::Unavailable };
            return Err(Error::new(kind, format!("{} answers {status}", url.path())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                let message = format!("{} is larger than {MAX_DOCUMENT_BYTES} bytes", url.path());
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Where an issuer's metadata may be, in the order that MCP wants: inserted before its path (RFC 8414), and by
/// `OpenID` Connect Discovery also after it.
fn metadata_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/openid-configuration"));
    }
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    paths.into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::State;
    use axum::http::{StatusCode, Uri};
    use axum::{Json, Router};
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    /// An issuer that counts how often it was asked for its keys, and answers the first time only.
    struct Once {
        issuer: Issuer,
        asked: Arc<AtomicUsize>,
    }

    impl Once {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(AtomicUsize::new(0));
            let router = Router::new().fallback(answer).with_state((url.clone(), Arc::clone(&asked)));
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            let issuer = Issuer::new(url.clone(), url.parse().unwrap(), Duration::from_secs(5)).unwrap();
            Self { issuer, asked }
        }
    }

    async fn answer(
        State((issuer, asked)): State<(String, Arc<AtomicUsize>)>,
        uri: Uri,
    ) -> Result<Json<Value>, StatusCode> {
        if uri.path() != "/keys" {
            return Ok(Json(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") })));
        }
        if asked.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A.2
        Ok(Json(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] })))
    }

    #[tokio::test]
    async fn old_keys_hold_while_new_ones_are_asked_for() {
        let mut once = Once::start().await;
        once.issuer.refresh_after = Duration::ZERO;
        let issuer = Arc::new(once.issuer);
        let first = issuer.keys().await.unwrap();
        let asked_again = async {
            while once.asked.load(Ordering::SeqCst) < 2 {
                assert!(Arc::ptr_eq(&first, &issuer.keys().await.unwrap()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked_again).await.unwrap();
        for _ in 0..100 {
            issuer.keys().await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(once.asked.load(Ordering::SeqCst) <= 10, "it is not asked as often as tokens come");
    }

    #[tokio::test]
    async fn keys_that_are_too_old_hold_no_more() {
        let mut once = Once::start().await;
        once.issuer.keep_for = Duration::ZERO;
        let error = Arc::new(once.issuer).keys().await.unwrap_err();
        assert_eq!((error.kind(), once.asked.load(Ordering::SeqCst)), (ErrorKind::Unavailable, 1));
        assert!(error.to_string().contains("cannot be had now"), "{error}");
    }

    #[test]
    fn metadata_is_looked_for_before_and_after_the_path() {
        let urls = |issuer: &str| -> Vec<String> {
            metadata_urls(&issuer.parse().unwrap()).into_iter().map(String::from).collect()
        };
        let without = [
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ];
        assert_eq!(urls("https://a.example"), without);
        assert_eq!(urls("https://a.example/"), without);
        let with = [
            "https://a.example/.well-known/oauth-authorization-server/t/1",
            "https://a.example/.well-known/openid-configuration/t/1",
            "https://a.example/t/1/.well-known/openid-configuration",
        ];
        assert_eq!(urls("https://a.example/t/1"), with);
        assert_eq!(urls("https://a.example/t/1/"), with);
    }
}
