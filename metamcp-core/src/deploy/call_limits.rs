//! [`CallLimits`]: under which terms a version's tools are called. Kept for the versions that were called last, so that
//! their definitions are not read and checked again for each call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::name::{ServerId, ServerName, VersionId};
use crate::registry::Revision;
use crate::template::ListedTool;
use crate::validate::{ValidDefinition, nearest};
use crate::{Error, ErrorKind, Result};

/// Versions that are kept: each has a few bytes for each of its tools.
const KEPT: usize = 128;

/// What holds for the calls of one tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallTerms {
    /// How long one may take, beside connecting.
    pub(crate) limit: Duration,
    /// Whether making it again does nothing more, as the tool's annotations say.
    pub(crate) is_repeatable: bool,
}

/// The terms of one definition's tools.
#[derive(Debug)]
pub(super) struct CallLimits {
    server: ServerName,
    /// By name, in listed order.
    tools: Vec<(String, CallTerms)>,
    /// For tools that only the live server knows, where its template has such.
    others: Option<CallTerms>,
}

impl CallLimits {
    pub(super) fn of(definition: &ValidDefinition) -> Self {
        let terms = |timeout_ms, is_repeatable| CallTerms { limit: Duration::from_millis(timeout_ms), is_repeatable };
        let listed = |tool: ListedTool<'_>| {
            (tool.name.to_string(), terms(tool.limits.timeout_ms, tool.annotations.is_some_and(is_repeatable)))
        };
        let has_others = definition.template().manifest().dynamic_tools;
        Self {
            server: definition.name().clone(),
            tools: definition.listed_tools().map(listed).collect(),
            others: has_others.then(|| terms(definition.limits().timeout_ms, false)),
        }
    }

    /// The terms of a tool; [`ErrorKind::NotFound`] if the definition lists no such tool.
    pub(super) fn of_tool(&self, tool: &str) -> Result<CallTerms> {
        let listed = self.tools.iter().find(|(name, _)| name == tool).map(|(_, terms)| *terms);
        listed.or(self.others).ok_or_else(|| self.unknown(tool))
    }

    /// The error of a call. Where tools come and go with what a server is connected to, one about a tool that is not
    /// there says who knows why.
    pub(super) fn explain(&self, error: Error) -> Error {
        if self.others.is_some() && error.kind() == ErrorKind::NotFound {
            return error
                .with_help("its tool route_status says which tools each upstream has, and why one is not served");
        }
        error
    }

    fn unknown(&self, tool: &str) -> Error {
        let short: String = tool.chars().take(128).collect();
        let error = Error::new(ErrorKind::NotFound, format!("server {} has no tool {short:?}", self.server));
        let names = || self.tools.iter().map(|(name, _)| name.as_str());
        match nearest(tool, names()) {
            Some(near) => error.with_help(format!("did you mean {near:?}?")),
            None => error.with_help(format!("its tools are: {}", names().take(20).collect::<Vec<_>>().join(", "))),
        }
    }
}

fn is_repeatable(annotations: &Map<String, Value>) -> bool {
    ["readOnlyHint", "idempotentHint"].iter().any(|hint| annotations.get(*hint) == Some(&Value::Bool(true)))
}

/// What a version was made from never changes under the revision that it was recorded with.
pub(super) type CalledVersion = (ServerId, VersionId, Revision);

/// The limits of the versions that were called last.
#[derive(Debug, Default)]
pub(crate) struct KnownLimits(Mutex<VecDeque<(CalledVersion, Arc<CallLimits>)>>);

impl KnownLimits {
    pub(super) fn get(&self, version: &CalledVersion) -> Option<Arc<CallLimits>> {
        let mut known = self.lock();
        let at = known.iter().position(|(known, _)| known == version)?;
        let found = known.remove(at)?;
        let limits = found.1.clone();
        known.push_back(found);
        Some(limits)
    }

    pub(super) fn put(&self, version: CalledVersion, limits: Arc<CallLimits>) {
        let mut known = self.lock();
        known.retain(|(known, _)| *known != version);
        if known.len() >= KEPT {
            known.pop_front();
        }
        known.push_back((version, limits));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(CalledVersion, Arc<CallLimits>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_versions_that_were_called_last_are_kept() {
        let version = |number: u64| -> CalledVersion {
            (ServerId(Uuid::nil()), format!("v{number}").parse().unwrap(), Revision(number))
        };
        let limits = || Arc::new(CallLimits { server: "a".parse().unwrap(), tools: Vec::new(), others: None });
        let known = KnownLimits::default();
        known.put(version(0), limits());
        for number in 1..=2 * KEPT as u64 {
            known.put(version(number), limits());
            assert!(known.get(&version(0)).is_some(), "what is called is kept");
        }
        assert!(known.get(&version(1)).is_none());
        assert_eq!(known.lock().len(), KEPT);
    }
}
