//! [`ContainerManagerConfig`]: which Container Manager, with which key.

use std::fmt;
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::config::{RetryPolicy, folder_url};

/// Where the Container Manager of an account answers, its key, and how long to wait for it.
#[derive(Clone)]
pub struct ContainerManagerConfig {
    url: Url,
    key: SecretString,
    retry: RetryPolicy,
    queue_timeout: Duration,
    build_timeout: Duration,
}

impl ContainerManagerConfig {
    /// A Container Manager by its URL, such as `https://containers-manager.example.workers.dev`, and the value of its
    /// secret `CONTAINER_MANAGER_KEY`. [`ErrorKind::ConfigInvalid`] for a URL that would send the key unencrypted.
    pub fn new(url: &str, key: SecretString) -> Result<Self> {
        let shown = key.expose_secret();
        if shown.is_empty() || !shown.chars().all(|c| c.is_ascii_graphic()) {
            let message = "the Container Manager's key is empty or holds blanks or control characters";
            return Err(Error::new(ErrorKind::ConfigInvalid, message));
        }
        Ok(Self {
            url: folder_url(url)?,
            key,
            retry: RetryPolicy::default(),
            queue_timeout: Duration::from_secs(600),
            build_timeout: Duration::from_secs(900),
        })
    }

    /// Sets how calls whose answer is lost are repeated; default five attempts within a minute.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long to wait in line while all containers are in use; 10 minutes by default.
    #[must_use]
    pub fn with_queue_timeout(mut self, limit: Duration) -> Self {
        self.queue_timeout = limit;
        self
    }

    /// How long a container may take to start and to build; 15 minutes by default.
    #[must_use]
    pub fn with_build_timeout(mut self, limit: Duration) -> Self {
        self.build_timeout = limit;
        self
    }

    /// Where it answers, ending with `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The key, for the `Authorization` header.
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    /// How calls are repeated.
    pub fn retry(&self) -> RetryPolicy {
        self.retry
    }

    /// How long to wait in line.
    pub fn queue_timeout(&self) -> Duration {
        self.queue_timeout
    }

    /// How long a container may take to start and to build.
    pub fn build_timeout(&self) -> Duration {
        self.build_timeout
    }
}

impl fmt::Debug for ContainerManagerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerManagerConfig").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_shown_and_never_sent_unencrypted() {
        let config = ContainerManagerConfig::new("https://manager.example.workers.dev", "s3cret-key".into()).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.url().as_str(), "https://manager.example.workers.dev/");
        for (url, key) in [("http://manager.example.com", "key"), ("https://manager.example.com", "two words")] {
            let error = ContainerManagerConfig::new(url, key.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        }
    }
}
