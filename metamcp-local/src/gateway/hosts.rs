//! Which `Host` and `Origin` a request may have: a page in a browser must not reach servers on this machine by
//! a name of its own (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};

use crate::workerd::INTERNAL_HOST;

/// Names that requests may be sent to.
#[derive(Debug)]
pub(super) struct AllowedHosts(Vec<String>);

/// Loopback, the address listened on, what was configured, and the name used within this process.
pub(super) fn names(listening: Option<IpAddr>, configured: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["127.0.0.1", "localhost", "[::1]", INTERNAL_HOST].map(str::to_owned).into();
    let own = listening.filter(|address| !address.is_unspecified()).map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    // There are more loopback addresses than the usual ones.
    names.extend(own.filter(|own| !["127.0.0.1", "[::1]"].contains(&own.as_str())));
    names.extend(configured.iter().map(|name| name.to_ascii_lowercase()));
    names
}

impl AllowedHosts {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Refuses a request that was sent to another name, or by a page from elsewhere.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let host = single(headers, &header::HOST)?.ok_or("the request has no Host header")?;
        if !self.holds(host) {
            return Err(format!(
                "host {host:?} is not allowed; METAMCP_ALLOWED_HOSTS or LocalConfig::with_allowed_host adds it"
            ));
        }
        match single(headers, &header::ORIGIN)? {
            Some(origin) if !self.holds(origin.split_once("://").map_or("", |(_, host)| host)) => {
                Err(format!("origin {origin:?} is not allowed"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a host with or without port is one of them.
    fn holds(&self, host: &str) -> bool {
        let name = match host.rfind(':') {
            Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &host[..colon],
            _ => host,
        };
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("the request has more than one {name} header"));
    }
    value.to_str().map(Some).map_err(|_| format!("the {name} header is not text"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
        AllowedHosts::new(names(None, &["Build.Example".to_owned()])).check(&headers).is_ok()
    }

    #[test]
    fn loopback_and_configured_names_are_allowed_with_any_port() {
        for host in ["127.0.0.1:80", "localhost", "LOCALHOST:1", "[::1]:8080", "[::1]", "build.example:1"] {
            assert!(check(host, None), "{host}");
        }
        assert!(check("localhost", Some("http://localhost:6274")));
    }

    #[test]
    fn the_address_listened_on_is_allowed() {
        for (listening, host) in
            [("127.0.0.2", "127.0.0.2:80"), ("192.0.2.7", "192.0.2.7:80"), ("2001:db8::7", "[2001:db8::7]:80")]
        {
            let names = names(Some(listening.parse().unwrap()), &[]);
            assert!(AllowedHosts::new(names).holds(host), "{host}");
        }
        assert!(!AllowedHosts::new(names(Some("0.0.0.0".parse().unwrap()), &[])).holds("0.0.0.0:80"));
    }

    #[test]
    fn names_and_pages_from_elsewhere_are_refused() {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]"] {
            assert!(!check(host, None), "{host}");
        }
        for origin in ["http://evil.example", "null", "https://localhost.evil.example"] {
            assert!(!check("localhost", Some(origin)), "{origin}");
        }
    }
}
