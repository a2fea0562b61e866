//! Who calls, and what that caller may do.

use std::collections::BTreeSet;

use crate::keys::Scope;
use crate::name::ServerName;
use crate::registry::ApiKeyRecord;

/// Who calls, for the audit log, and what that caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    actor: String,
    scopes: BTreeSet<Scope>,
    /// Patterns of server names; empty for all.
    servers: Vec<String>,
}

impl Access {
    /// Everything, for a caller that is trusted: whoever started the process, or the embedding program.
    pub fn full(actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), scopes: Scope::ALL.iter().copied().collect(), servers: Vec::new() }
    }

    /// Some scopes, on all servers.
    pub fn with_scopes(actor: impl Into<String>, scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self { actor: actor.into(), scopes: scopes.into_iter().collect(), servers: Vec::new() }
    }

    /// What a key allows. A scope that this version does not know allows nothing.
    pub fn of_key(key: &ApiKeyRecord) -> Self {
        let scopes = key.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
        Self { actor: format!("key {} ({})", key.name, key.id), scopes, servers: key.servers.clone() }
    }

    /// Who calls.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether this scope is granted; `admin` grants all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether the caller is limited to some servers.
    pub(super) fn is_limited(&self) -> bool {
        !self.servers.is_empty()
    }

    /// Whether the caller may see and use this server.
    pub fn may_use(&self, server: &ServerName) -> bool {
        self.servers.is_empty() || self.servers.iter().any(|pattern| matches(pattern, server.as_str()))
    }
}

/// Whether a name is what the pattern says; `*` stands for any text, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let Some(tail) = parts.pop() else { return true };
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_whole_names_with_stars() {
        for (pattern, name, expected) in [
            ("team", "team", true),
            ("team", "team-a", false),
            ("team-*", "team-a", true),
            ("team-*", "my-team-a", false),
            ("*-test", "a-test", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "anything", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn admin_grants_all_and_others_only_themselves() {
        let admin = Access::with_scopes("a", [Scope::Admin]);
        let writer = Access::with_scopes("b", [Scope::Write]);
        for &scope in Scope::ALL {
            assert!(admin.allows(scope));
            assert_eq!(writer.allows(scope), scope == Scope::Write);
        }
    }
}
