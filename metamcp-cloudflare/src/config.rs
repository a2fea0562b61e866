//! [`CloudflareConfig`]: the account, its token and what is used in it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use url::Url;

use crate::containers::ContainerManagerConfig;

/// Cloudflare's REST API.
const DEFAULT_BASE_URL: &str = "https://api.cloudflare.com/client/v4/";

/// The registry's D1 database.
const DEFAULT_DATABASE: &str = "meta-mcp-db";
/// The cache's Workers KV namespace.
const DEFAULT_NAMESPACE: &str = "META_MCP_KV";

/// How long a request for a server's logs listens to them.
const DEFAULT_LOG_WINDOW: Duration = Duration::from_secs(10);

/// How long a change may take to arrive at Cloudflare's edge. It promises no time; the first request to a new host name
/// fails for seconds, and a deployment takes some to be everywhere:
/// <https://developers.cloudflare.com/workers/configuration/routing/workers-dev/>,
/// <https://developers.cloudflare.com/workers/configuration/versions-and-deployments/>
const DEFAULT_SETTLE_TIME: Duration = Duration::from_secs(30);

/// Account, token and base URL of Cloudflare's API.
///
/// ```
/// use metamcp_cloudflare::CloudflareConfig;
/// use metamcp_core::SecretString;
///
/// let token = SecretString::from("an-api-token");
/// let config = CloudflareConfig::new("0123456789abcdef0123456789abcdef", token)?
///     .with_database("meta-mcp-staging")
///     .with_dispatch_namespace("staging")?;
/// assert_eq!(config.database(), "meta-mcp-staging");
/// # Ok::<(), metamcp_core::Error>(())
/// ```
///
/// The token needs Workers Scripts Edit, Workers KV Storage Edit, D1 Edit and Account Settings Read; for the logs of
/// servers Workers Tail Read; and to deploy a Container Manager Containers Edit.
#[derive(Clone)]
pub struct CloudflareConfig {
    account_id: String,
    api_token: SecretString,
    base_url: Url,
    workers_dev_url: Option<Url>,
    retry: RetryPolicy,
    database: String,
    namespace: String,
    placement: Placement,
    log_window: Duration,
    settle_time: Duration,
    toolchain_dir: Option<PathBuf>,
    container_manager: Option<ContainerManagerConfig>,
}

/// Where servers are published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Placement {
    /// Each as a script of the account, at `https://<server>.<subdomain>.workers.dev/mcp`.
    #[default]
    AccountScripts,
    /// All in one dispatch namespace (Workers for Platforms), at
    /// `https://<namespace>-dispatcher.<subdomain>.workers.dev/<server>/mcp`. Only there `egress` is enforced.
    DispatchNamespace(String),
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccountScripts => f.write_str("the account's scripts"),
            Self::DispatchNamespace(name) => write!(f, "dispatch namespace {name}"),
        }
    }
}

/// How often and for how long a failed call to Cloudflare is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Most attempts of one call, including the first.
    pub attempts: u32,
    /// Time from the first attempt after which no further one begins.
    pub total: Duration,
}

impl RetryPolicy {
    /// At most so many attempts, the first included, none of which begins later than `total` after the first.
    pub fn new(attempts: u32, total: Duration) -> Self {
        Self { attempts, total }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new(5, Duration::from_secs(60))
    }
}

