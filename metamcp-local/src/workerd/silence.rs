//! How long a process has shown no sign of life, for one that works without being called: nobody waits for what it is
//! caught in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metamcp_core::WorkerSettings;

/// What anything in a process may take beyond its tool's timeout.
const GRACE: Duration = Duration::from_secs(5);

/// When a process was last heard of, and how long it may be silent.
#[derive(Debug)]
pub(super) struct Silence {
    longest: Duration,
    heard: Mutex<Instant>,
}

impl Silence {
    /// `None` for a server that works only while somebody waits for it.
    pub(super) fn of(settings: &WorkerSettings) -> Option<Self> {
        let timeouts = settings.tool_timeouts_ms.values().copied();
        let longest = timeouts.fold(settings.limits.timeout_ms, u64::max);
        settings.runs_by_itself().then(|| Self::new(Duration::from_millis(longest) + GRACE))
    }

    fn new(longest: Duration) -> Self {
        Self { longest, heard: Mutex::new(Instant::now()) }
    }

    /// Whether it is time to ask for a sign of life.
    pub(super) fn is_noticed(&self, now: Instant) -> bool {
        self.length(now) > self.longest / 4
    }

    /// Whether nothing that it may do takes so long.
    pub(super) fn is_too_long(&self, now: Instant) -> bool {
        self.length(now) > self.longest
    }

    /// It answered.
    pub(super) fn end(&self, now: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn length(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_it() {
        let silence = Silence::new(Duration::from_secs(8));
        let now = Instant::now();
        assert!(!silence.is_noticed(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(9);
        assert!(silence.is_noticed(later) && silence.is_too_long(later));
        silence.end(later);
        assert!(!silence.is_noticed(later) && !silence.is_too_long(later));
    }
}
