//! Whether a request means this server. What stands at `/mcp` checks the same by itself.

use http::uri::Authority;
use http::{HeaderMap, header};

/// Whether `Host` is one of these names, which may have a port. A web page whose own name was made to lead to this
/// address says that name.
pub(super) fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    host.is_some_and(|host| allowed.iter().any(|allowed| matches(allowed, &host)))
}

fn matches(allowed: &str, host: &Authority) -> bool {
    let (name, port) = match allowed.parse::<Authority>() {
        Ok(allowed) => (bare(allowed.host()).to_owned(), allowed.port_u16()),
        // An IPv6 address without brackets is none.
        Err(_) => (allowed.to_owned(), None),
    };
    name.eq_ignore_ascii_case(bare(host.host())) && port.is_none_or(|port| host.port_u16() == Some(port))
}

fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_server_are_its_own() {
        let allowed = ["localhost", "127.0.0.1", "::1", "mcp.example.com:8443"].map(str::to_owned);
        for (host, expected) in [
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("[::1]:8080", true),
            ("mcp.example.com:8443", true),
            ("mcp.example.com", false),
            ("evil.example.com", false),
            ("localhost.example.com", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            assert_eq!(is_allowed(&headers, &allowed), expected, "{host}");
        }
        assert!(!is_allowed(&HeaderMap::new(), &allowed));
    }
}
