//! Which addresses of others may be connected to: those of the public internet, by HTTPS. Checked where names become
//! addresses, so that a name cannot say one thing when it is looked at and another when it is dialled; redirects are
//! not followed at all.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::{Error, ErrorKind, Result};

/// Hosts that may be connected to though they are private or speak plain HTTP, as they stand in URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedHosts(BTreeSet<String>);

impl TrustedHosts {
    /// These hosts, without ports.
    pub fn new(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(hosts.into_iter().map(Into::into).collect())
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
        if url.host_str().is_some_and(|host| self.0.contains(host)) && matches!(url.scheme(), "http" | "https") {
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

static PUBLIC: LazyLock<reqwest::Client> =
    LazyLock::new(|| client(|builder| builder.https_only(true).dns_resolver(Arc::new(PublicOnly))));
static TRUSTED: LazyLock<reqwest::Client> = LazyLock::new(|| client(|builder| builder));

/// As for verifications: no idle connections, which would belong to the runtime that opened them. No proxy, which would
/// dial in our place.
fn client(change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Client {
    let builder = reqwest::Client::builder().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none());
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

/// Whether an address belongs to the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    // Only what is assigned to be routed, without the ranges that carry an IPv4 address or are for documentation.
    let [first, second, ..] = address.segments();
    let carries_v4 = first == 0x2002 || (first == 0x2001 && second == 0);
    (0x2000..0x4000).contains(&first) && !carries_v4 && !(first == 0x2001 && second == 0xdb8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_is_connected_to() {
        let trusted = TrustedHosts::new(["127.0.0.1"]);
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
        let local: Url = "http://127.0.0.1:9000/mcp".parse().unwrap();
        assert!(trusted.client_for(&local).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_dialled() {
        let error = PUBLIC.get("https://localhost:9/").send().await.unwrap_err();
        assert!(format!("{error:?}").contains("has no public address"), "{error:?}");
    }
}
