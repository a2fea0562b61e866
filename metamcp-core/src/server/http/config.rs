//! [`HttpConfig`]: where, how and within which limits Meta-MCP is served over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::server::oauth::OAuthConfig;

/// Who may use the HTTP endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// Callers with an API key ([`MetaMcp::api_keys`](crate::MetaMcp::api_keys)), for what its scopes allow.
    ApiKeys,
    /// Everybody who reaches it, for everything. Loopback addresses only.
    None,
}

/// Where and how Meta-MCP is served over HTTP.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// Who may use it.
    pub authentication: Authentication,
    /// Whose access tokens are taken beside API keys; default nobody's.
    pub oauth: Option<OAuthConfig>,
    /// `Host` names it answers to beside the loopback ones and the address it listens at.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may use it, such as `https://app.example.com`; default none. Browsers are told (CORS).
    pub allowed_origins: Vec<String>,
    /// Requests that one key, or one subject of tokens, may make in a minute; as many may come at once.
    pub requests_per_minute: NonZeroU32,
    /// Requests of one caller that are worked on at once; more are answered by 429.
    pub requests_at_once: NonZeroU32,
    /// Connections that are served at once; more are answered by 503, or wait.
    pub max_connections: usize,
    /// How long a client may take nothing of an answer before its connection is closed.
    pub write_timeout: Duration,
    /// Size of a request's body.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// Unknown keys that are looked up for one address (of IPv6: one /64) in a minute; as many may come at once. Then
    /// only keys are taken from there that were right before. Behind a proxy all clients have its address.
    pub wrong_keys_per_minute: NonZeroU32,
    /// How long requests go on while nobody can say whether their key still holds.
    pub unconfirmed_limit: Duration,
}

impl HttpConfig {
    /// The defaults: a loopback port, API keys, 1,200 requests in a minute and 64 at once for each caller, 1,024
    /// connections, bodies of 8 MiB within 30 seconds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where to listen.
    #[must_use]
    pub fn with_listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Sets who may use it.
    #[must_use]
    pub fn with_authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Takes access tokens of an issuer beside API keys.
    #[must_use]
    pub fn with_oauth(mut self, oauth: OAuthConfig) -> Self {
        self.oauth = Some(oauth);
        self
    }

    /// Answers to another `Host` name.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Lets web pages of another origin use it.
    #[must_use]
    pub fn with_allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets how many requests one key may make in a minute.
    #[must_use]
    pub fn with_requests_per_minute(mut self, requests: NonZeroU32) -> Self {
        self.requests_per_minute = requests;
        self
    }

    /// Sets how many requests of one caller are worked on at once.
    #[must_use]
    pub fn with_requests_at_once(mut self, requests: NonZeroU32) -> Self {
        self.requests_at_once = requests;
        self
    }

    /// Sets how many connections are served at once, and how long each may take nothing of an answer.
    #[must_use]
    pub fn with_connection_limits(mut self, connections: usize, write_timeout: Duration) -> Self {
        (self.max_connections, self.write_timeout) = (connections, write_timeout);
        self
    }

    /// Sets the limits of a request's body.
    #[must_use]
    pub fn with_body_limits(mut self, bytes: usize, timeout: Duration) -> Self {
        (self.max_body_bytes, self.body_timeout) = (bytes, timeout);
        self
    }

    /// Sets how many keys that are wrong one address may try in a minute.
    #[must_use]
    pub fn with_wrong_keys_per_minute(mut self, keys: NonZeroU32) -> Self {
        self.wrong_keys_per_minute = keys;
        self
    }

    /// Sets how long requests go on while nobody can say whether their key still holds.
    #[must_use]
    pub fn with_unconfirmed_limit(mut self, limit: Duration) -> Self {
        self.unconfirmed_limit = limit;
        self
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            authentication: Authentication::ApiKeys,
            oauth: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            requests_per_minute: const { NonZeroU32::new(1_200).expect("not zero") },
            requests_at_once: const { NonZeroU32::new(64).expect("not zero") },
            max_connections: 1_024,
            write_timeout: Duration::from_secs(30),
            max_body_bytes: 8 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            wrong_keys_per_minute: const { NonZeroU32::new(60).expect("not zero") },
            unconfirmed_limit: Duration::from_secs(60),
        }
    }
}
