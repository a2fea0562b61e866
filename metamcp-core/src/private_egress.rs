//! [`PrivateEgress`]: which private addresses definitions of callers may reach.

use crate::ip::IpBlock;
use crate::validate::{EgressRule, egress_rule};
use crate::{Error, ErrorKind, Result};

/// Addresses outside the public internet that may stand in the `egress` of definitions which come in through the MCP
/// server: loopback, private networks, cloud metadata. None, unless whoever runs the program names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateEgress(Vec<IpBlock>);

impl PrivateEgress {
    /// These addresses and blocks, in the form of `egress`: `10.0.0.7`, `192.168.0.0/16`, `fd00::/8`. Whoever may
    /// write servers and deploy them reaches everything that answers there.
    ///
    /// [`ErrorKind::ConfigInvalid`] for anything else, such as a name.
    pub fn new(blocks: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        blocks.into_iter().map(|block| parse(block.as_ref())).collect::<Result<_>>().map(Self)
    }

    /// Whether a definition of a caller may have this rule: names only ever lead to public addresses.
    pub fn allows(&self, rule: &EgressRule) -> bool {
        let EgressRule::Block { address, prefix } = rule else { return true };
        let block = IpBlock::new(*address, *prefix);
        block.is_public() || self.0.iter().any(|allowed| allowed.covers(block))
    }
}

fn parse(text: &str) -> Result<IpBlock> {
    match egress_rule(text) {
        Ok(EgressRule::Block { address, prefix }) => Ok(IpBlock::new(address, prefix)),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, format!("{text:?} is no address that can be allowed"))
            .with_help("name an IP address or a CIDR block, such as 10.0.0.7 or 192.168.0.0/16")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_has_to_be_within_what_is_allowed() {
        let allowed = PrivateEgress::new(["10.1.0.0/16", "::1"]).unwrap();
        for (rule, expected) in [
            ("api.example.com", true),
            ("8.8.8.8", true),
            ("10.1.2.3", true),
            ("10.1.128.0/17", true),
            ("10.0.0.0/8", false),
            ("0.0.0.0/0", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("[::1]", true),
            ("::/0", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.1.2.3", true),
            ("64:ff9b::/96", false),
        ] {
            assert_eq!(allowed.allows(&egress_rule(rule).unwrap()), expected, "{rule}");
        }
    }

    #[test]
    fn only_addresses_can_be_allowed() {
        for text in ["localhost", "example.com", "*", "", "10.0.0.1/8", "127.0.0.1:80"] {
            assert_eq!(PrivateEgress::new([text]).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{text}");
        }
    }
}
