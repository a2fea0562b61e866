//! [`EgressLists`]: a server's `egress` as the Workers that enforce it read it.

use std::net::IpAddr;

use serde::Serialize;

use crate::ip::private_blocks;
use crate::validate::EgressRule;

/// The rules of `egress`, sorted by how a host is compared with them. Serializes to what a gate Worker looks hosts up
/// in; the absence of rules (`null`) is the public internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EgressLists<'a> {
    /// Exactly these host names.
    pub hosts: Vec<&'a str>,
    /// Every host name below these.
    pub below: Vec<&'a str>,
    /// Every address of these blocks.
    pub blocks: Vec<EgressBlock>,
}

impl EgressLists<'_> {
    /// Source of the JavaScript module that compares hosts with the lists: `addressOf`, `isWithin` and `isNamed`.
    pub const MATCHER: &'static str = include_str!("egress_lists/matcher.js");

    /// The addresses that are reached only if a rule names them, as CIDR blocks: all that is not the public internet.
    /// IPv4 addresses in IPv6 form (`::ffff:0:0/96`) are among them.
    pub fn private_blocks() -> impl Iterator<Item = String> {
        private_blocks().map(|block| block.to_string())
    }
}

/// A block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EgressBlock {
    /// The first address's bytes: 4, or 16.
    pub bytes: Vec<u8>,
    /// Number of leading bits that are fixed.
    pub prefix: u8,
}

impl<'a> From<&'a [EgressRule]> for EgressLists<'a> {
    fn from(rules: &'a [EgressRule]) -> Self {
        let mut lists = Self { hosts: Vec::new(), below: Vec::new(), blocks: Vec::new() };
        for rule in rules {
            match rule {
                EgressRule::Host(host) => lists.hosts.push(host),
                EgressRule::HostsBelow(host) => lists.below.push(host),
                EgressRule::Block { address, prefix } => {
                    let bytes = match address {
                        IpAddr::V4(address) => address.octets().to_vec(),
                        IpAddr::V6(address) => address.octets().to_vec(),
                    };
                    lists.blocks.push(EgressBlock { bytes, prefix: *prefix });
                }
            }
        }
        lists
    }
}
