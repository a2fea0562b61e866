//! A server's `egress` in the form in which the outbound Worker reads it.

use metamcp_core::{EgressLists, EgressRule};

/// The rules as JSON; `null` without rules, which is the public internet.
pub(super) fn rules(egress: Option<&[EgressRule]>) -> String {
    serde_json::to_string(&egress.map(EgressLists::from)).expect("plain data serializes to JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_sorted_by_how_they_are_compared() {
        let written = [
            EgressRule::Host("api.example.com".to_owned()),
            EgressRule::HostsBelow("example.org".to_owned()),
            EgressRule::Block { address: [10, 1, 0, 0].into(), prefix: 16 },
        ];
        let expected =
            r#"{"hosts":["api.example.com"],"below":["example.org"],"blocks":[{"bytes":[10,1,0,0],"prefix":16}]}"#;
        assert_eq!(rules(Some(&written)), expected);
        assert_eq!(rules(None), "null");
    }
}
