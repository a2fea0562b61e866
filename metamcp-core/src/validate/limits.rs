//! Limits as written, checked and completed.

use std::ops::RangeInclusive;

use super::problems::{Path, Problems};
use super::valid::EffectiveLimits;
use crate::definition::Limits;

const TIMEOUT_MS: RangeInclusive<u64> = 1..=600_000;
const MEMORY_MB: RangeInclusive<u64> = 64..=12_288;
const CONCURRENCY: RangeInclusive<u64> = 1..=10_000;
const RESPONSE_BYTES: RangeInclusive<u64> = 1024..=26_214_400;

/// The server's limits.
pub(super) fn server(path: &Path, written: &Limits, problems: &mut Problems) -> EffectiveLimits {
    complete(path, written, EffectiveLimits::default(), problems)
}

/// The limits of one tool, resource or prompt, which inherits the server's.
pub(super) fn item(
    path: &Path,
    written: &Limits,
    inherited: EffectiveLimits,
    problems: &mut Problems,
) -> EffectiveLimits {
    if written.memory_mb.is_some() {
        problems.add(&path.key("memoryMb"), "is for the server as a whole; set it in the server's `limits`");
    }
    complete(path, &Limits { memory_mb: None, ..*written }, inherited, problems)
}

fn complete(path: &Path, written: &Limits, base: EffectiveLimits, problems: &mut Problems) -> EffectiveLimits {
    let mut value = |field: &str, written: Option<u64>, range: RangeInclusive<u64>, default: u64| {
        if let Some(value) = written.filter(|value| !range.contains(value)) {
            let (low, high) = range.into_inner();
            problems.add(&path.key(field), format!("{value} is out of range; allowed are {low} to {high}"));
        }
        written.unwrap_or(default)
    };
    EffectiveLimits {
        timeout_ms: value("timeoutMs", written.timeout_ms, TIMEOUT_MS, base.timeout_ms),
        memory_mb: value("memoryMb", written.memory_mb, MEMORY_MB, base.memory_mb),
        concurrency: value("concurrency", written.concurrency, CONCURRENCY, base.concurrency),
        response_bytes: value("responseBytes", written.response_bytes, RESPONSE_BYTES, base.response_bytes),
    }
}
