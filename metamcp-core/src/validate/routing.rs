//! The options of the template `routing`, as far as its schema cannot check them: where upstreams are, and with which
//! secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::egress;
use super::environment::Distinct;
use super::problems::{Path, Problems, did_you_mean, quote};
use super::valid::EgressRule;
use crate::definition::ServerDefinition;
use crate::ip::{IpBlock, is_public};

/// Headers that belong to HTTP and MCP; those that begin with `mcp-` do too.
const RESERVED: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Deserialize)]
struct Options {
    upstreams: Vec<Upstream>,
}

#[derive(Deserialize)]
struct Upstream {
    name: String,
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    url: String,
    headers: BTreeMap<String, Header>,
}

#[derive(Deserialize)]
struct Header {
    secret: String,
}

/// Checks options that their schema found good.
pub(super) fn check(path: &Path, options: &Map<String, Value>, definition: &ServerDefinition, problems: &mut Problems) {
    let Ok(Options { upstreams }) = serde_json::from_value(Value::Object(options.clone())) else { return };
    // A rule that cannot be read is a problem of its own, and hides what it would allow.
    let rules = definition.egress.as_ref().map(|rules| rules.iter().map(|text| egress::rule(text)).collect());
    let reach = match rules {
        None => Reach::Public,
        Some(Ok(rules)) => Reach::Rules(rules),
        Some(Err(_)) => Reach::Unknown,
    };
    let mut names = Distinct::new("upstream name");
    for (index, upstream) in upstreams.iter().enumerate() {
        let path = path.key("upstreams").index(index);
        names.check(&path.key("name"), upstream.name.clone(), &upstream.name, problems);
        for (index, replica) in upstream.replicas.iter().enumerate() {
            let path = path.key("replicas").index(index);
            if let Err(message) = check_url(&replica.url, &reach) {
                problems.add(&path.key("url"), message);
            }
            check_headers(&path.key("headers"), &replica.headers, &definition.secrets, problems);
        }
    }
}

/// Where the server may connect to.
enum Reach {
    Public,
    Rules(Vec<EgressRule>),
    Unknown,
}

impl Reach {
    fn allows_name(&self, name: &str) -> bool {
        let Self::Rules(rules) = self else { return true };
        rules.iter().any(|rule| match rule {
            EgressRule::Host(host) => host == name,
            EgressRule::HostsBelow(above) => {
                name.strip_suffix(above.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            }
            EgressRule::Block { .. } => false,
        })
    }

    fn allows_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Rules(rules) => rules.iter().any(|rule| match rule {
                EgressRule::Block { address: first, prefix } => IpBlock::new(*first, *prefix).contains(address),
                EgressRule::Host(_) | EgressRule::HostsBelow(_) => false,
            }),
            Self::Unknown => true,
        }
    }
}

fn check_url(text: &str, reach: &Reach) -> Result<(), String> {
    let example = "write one such as \"https://mcp.example.com/mcp\"";
    let url = Url::parse(text).map_err(|error| format!("{} is no URL ({error}); {example}", quote(text)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{} is no URL of HTTP; {example}", quote(text)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; name a secret under `headers` instead".to_owned());
    }
    if url.fragment().is_some() {
        return Err(format!("{} has a fragment, which is never sent; remove it", quote(text)));
    }
    match url.host() {
        Some(Host::Domain(name)) => check_name(name.trim_end_matches('.'), url.scheme(), reach),
        Some(Host::Ipv4(address)) => check_address(address.into(), url.scheme(), reach),
        Some(Host::Ipv6(address)) => check_address(IpAddr::from(address).to_canonical(), url.scheme(), reach),
        None => Err(format!("{} names no host; {example}", quote(text))),
    }
}

fn check_name(name: &str, scheme: &str, reach: &Reach) -> Result<(), String> {
    egress::rule(name)?;
    if scheme == "http" {
        return Err("is plain HTTP, which only a private address may be reached by; write https".to_owned());
    }
    if reach.allows_name(name) {
        return Ok(());
    }
    Err(format!("{} is not in `egress`, so the server could not connect to it; add it there", quote(name)))
}

fn check_address(address: IpAddr, scheme: &str, reach: &Reach) -> Result<(), String> {
    if scheme == "http" && is_public(address) {
        return Err("is plain HTTP, which only a private address may be reached by; write https".to_owned());
    }
    if reach.allows_address(address) {
        return Ok(());
    }
    let text = address.to_string();
    Err(format!("{} is not in `egress`, where an address has to stand; add it there", quote(&text)))
}

fn check_headers(path: &Path, headers: &BTreeMap<String, Header>, secrets: &[String], problems: &mut Problems) {
    let mut names = Distinct::new("header");
    for (name, Header { secret }) in headers {
        let path = path.key(name);
        match HeaderName::try_from(name.as_str()) {
            Err(_) => {
                problems.add(&path, format!("{} is no name of a header; for example \"Authorization\"", quote(name)));
            }
            Ok(known) if RESERVED.contains(&known.as_str()) || known.as_str().starts_with("mcp-") => {
                problems.add(&path, format!("{} is a header of the protocol itself; remove it", quote(name)));
            }
            Ok(known) => names.check(&path, known.as_str().to_owned(), name, problems),
        }
        if !secrets.contains(secret) {
            let near = did_you_mean(secret, secrets.iter().map(String::as_str));
            let message = format!("secret {} is not declared{near}; add it to `secrets`", quote(secret));
            problems.add(&path.key("secret"), message);
        }
    }
}
