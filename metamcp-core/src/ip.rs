//! Which IP addresses belong to the public internet: asked wherever something is connected to for others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpBlock {
    first: IpAddr,
    prefix: u8,
}

/// What IANA keeps from the public internet (RFC 6890 and what came after it).
const SPECIAL_V4: [IpBlock; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];
/// Everything but `2000::/3`, the only part of IPv6 that is assigned to be routed; and what of that carries an IPv4
/// address (Teredo, 6to4) or is for documentation.
const SPECIAL_V6: [IpBlock; 7] = [
    v6([0, 0], 3),
    v6([0x4000, 0], 2),
    v6([0x8000, 0], 1),
    v6([0x2001, 0], 32),
    v6([0x2001, 0xdb8], 32),
    v6([0x2002, 0], 16),
    v6([0x3fff, 0], 20),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpBlock {
    IpBlock::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6([first, second]: [u16; 2], prefix: u8) -> IpBlock {
    IpBlock::new(IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix)
}

impl IpBlock {
    /// The block of that prefix length which begins at this address.
    pub(crate) const fn new(first: IpAddr, prefix: u8) -> Self {
        Self { first, prefix }
    }

    /// Whether the address is one of the block's.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (address, self.first) {
            (IpAddr::V4(address), IpAddr::V4(first)) => {
                (u32::from(address) ^ u32::from(first)).leading_zeros() >= prefix
            }
            (IpAddr::V6(address), IpAddr::V6(first)) => {
                (u128::from(address) ^ u128::from(first)).leading_zeros() >= prefix
            }
            _ => false,
        }
    }

    /// Whether every address of the other block is one of this block's.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    /// Whether every address of the block belongs to the public internet.
    pub(crate) fn is_public(self) -> bool {
        let apart = |special: &Self| !special.covers(self) && !self.covers(*special);
        match self.first {
            IpAddr::V4(_) => SPECIAL_V4.iter().all(apart),
            IpAddr::V6(_) => SPECIAL_V6.iter().all(apart),
        }
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The blocks of addresses that do not belong to the public internet.
pub(crate) fn private_blocks() -> impl Iterator<Item = IpBlock> {
    SPECIAL_V4.into_iter().chain(SPECIAL_V6)
}

/// Whether an address belongs to the public internet; an IPv4 address in IPv6 form is taken as what it is.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => IpBlock::new(address, 32).is_public(),
        address @ IpAddr::V6(_) => IpBlock::new(address, 128).is_public(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_routed_to_everybody_is_public() {
        let private = [
            "0.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff:1::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ];
        let public = ["8.8.8.8", "100.63.0.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "223.255.255.255"];
        let public_v6 = ["2606:4700::1111", "2001:4860::8888", "2a00::1", "::ffff:8.8.8.8"];
        for (addresses, expected) in [(&private[..], false), (&public[..], true), (&public_v6[..], true)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_block_is_public_if_nothing_in_it_is_private() {
        for (first, prefix, expected) in [
            ("0.0.0.0", 0, false),
            ("8.0.0.0", 7, true),
            ("8.0.0.0", 6, false),
            ("192.168.0.0", 24, false),
            ("192.0.0.0", 8, false),
            ("192.1.0.0", 16, true),
            ("::", 0, false),
            ("2000::", 3, false),
            ("2606:4700::", 32, true),
            ("2001::", 16, false),
        ] {
            let block = IpBlock::new(first.parse().unwrap(), prefix);
            assert_eq!(block.is_public(), expected, "{first}/{prefix}");
        }
    }
}
