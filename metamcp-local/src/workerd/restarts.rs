//! When a server that crashed or does not start is tried again.

use std::time::{Duration, Instant};

/// A process that ran this long did not crash because it was started.
const STABLE: Duration = Duration::from_secs(30);
/// The first delay; it doubles with each crash.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// The recent past of a server's process.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    crashes: u32,
    failure: Option<(Instant, String)>,
}

impl Restarts {
    /// The process ended by itself.
    pub(super) fn crashed(&mut self, started: Instant) {
        self.crashes = if started.elapsed() > STABLE { 1 } else { self.crashes.saturating_add(1) };
    }

    /// A start failed.
    pub(super) fn failed(&mut self, problem: String) {
        self.crashes = self.crashes.saturating_add(1);
        self.failure = Some((Instant::now(), problem));
    }

    /// How long to wait before the next start: not at all after one crash. The error is that of a start that
    /// failed since the caller asked.
    pub(super) fn check(&self, asked: Instant) -> Result<Duration, String> {
        if let Some((at, problem)) = &self.failure
            && *at > asked
        {
            return Err(format!("could not be started: {problem}"));
        }
        let doublings = match self.crashes {
            0 | 1 => return Ok(Duration::ZERO),
            crashes => (crashes - 2).min(16),
        };
        Ok((FIRST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crash_costs_nothing_and_later_ones_ever_more() {
        let mut restarts = Restarts::default();
        let mut delays = Vec::new();
        for _ in 0..9 {
            restarts.crashed(Instant::now());
            delays.push(restarts.check(Instant::now()).unwrap().as_millis());
        }
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn who_asked_before_a_failed_start_gets_its_error() {
        let asked = Instant::now();
        let mut restarts = Restarts::default();
        restarts.failed("no".to_owned());
        assert!(restarts.check(asked).is_err() && restarts.check(Instant::now()).is_ok());
    }
}
