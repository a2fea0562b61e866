//! When a server that crashed or does not start is tried again.

use std::time::{Duration, Instant};

/// A process that ran this long did not crash because it was started.
const STABLE: Duration = Duration::from_secs(30);
/// The first delay; it doubles with each crash.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay for a caller.
const LONGEST_FOR_A_CALLER: Duration = Duration::from_secs(5);
/// The longest delay where nobody waits.
const LONGEST_UNASKED: Duration = Duration::from_secs(120);

/// The recent past of a server's process.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    crashes: u32,
    latest: Option<Instant>,
    failure: Option<(Instant, String)>,
}

impl Restarts {
    /// The process ended by itself.
    pub(super) fn crashed(&mut self, started: Instant) {
        self.crashes = if started.elapsed() > STABLE { 1 } else { self.crashes.saturating_add(1) };
        self.latest = Some(Instant::now());
    }

    /// A start failed.
    pub(super) fn failed(&mut self, problem: String) {
        self.crashes = self.crashes.saturating_add(1);
        self.latest = Some(Instant::now());
        self.failure = self.latest.map(|at| (at, problem));
    }

    /// How long a caller has to wait for the next start. The error is that of a start that failed since the caller
    /// asked.
    pub(super) fn wait_of_caller(&self, asked: Instant) -> Result<Duration, String> {
        match &self.failure {
            Some((at, problem)) if *at > asked => Err(format!("could not be started: {problem}")),
            _ => Ok(self.remaining(LONGEST_FOR_A_CALLER)),
        }
    }

    /// How long to wait before a start that nobody asked for.
    pub(super) fn wait_unasked(&self) -> Duration {
        self.remaining(LONGEST_UNASKED)
    }

    fn remaining(&self, longest: Duration) -> Duration {
        self.latest.map_or(Duration::ZERO, |at| self.delay(longest).saturating_sub(at.elapsed()))
    }

    /// From a crash to the next start: nothing after one crash.
    fn delay(&self, longest: Duration) -> Duration {
        match self.crashes {
            0 | 1 => Duration::ZERO,
            crashes => (FIRST_DELAY * 2_u32.pow((crashes - 2).min(16))).min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crash_costs_nothing_and_later_ones_ever_more() {
        let mut restarts = Restarts::default();
        let (mut callers, mut unasked) = (Vec::new(), Vec::new());
        for _ in 0..13 {
            restarts.crashed(Instant::now());
            callers.push(restarts.delay(LONGEST_FOR_A_CALLER).as_millis());
            unasked.push(restarts.delay(LONGEST_UNASKED).as_millis());
        }
        assert_eq!(callers, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000, 5000, 5000]);
        assert_eq!(unasked[6..], [3200, 6400, 12_800, 25_600, 51_200, 102_400, 120_000]);
    }

    #[test]
    fn who_asked_before_a_failed_start_gets_its_error() {
        let asked = Instant::now();
        let mut restarts = Restarts::default();
        restarts.failed("no".to_owned());
        assert!(restarts.wait_of_caller(asked).is_err() && restarts.wait_of_caller(Instant::now()).is_ok());
    }
}
