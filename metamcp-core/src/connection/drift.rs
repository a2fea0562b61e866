//! [`Drift`]: how what an external server offers now differs from what was accepted.

use serde::{Deserialize, Serialize};

use super::PinnedServer;
use crate::source_tree::Digest;
use crate::{Error, ErrorKind};

/// Names of each kind that an error shows: others chose them.
const SHOWN: usize = 10;

/// How what an external server offers now differs from what was written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drift {
    /// Tools that are new.
    pub added: Vec<String>,
    /// Tools whose description, schema or annotations are others.
    pub changed: Vec<String>,
    /// Tools that are gone.
    pub removed: Vec<String>,
}

impl Drift {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    pub(super) fn between(pinned: &PinnedServer, now: &PinnedServer) -> Self {
        let (old, new) = (&pinned.tools, &now.tools);
        Self {
            added: new.keys().filter(|name| !old.contains_key(*name)).cloned().collect(),
            changed: new
                .iter()
                .filter(|(name, digest)| old.get(*name).is_some_and(|old| old != *digest))
                .map(|(name, _)| name.clone())
                .collect(),
            removed: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        }
    }

    /// Why nothing of the external server is called.
    pub(super) fn error(&self, name: &str, offered: &Digest) -> Error {
        let Self { added, changed, removed } = self;
        let parts = [("new", added), ("changed", changed), ("gone", removed)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(word, names)| format!("{word}: {}", first(names))).collect();
        let message = format!(
            "external server {name:?} offers other tools than were accepted ({}); the digest of its offer is {offered}",
            parts.join("; ")
        );
        Error::new(ErrorKind::Conflict, message)
            .with_help("look at what it offers now, then accept that digest or remove the connection")
    }
}

/// The first names, and how many there are beside them.
fn first(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Why something is not accepted that nobody has looked at.
pub(super) fn changed_meanwhile(name: &str, shown: &Digest, offered: &Digest) -> Error {
    let message = format!("external server {name:?} does not offer {shown} any more, but {offered}");
    Error::new(ErrorKind::Conflict, message).with_help("look at what it offers now, then accept that digest")
}