impl CloudflareConfig {
    /// Configures an account (32 hexadecimal digits) and its token. [`ErrorKind::ConfigInvalid`] names every problem.
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
                placement: Placement::default(),
                log_window: DEFAULT_LOG_WINDOW,
                settle_time: DEFAULT_SETTLE_TIME,
                toolchain_dir: None,
                container_manager: None,
            })
        } else {
            Err(invalid(problems.join("; ")))
        }
    }

    /// Reads `CLOUDFLARE_ACCOUNT_ID`, `CLOUDFLARE_API_TOKEN` and, if set, `CLOUDFLARE_DISPATCH_NAMESPACE`
    /// ([`Self::with_dispatch_namespace`]), `METAMCP_TOOLCHAIN_DIR` (where the JavaScript toolchain is kept) and
    /// `CLOUDFLARE_API_BASE_URL` and `METAMCP_WORKERS_DEV_URL`, which are for an emulator
    /// ([`Self::with_workers_dev_url`]). `CLOUDFLARE_CONTAINER_MANAGER_URL` and `CLOUDFLARE_CONTAINER_MANAGER_KEY` name
    /// the Container Manager that builds servers with npm packages.
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
        config.container_manager =
            container_manager(read("CLOUDFLARE_CONTAINER_MANAGER_URL"), read("CLOUDFLARE_CONTAINER_MANAGER_KEY"))?;
        if let Some(name) = read("CLOUDFLARE_DISPATCH_NAMESPACE") {
            config = config.with_dispatch_namespace(name)?;
        }
        let config = match read("CLOUDFLARE_API_BASE_URL") {
            Some(url) => config.with_base_url(&url)?,
            None => config,
        };
        match read("METAMCP_WORKERS_DEV_URL") {
            Some(url) => config.with_workers_dev_url(&url),
            None => Ok(config),
        }
    }

    /// Sets the API's base URL, for an emulator. Plain `http` is accepted for loopback addresses only.
    pub fn with_base_url(mut self, url: &str) -> Result<Self> {
        self.base_url = folder_url(url)?;
        Ok(self)
    }

    /// Sets a URL that stands for `workers.dev`, for an emulator: a host name below `workers.dev` becomes the first
    /// segment of a path below this URL.
    pub fn with_workers_dev_url(mut self, url: &str) -> Result<Self> {
        self.workers_dev_url = Some(folder_url(url)?);
        Ok(self)
    }

    /// Sets the name of the registry's D1 database; default `meta-mcp-db`. Each database has its own servers.
    #[must_use]
    pub fn with_database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// Sets the title of the cache's Workers KV namespace; default `META_MCP_KV`.
    #[must_use]
    pub fn with_namespace(mut self, title: impl Into<String>) -> Self {
        self.namespace = title.into();
        self
    }

    /// Sets the Container Manager that builds servers with npm packages and provides environments.
    #[must_use]
    pub fn with_container_manager(mut self, manager: ContainerManagerConfig) -> Self {
        self.container_manager = Some(manager);
        self
    }

    /// Sets a dispatch namespace to publish into, instead of scripts of the account; it is created if it does not exist.
    /// One namespace serves one database. A server stays where it was published: remove the servers before you change
    /// this, or opening is [`ErrorKind::ConfigInvalid`].
    ///
    /// [`ErrorKind::ConfigInvalid`] unless the name has 1 to 50 lower-case letters, digits and `-` and begins with a
    /// letter, since it is part of a host name.
    pub fn with_dispatch_namespace(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if !begins || name.len() > 50 || !name.bytes().all(allowed) {
            return Err(invalid(format!("dispatch namespace {name:?} cannot be part of a host name"))
                .with_help("use 1 to 50 lower-case letters, digits and `-`, beginning with a letter"));
        }
        self.placement = Placement::DispatchNamespace(name);
        Ok(self)
    }

    /// Sets how long a request for a server's logs listens to them; default ten seconds, at most a minute. Cloudflare
    /// keeps no earlier ones.
    #[must_use]
    pub fn with_log_window(mut self, window: Duration) -> Self {
        self.log_window = window.min(Duration::from_secs(60));
        self
    }

    /// Sets the time for which a version that was uploaded or made live may go on answering as if it had not been, before
    /// that counts against it: 30 seconds by default, at most five minutes.
    #[must_use]
    pub fn with_settle_time(mut self, time: Duration) -> Self {
        self.settle_time = time.min(Duration::from_secs(300));
        self
    }

    /// Sets the folder of the JavaScript toolchain, which bundles the runtime.
    #[must_use]
    pub fn with_toolchain_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.toolchain_dir = Some(folder.into());
        self
    }

    /// Sets how failed calls are repeated; default five attempts within a minute.
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

    /// How long a request for a server's logs listens to them.
    pub fn log_window(&self) -> Duration {
        self.log_window
    }

    /// How long a change may take to be seen.
    pub fn settle_time(&self) -> Duration {
        self.settle_time
    }

    /// Where servers are published.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Where the JavaScript toolchain is kept: as configured, or below the user's cache folder.
    pub fn toolchain_folder(&self) -> Result<PathBuf> {
        match &self.toolchain_dir {
            Some(folder) => Ok(folder.clone()),
            None => Toolchain::default_folder(),
        }
    }

    /// The Container Manager, if there is one.
    pub fn container_manager(&self) -> Option<&ContainerManagerConfig> {
        self.container_manager.as_ref()
    }

    /// How failed calls are repeated.
    pub fn retry(&self) -> RetryPolicy {
        self.retry
    }

    /// The URL that stands for `workers.dev`, if one is set.
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

fn container_manager(url: Option<String>, key: Option<String>) -> Result<Option<ContainerManagerConfig>> {
    match (url, key) {
        (None, None) => Ok(None),
        (Some(url), Some(key)) => ContainerManagerConfig::new(&url, key.into()).map(Some),
        (Some(_), None) => Err(invalid("CLOUDFLARE_CONTAINER_MANAGER_KEY is not set".to_owned())),
        (None, Some(_)) => Err(invalid("CLOUDFLARE_CONTAINER_MANAGER_URL is not set".to_owned())),
    }
}

/// A URL to put paths behind.
pub(crate) fn folder_url(url: &str) -> Result<Url> {
    let mut parsed = Url::parse(url).map_err(|error| invalid(format!("base URL {url:?}: {error}")))?;
    if !is_protected(&parsed) {
        return Err(invalid(format!("base URL {url:?} would send credentials unencrypted")));
    }
    if !parsed.path().ends_with('/') {
        parsed.set_path(&format!("{}/", parsed.path()));
    }
    Ok(parsed)
}

/// Whether nobody between here and there reads what is sent.
pub(crate) fn is_protected(url: &Url) -> bool {
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
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
    fn a_container_manager_needs_url_and_key() {
        let url = || Some("https://manager.example.workers.dev".to_owned());
        assert!(container_manager(None, None).unwrap().is_none());
        assert!(container_manager(url(), Some("key".to_owned())).unwrap().is_some());
        assert!(container_manager(url(), None).unwrap_err().message().contains("_KEY"));
        assert!(container_manager(None, Some("key".to_owned())).unwrap_err().message().contains("_URL"));
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
