//! How long answers may be kept.

use super::problems::{Path, Problems};
use crate::definition::CacheHint;

/// A year: what RFC 9111 caches keep at most in practice.
const MAX_TTL_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// Checks a hint, where there is one.
pub(super) fn check(path: &Path, hint: Option<&CacheHint>, problems: &mut Problems) {
    if let Some(hint) = hint.filter(|hint| hint.ttl_ms > MAX_TTL_MS) {
        let message = format!("{} is out of range; allowed are 0 to {MAX_TTL_MS}", hint.ttl_ms);
        problems.add(&path.key("ttlMs"), message);
    }
}
