//! Which account, with which token.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use url::Url;

/// Cloudflare's REST API.
const DEFAULT_BASE_URL: &str = "https://api.cloudflare.com/client/v4/";

/// The registry's D1 database.
const DEFAULT_DATABASE: &str = "meta-mcp-db";
/// The cache's Workers KV namespace.
const DEFAULT_NAMESPACE: &str = "META_MCP_KV";

/// Account, token and base URL of Cloudflare's API.
///
/// The token needs Workers Scripts Edit, Workers KV Storage Edit, D1 Edit and Account Settings Read.
#[derive(Clone)]
pub struct CloudflareConfig {
    account_id: String,
    api_token: SecretString,
    base_url: Url,
    workers_dev_url: Option<Url>,
    retry: RetryPolicy,
    database: String,
    namespace: String,
    toolchain_dir: Option<PathBuf>,
}

/// How often and how long a call is repeated that Cloudflare refused or did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// At most so many attempts, the first among them.
    pub attempts: u32,
    /// No attempt begins later than this after the first.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, total: Duration::from_secs(60) }
    }
}

impl CloudflareConfig {
    /// An account (32 hexadecimal digits) and a token. [`ErrorKind::ConfigInvalid`] names all that is wrong.
    pub fn new(account_id: impl Into<String>, api_token: SecretString) -> Result<Self> {
        use secrecy::ExposeSecret;
        let account_id = account_id.into();
        let mut problems = Vec::new();
        if account_id.len() != 32 || !account_id.chars().all(|c| c.is_ascii_hexdigit()) {
            problems.push(format!("account id {account_id:?} is not 32 hexadecimal digits"));
        }
        let token = api_token.expose_secret();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            problems.push("the API token is empty or holds blanks or control characters".to_owned());
        }
        let base_url = Url::parse(DEFAULT_BASE_URL).map_err(|error| invalid(error.to_string()))?;
        if problems.is_empty() {
            Ok(Self {
                account_id,
                api_token,
                base_url,
                workers_dev_url: None,
                retry: RetryPolicy::default(),
                database: DEFAULT_DATABASE.to_owned(),
                namespace: DEFAULT_NAMESPACE.to_owned(),
                toolchain_dir: None,
            })
        } else {
            Err(invalid(problems.join("; ")))
        }
    }

    /// Reads `CLOUDFLARE_ACCOUNT_ID`, `CLOUDFLARE_API_TOKEN` and, if set, `METAMCP_TOOLCHAIN_DIR` (where the JavaScript
    /// toolchain is kept) and `CLOUDFLARE_API_BASE_URL` and `METAMCP_WORKERS_DEV_URL`, which are for an emulator
    /// ([`Self::with_workers_dev_url`]).
    pub fn from_env() -> Result<Self> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (account, token) = (read("CLOUDFLARE_ACCOUNT_ID"), read("CLOUDFLARE_API_TOKEN"));
        let missing: Vec<_> = [("CLOUDFLARE_ACCOUNT_ID", account.is_none()), ("CLOUDFLARE_API_TOKEN", token.is_none())]
            .into_iter()
            .filter_map(|(name, missing)| missing.then_some(name))
            .collect();
        let (Some(account), Some(token)) = (account, token) else {
            return Err(invalid(format!("not set: {}", missing.join(", ")))
                .with_help("create a token at https://dash.cloudflare.com/profile/api-tokens"));
        };
        let mut config = Self::new(account, token.into())?;
        config.toolchain_dir = read("METAMCP_TOOLCHAIN_DIR").map(PathBuf::from);
        let config = match read("CLOUDFLARE_API_BASE_URL") {
            Some(url) => config.with_base_url(&url)?,
            None => config,
        };
        match read("METAMCP_WORKERS_DEV_URL") {
            Some(url) => config.with_workers_dev_url(&url),
            None => Ok(config),
        }
    }

    /// Another base URL: an emulator of the API. Plain `http` is accepted for loopback addresses only.
    pub fn with_base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = folder_url(url)?;
        Ok(self)
    }

    /// Reaches the host names below `workers.dev` elsewhere, each as the first part of a path below this URL: where an
    /// emulator of the API serves what was uploaded.
    pub fn with_workers_dev_url(mut self, url: &str) -> Result<Self> {
        self.workers_dev_url = Some(folder_url(url)?);
        Ok(self)
    }

    /// Another D1 database than `meta-mcp-db`, by name. Each has a registry of its own, and servers of its own.
    #[must_use]
    pub fn with_database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// Another Workers KV namespace than `META_MCP_KV`, by title.
    #[must_use]
    pub fn with_namespace(mut self, title: impl Into<String>) -> Self {
        self.namespace = title.into();
        self
    }

    /// Where the JavaScript toolchain is kept, which bundles the runtime.
    #[must_use]
    pub fn with_toolchain_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.toolchain_dir = Some(folder.into());
        self
    }

    /// Another patience with Cloudflare than the default of five attempts within a minute.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The account's id.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The token, for the `Authorization` header.
    pub fn api_token(&self) -> &SecretString {
        &self.api_token
    }

    /// The D1 database of the registry, by name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The Workers KV namespace of the cache, by title.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the JavaScript toolchain is kept: as configured, or below the user's cache folder.
    pub fn toolchain_folder(&self) -> Result<PathBuf> {
        match &self.toolchain_dir {
            Some(folder) => Ok(folder.clone()),
            None => Toolchain::default_folder(),
        }
    }

    /// How calls are repeated.
    pub fn retry(&self) -> RetryPolicy {
        self.retry
    }

    /// Where the host names below `workers.dev` are reached, if not at these.
    pub fn workers_dev_url(&self) -> Option<&Url> {
        self.workers_dev_url.as_ref()
    }

    /// The API's base URL, ending with `/`.
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }
}

impl fmt::Debug for CloudflareConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudflareConfig")
            .field("account_id", &self.account_id)
            .field("base_url", &self.base_url.as_str())
            .finish_non_exhaustive()
    }
}

/// A URL to put paths behind.
fn folder_url(url: &str) -> Result<Url> {
    let mut parsed = Url::parse(url).map_err(|error| invalid(format!("base URL {url:?}: {error}")))?;
    let loopback = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && loopback) {
        return Err(invalid(format!("base URL {url:?} would send credentials unencrypted")));
    }
    if !parsed.path().ends_with('/') {
        parsed.set_path(&format!("{}/", parsed.path()));
    }
    Ok(parsed)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn all_problems_are_named_at_once() {
        let error = CloudflareConfig::new("nope", "a b".into()).unwrap_err();
        assert!(error.message().contains("account id") && error.message().contains("token"), "{error}");
    }

    #[test]
    fn the_token_is_never_shown() {
        let config = CloudflareConfig::new(ACCOUNT, "s3cret-value".into()).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_base_url_without_encryption_is_refused_unless_it_is_loopback() {
        let config = CloudflareConfig::new(ACCOUNT, "token".into()).unwrap();
        assert!(config.clone().with_base_url("http://api.example.com").is_err());
        assert_eq!(config.with_base_url("http://127.0.0.1:9/v4").unwrap().base_url().path(), "/v4/");
    }
}
