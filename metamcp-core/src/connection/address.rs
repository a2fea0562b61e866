//! Which addresses of others may be connected to: those of the public internet, by HTTPS. Checked where names become
//! addresses, so that a name cannot say one thing when it is looked at and another when it is dialled; redirects are
//! not followed at all.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::ip::is_public;
use crate::verify::refuse_redirects;
use crate::{Error, ErrorKind, Result};

/// Hosts that may be connected to though they are private or speak plain HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedHosts(Vec<TrustedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct TrustedHost {
    host: Host,
    /// `None` for every port.
    port: Option<u16>,
}

impl TrustedHosts {
    /// These hosts, each a name or address as it stands in URLs: `localhost`, `127.0.0.1:8080`, `[::1]:8080`. One
    /// without a port is trusted at every port. Only whoever runs the program should name them: a server at such a
    /// host can be reached by everybody who may connect external servers.
    ///
    /// [`ErrorKind::ConfigInvalid`] for anything else, such as a URL or a pattern.
    pub fn new(hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        hosts.into_iter().map(|host| TrustedHost::parse(host.as_ref())).collect::<Result<_>>().map(Self)
    }

    fn contain(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let same_port = |port: Option<u16>| port.is_none() || port == url.port_or_known_default();
        self.0.iter().any(|trusted| trusted.host == host && same_port(trusted.port))
    }

    /// The HTTP client that may connect to this URL.
    pub(super) fn client_for(&self, url: &Url) -> Result<&'static reqwest::Client> {
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        if has_credentials || url.query().is_some() || url.fragment().is_some() {
            // It is stored, and shown to everybody who may read the server.
            let message = "the URL of an external server may have neither credentials nor a query or fragment in it";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("servers that need credentials cannot be connected yet"));
        }
        if self.contain(url) && matches!(url.scheme(), "http" | "https") {
            return Ok(&TRUSTED);
        }
        let problem = match url.host() {
            _ if url.scheme() != "https" => "is not HTTPS",
            Some(Host::Ipv4(address)) if !is_public(address.into()) => "is a private address",
            Some(Host::Ipv6(address)) if !is_public(address.into()) => "is a private address",
            None => "has no host",
            Some(_) => return Ok(&PUBLIC),
        };
        let message = format!("the URL {problem}, and its host is not trusted");
        Err(Error::new(ErrorKind::PermissionDenied, message)
            .with_help("connect to a public HTTPS server, or have the operator trust the host"))
    }
}

impl TrustedHost {
    fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(ErrorKind::ConfigInvalid, format!("{text:?} is no host that can be trusted"))
                .with_help("name one host as it stands in URLs, such as localhost or 127.0.0.1:8080")
        };
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an address in brackets are its own.
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| invalid())?)),
            _ => (text, None),
        };
        let host = Host::parse(host).map_err(|_| invalid())?;
        // A pattern is a name to the parser, and would trust nothing that anybody means.
        let names_one = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        match &host {
            Host::Domain(name) if !names_one(name) => Err(invalid()),
            _ => Ok(Self { host, port }),
        }
    }
}

static PUBLIC: LazyLock<reqwest::Client> =
    LazyLock::new(|| client(|builder| builder.https_only(true).dns_resolver(Arc::new(PublicOnly))));
static TRUSTED: LazyLock<reqwest::Client> = LazyLock::new(|| client(|builder| builder));

/// As for verifications: no idle connections, which would belong to the runtime that opened them. No proxy, which would
/// dial in our place.
fn client(change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Client {
    let builder = reqwest::Client::builder().pool_max_idle_per_host(0).redirect(refuse_redirects());
    change(builder.no_proxy()).build().expect("a client without certificates of its own can be made")
}

/// The system's resolver, without private addresses.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_is_connected_to() {
        for (url, allowed) in [
            ("https://example.com/mcp", true),
            ("http://example.com/mcp", false),
            ("https://user:secret@example.com/mcp", false),
            ("https://10.0.0.1/mcp", false),
            ("https://169.254.169.254/latest", false),
            ("https://100.64.0.1/", false),
            ("https://0x7f.1/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://[fd00::1]/", false),
            ("https://[64:ff9b::7f00:1]/", false),
            ("https://[2002:7f00:1::]/", false),
            ("https://8.8.8.8/", true),
            ("https://[2606:4700::1111]/", true),
            ("http://127.0.0.1:9000/mcp", false),
            ("file:///etc/passwd", false),
        ] {
            let parsed: Url = url.parse().unwrap();
            assert_eq!(TrustedHosts::default().client_for(&parsed).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn hosts_are_trusted_as_they_are_named_and_no_others() {
        let trusted = TrustedHosts::new(["127.0.0.1:9000", "Local.test", "[::1]:80"]).unwrap();
        for (url, allowed) in [
            ("http://127.0.0.1:9000/mcp", true),
            ("https://127.0.0.1:9000/mcp", true),
            ("http://127.0.0.1:9001/mcp", false),
            ("http://127.0.0.1/mcp", false),
            ("http://local.test/mcp", true),
            ("http://local.test:81/mcp", true),
            ("http://not.local.test/mcp", false),
            ("http://local.test.example.com/mcp", false),
            ("http://[::1]/mcp", true),
            ("http://[::1]:81/mcp", false),
            ("ftp://local.test/mcp", false),
        ] {
            assert_eq!(trusted.client_for(&url.parse().unwrap()).is_ok(), allowed, "{url}");
        }
        for host in [
            "",
            "http://localhost",
            "localhost:",
            "localhost:99999",
            "*",
            "a b",
            "localhost/mcp",
            "me@localhost",
            "::1",
        ] {
            assert_eq!(TrustedHosts::new([host]).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_dialled() {
        let error = PUBLIC.get("https://localhost:9/").send().await.unwrap_err();
        assert!(format!("{error:?}").contains("has no public address"), "{error:?}");
    }
}
