//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, Parser, ValueEnum};
use metamcp_core::server::{Authentication, HttpConfig, OAuthConfig};
use metamcp_core::{EnvName, PrivateEgress, SecretString, TrustedHosts, Url};
use metamcp_local::LocalConfig;

/// Meta-MCP as an MCP server: with its tools an agent makes, tests, deploys, calls and removes MCP servers.
#[derive(Debug, Parser)]
#[command(name = "meta_mcp_server", version, group = ArgGroup::new("transport").required(true))]
pub(crate) struct Options {
    /// Serve the program that starts this one, over standard input and output
    #[arg(long, group = "transport")]
    stdio: bool,
    /// Serve clients over HTTP at this address; port 0 takes a free one, MCP is at /mcp
    #[arg(long, value_name = "ADDRESS:PORT", group = "transport")]
    http: Option<SocketAddr>,
    /// Ask for no key: whoever reaches the address, a loopback one, may do everything
    #[arg(long, requires = "http")]
    no_key: bool,
    /// Accept this `Host` name as well, such as that of a proxy in front; may be repeated
    #[arg(long, value_name = "HOST", requires = "http")]
    allow_host: Vec<String>,
    /// Let web pages of this origin use it, such as `https://app.example.com`; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    allow_origin: Vec<String>,
    /// Requests that each key may make in a minute [default: 1200]
    #[arg(long, value_name = "NUMBER", requires = "http")]
    requests_per_minute: Option<NonZeroU32>,
    /// Requests of each key that may be in flight at once [default: 64]
    #[arg(long, value_name = "NUMBER", requires = "http")]
    requests_at_once: Option<NonZeroU32>,
    /// Accept access tokens of this OAuth issuer besides API keys
    #[arg(long, value_name = "URL", requires = "http")]
    oauth_issuer: Option<String>,
    /// URL of /mcp as clients see it, behind a proxy [default: where it listens]
    #[arg(long, value_name = "URL", requires = "oauth_issuer")]
    public_url: Option<Url>,
    /// Audience that tokens must have [default: the public URL]
    #[arg(long, value_name = "NAME", requires = "oauth_issuer")]
    oauth_audience: Option<String>,
    /// Accept scopes of tokens only with the prefix `metamcp:`
    #[arg(long, requires = "oauth_issuer")]
    oauth_prefixed_scopes: bool,
    /// Environment variable whose value `set_secret` may give to servers; may be repeated
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Vec<String>,
    /// Host of external MCP servers that may be private or speak plain HTTP; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    trust_host: Vec<String>,
    /// Private address that servers may name in their `egress`; may be repeated
    #[arg(long, value_name = "ADDRESS|CIDR")]
    allow_private: Vec<String>,
    /// Folder for local servers and their data [default: `METAMCP_DATA_DIR`, or `metamcp` in the user's data folder]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where servers run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,
}

/// Where servers run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// On this machine.
    #[default]
    Local,
    /// On the account that `CLOUDFLARE_ACCOUNT_ID` and `CLOUDFLARE_API_TOKEN` name.
    Cloudflare,
}

impl Options {
    /// What this program was started with; ends it with a message where that makes no sense.
    pub(crate) fn read() -> Self {
        let options = Self::parse();
        if options.stdio && options.is_about_http() {
            let message =
                "--stdio serves the program that starts this one: options for keys, tokens and hosts need --http";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        if options.backend == Backend::Cloudflare && options.data_dir.is_some() {
            let message = "--data-dir is for servers on this machine: leave it out with --backend cloudflare";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        options
    }

    fn is_about_http(&self) -> bool {
        let limits = self.requests_per_minute.or(self.requests_at_once).is_some();
        let names = !self.allow_host.is_empty() || !self.allow_origin.is_empty();
        self.no_key || limits || names || self.oauth_issuer.is_some()
    }

    /// How HTTP is served; `None` for standard input and output.
    pub(crate) fn http(&self) -> Option<HttpConfig> {
        let authentication = if self.no_key { Authentication::None } else { Authentication::ApiKeys };
        let mut config = HttpConfig::new().with_listen(self.http?).with_authentication(authentication);
        if let Some(requests) = self.requests_per_minute {
            config = config.with_requests_per_minute(requests);
        }
        if let Some(requests) = self.requests_at_once {
            config = config.with_requests_at_once(requests);
        }
        if let Some(oauth) = self.oauth() {
            config = config.with_oauth(oauth);
        }
        config = self.allow_host.iter().fold(config, HttpConfig::with_allowed_host);
        Some(self.allow_origin.iter().fold(config, HttpConfig::with_allowed_origin))
    }

    fn oauth(&self) -> Option<OAuthConfig> {
        let mut config = OAuthConfig::new(self.oauth_issuer.as_ref()?);
        config.resource.clone_from(&self.public_url);
        config.audience.clone_from(&self.oauth_audience);
        config.prefixed_scopes = self.oauth_prefixed_scopes;
        Some(config)
    }

    /// What `set_secret` may take from the environment.
    pub(crate) fn secrets(&self) -> Result<Vec<(EnvName, SecretString)>, String> {
        let read = |name: &String| {
            let parsed = name.parse::<EnvName>().map_err(|error| format!("--secret-env {name:?}: {error}"))?;
            let value = std::env::var(name).map_err(|_| format!("--secret-env {name}: it is not set, or no text"))?;
            Ok((parsed, value.into()))
        };
        self.secret_env.iter().map(read).collect()
    }

    pub(crate) fn trusted_hosts(&self) -> metamcp_core::Result<TrustedHosts> {
        TrustedHosts::new(&self.trust_host)
    }

    pub(crate) fn private_egress(&self) -> metamcp_core::Result<PrivateEgress> {
        PrivateEgress::new(&self.allow_private)
    }

    /// The environment's configuration, with the command line's before it.
    pub(crate) fn config(&self) -> metamcp_core::Result<LocalConfig> {
        let mut config = LocalConfig::from_env()?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn private_addresses_are_allowed_by_address_only() {
        let allowed = |address: &str| {
            let line = ["meta_mcp_server", "--stdio", "--allow-private", "fd00::/8", "--allow-private", address];
            Options::try_parse_from(line).unwrap().private_egress()
        };
        assert_eq!(allowed("10.0.0.7").unwrap(), PrivateEgress::new(["fd00::/8", "10.0.0.7"]).unwrap());
        assert!(allowed("localhost").is_err());
    }
}
