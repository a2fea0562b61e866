//! Where a server may connect to: host names, addresses and blocks.

use std::net::IpAddr;

use url::Host;

use super::problems::{Path, Problems, quote};
use super::valid::EgressRule;

/// Most rules of one server.
const RULES: usize = 256;
/// Endings of host names that never name a public host.
const PRIVATE_ENDINGS: &[&str] = &["localhost", "local", "internal", "lan", "home", "corp", "intranet", "home.arpa"];

/// The rules of a server, each problem noted.
pub(super) fn rules(path: &Path, written: &[String], problems: &mut Problems) -> Vec<EgressRule> {
    if written.len() > RULES {
        problems.add(path, format!("has {} entries; at most {RULES} are allowed", written.len()));
        return Vec::new();
    }
    let parsed = written.iter().enumerate().filter_map(|(index, text)| match rule(text) {
        Ok(rule) => Some(rule),
        Err(message) => {
            problems.add(&path.index(index), message);
            None
        }
    });
    parsed.collect()
}

/// One rule, or what is wrong with it.
pub(crate) fn rule(text: &str) -> Result<EgressRule, String> {
    if let Some((address, prefix)) = text.split_once('/')
        && let Ok(address) = address.parse()
    {
        return block(text, address, prefix);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok(EgressRule::Block { address, prefix: bits(address) });
    }
    match text.strip_prefix("*.") {
        Some(below) => host(below).map(EgressRule::HostsBelow),
        None => host(text).map(EgressRule::Host),
    }
}

fn block(text: &str, address: IpAddr, prefix: &str) -> Result<EgressRule, String> {
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse::<u8>().ok().filter(|prefix| digits && *prefix <= bits(address));
    let Some(prefix) = prefix else {
        return Err(format!("{} has no prefix length of 0 to {}", quote(text), bits(address)));
    };
    if address.to_canonical() != address {
        return Err(format!("{} is an IPv4 address in IPv6 form; write the IPv4 block", quote(text)));
    }
    let first = first_address(address, prefix);
    if first == address {
        Ok(EgressRule::Block { address, prefix })
    } else {
        Err(format!("{} has bits set behind its prefix; write \"{first}/{prefix}\"", quote(text)))
    }
}

/// A public host name in the form in which it is compared: lower case, Punycode.
fn host(text: &str) -> Result<String, String> {
    let hint = "write a host (\"api.example.com\", \"*.example.com\"), an IP address or a CIDR block";
    if let Some(name) =
        url::Url::parse(text).ok().filter(url::Url::has_host).and_then(|url| url.host().map(|h| h.to_string()))
    {
        return Err(format!("{} is a URL; write only its host: {name:?}", quote(text)));
    }
    if text.is_empty()
        || text.contains([':', '/', '*', '%', '@'])
        || text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(format!("{} is no host; {hint}, without port and path", quote(text)));
    }
    let name = match Host::parse(text) {
        Ok(Host::Domain(name)) => name,
        Ok(address) => return Err(format!("{} is the address {address} in disguise; write that", quote(text))),
        Err(error) => return Err(format!("{} is no host ({error}); {hint}", quote(text))),
    };
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    let label = |label: &str| {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (1..=63).contains(&label.len()) && allowed && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{} is no host; {hint}", quote(text)));
    }
    let is_private = PRIVATE_ENDINGS.iter().any(|ending| name == *ending || name.ends_with(&format!(".{ending}")));
    if is_private {
        return Err(format!("{} names a private host; write its IP address, such as \"127.0.0.1\"", quote(text)));
    }
    Ok(name)
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn first_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_addresses_and_blocks_are_told_apart() {
        let block = |address: &str, prefix| Ok(EgressRule::Block { address: address.parse().unwrap(), prefix });
        assert_eq!(rule("API.Example.com"), Ok(EgressRule::Host("api.example.com".to_owned())));
        assert_eq!(rule("*.example.com"), Ok(EgressRule::HostsBelow("example.com".to_owned())));
        assert_eq!(rule("10.0.0.7"), block("10.0.0.7", 32));
        assert_eq!(rule("::1"), block("::1", 128));
        assert_eq!(rule("[::1]"), block("::1", 128));
        assert_eq!(rule("::ffff:10.0.0.7"), block("10.0.0.7", 32));
        assert_eq!(rule("10.0.0.0/8"), block("10.0.0.0", 8));
        assert_eq!(rule("0.0.0.0/0"), block("0.0.0.0", 0));
        assert_eq!(rule("fd00::/8"), block("fd00::", 8));
    }

    #[test]
    fn what_is_no_public_host_is_refused() {
        let refused = [
            "",
            "*",
            "*.",
            "https://example.com",
            "example.com:443",
            "example.com/x",
            "a b",
            "localhost",
            "db.internal",
            "x.localhost.",
            "*.local",
            "0x7f.1",
            "2130706433",
            "127.1",
            "10.1.2.3/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::ffff:10.0.0.0/104",
            "-a.com",
            "a..com",
            "user@example.com",
            "*.*.com",
            "exa\u{202e}mple.com",
            "%6cocalhost",
            "LOCALHOST",
            "ｌｏｃａｌｈｏｓｔ",
        ];
        for text in refused {
            assert!(rule(text).is_err(), "{text:?}: {:?}", rule(text));
        }
    }
}
