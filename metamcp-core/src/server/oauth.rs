//! Access tokens of an authorization server, beside API keys: this server as a resource server of OAuth 2.1, as MCP's
//! authorization says it (2025-11-25, 2026-07-28).
//!
//! *Invariant:* a token does not leave the guard: what goes on is who its subject is and what its scopes allow.

mod issuer;
mod keys;
mod resource;
mod token;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::crypto::{CryptoProvider, aws_lc};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use self::issuer::Issuer;
pub(super) use self::resource::Resource;
use self::token::Rules;
pub(super) use self::token::{Denied, Verified};
use crate::{Error, ErrorKind, Result};

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// An authorization server whose access tokens are taken beside API keys.
///
/// They have to be JWTs (RFC 9068), signed with RS256/384/512, PS256/384/512, ES256/384 or `EdDSA` by a key of the
/// issuer, whose keys are found by its metadata (RFC 8414, else `OpenID` Connect Discovery). Of the scopes in `scope` or
/// `scp` count those of [`Scope`](crate::Scope), as they are or with `metamcp:` before them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthConfig {
    /// The issuer, letter for letter as its tokens and its metadata say: `https://login.example.com/realms/tools`.
    /// HTTPS; plain HTTP on loopback only.
    pub issuer: String,
    /// The endpoint's URL as clients know it, that of the proxy before it; default: where it listens. Its host is an
    /// allowed `Host`.
    pub resource: Option<Url>,
    /// What has to be in a token's `aud`; default: the resource.
    pub audience: Option<String>,
    /// Whether the issuer knows our scopes only with `metamcp:` before them.
    pub prefixed_scopes: bool,
    /// How long a look-up of the issuer's keys may take.
    pub fetch_timeout: Duration,
}

impl OAuthConfig {
    /// Tokens of this issuer for the endpoint, with look-ups of at most 5 seconds.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            resource: None,
            audience: None,
            prefixed_scopes: false,
            fetch_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the endpoint's URL as clients know it.
    #[must_use]
    pub fn with_resource(mut self, resource: Url) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Sets what has to be in a token's `aud`.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Takes, and tells clients to ask for, scopes with `metamcp:` before them only.
    #[must_use]
    pub fn with_prefixed_scopes(mut self) -> Self {
        self.prefixed_scopes = true;
        self
    }

    /// Sets how long a look-up of the issuer's keys may take.
    #[must_use]
    pub fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = timeout;
        self
    }

    /// [`ErrorKind::ConfigInvalid`] for URLs that cannot be what they are said to be.
    pub(super) fn check(&self, listens_everywhere: bool) -> Result<()> {
        let issuer = self.issuer_url()?;
        if !is_secure(&issuer) || has_more_than_a_path(&issuer) {
            let what = "has to be an https URL without credentials, query and fragment";
            return Err(invalid(format!("the OAuth issuer {what}; http is for loopback addresses")));
        }
        match &self.resource {
            Some(resource) if !is_secure(resource) || has_more_than_a_path(resource) => {
                let what = "has to be an https URL without credentials, query and fragment";
                Err(invalid(format!("the public URL {what}: access tokens are sent to it")))
            }
            None if listens_everywhere => Err(invalid(
                "a server that listens at every address cannot know the URL that tokens are for".to_owned(),
            )
            .with_help("give its public URL")),
            _ => Ok(()),
        }
    }

    fn issuer_url(&self) -> Result<Url> {
        self.issuer.parse().map_err(|error| invalid("the OAuth issuer is no URL".to_owned()).with_source(error))
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

fn has_more_than_a_path(url: &Url) -> bool {
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    has_credentials || url.query().is_some() || url.fragment().is_some()
}

/// Whether what is sent there can be read or changed by nobody on the way.
fn is_secure(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why a token does not let its bearer in.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not valid.
    Denied(Denied),
    /// The issuer's keys cannot be had, so that it cannot be checked.
    Unavailable,
}

/// What checks access tokens.
#[derive(Debug)]
pub(super) struct OAuth {
    pub(super) resource: Resource,
    issuer: Arc<Issuer>,
    rules: Rules,
}

impl OAuth {
    /// For the endpoint at this URL. Nothing is asked of the issuer before the first token comes.
    pub(super) fn new(config: &OAuthConfig, endpoint: &Url) -> Result<Self> {
        config.check(false)?;
        use_one_provider();
        let resource = Resource::new(config, endpoint);
        let issuer = Issuer::new(config.issuer.clone(), config.issuer_url()?, config.fetch_timeout)?;
        let audience = config.audience.as_deref().unwrap_or(&resource.id);
        let rules = Rules::new(&config.issuer, audience, config.prefixed_scopes);
        Ok(Self { issuer: Arc::new(issuer), rules, resource })
    }

    /// Who bears the token. An unknown key may be a new one: the issuer is asked again, within a limit.
    pub(super) async fn authenticate(&self, token: &SecretString) -> Result<Verified, Refused> {
        let token = token.expose_secret();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Denied(Denied::Malformed));
        }
        let header = token::header(token).map_err(Refused::Denied)?;
        let keys = self.issuer.keys().await.map_err(unavailable)?;
        match self.rules.verify(token, &header, &keys) {
            Err(Denied::UnknownKey) => {
                let keys = self.issuer.newer_keys().await.map_err(unavailable)?;
                self.rules.verify(token, &header, &keys).map_err(Refused::Denied)
            }
            verified => verified.map_err(Refused::Denied),
        }
    }
}

/// With a second cryptographic provider in the build, which another crate may bring, jsonwebtoken panics at the first
/// token unless one of them was chosen.
fn use_one_provider() {
    if CryptoProvider::try_get_default().is_none() && aws_lc::DEFAULT_PROVIDER.install_default().is_err() {
        tracing::debug!("another cryptographic provider was chosen meanwhile");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` passes")]
fn unavailable(error: Error) -> Refused {
    tracing::error!(%error, "an access token could not be checked");
    Refused::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_nobody_can_listen_to_are_taken() {
        for (issuer, taken) in [
            ("https://login.example.com", true),
            ("https://login.example.com/realms/a", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000/a", true),
            ("http://localhost", true),
            ("http://login.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("https://login.example.com?tenant=a", false),
            ("https://login.example.com#a", false),
            ("https://user:word@login.example.com", false),
            ("ftp://login.example.com", false),
            ("login.example.com", false),
        ] {
            assert_eq!(OAuthConfig::new(issuer).check(false).is_ok(), taken, "{issuer}");
        }
        let config = OAuthConfig::new("https://login.example.com");
        assert!(config.check(true).is_err());
        let behind_a_proxy = config.clone().with_resource("https://mcp.example.com/mcp".parse().unwrap());
        assert!(behind_a_proxy.check(true).is_ok());
        assert!(config.with_resource("http://mcp.example.com/mcp".parse().unwrap()).check(true).is_err());
    }
}
