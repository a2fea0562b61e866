//! What a process is doing: the calls in flight, and until when each should have been answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The calls of one process.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    drained: Notify,
}

/// A call within its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallNumber(u64);

#[derive(Debug)]
struct State {
    next: u64,
    in_flight: usize,
    /// Set once no further call is taken.
    closed: Option<Instant>,
    last_used: Instant,
    unanswered: BTreeMap<CallNumber, Unanswered>,
}

#[derive(Debug)]
struct Unanswered {
    deadline: Instant,
    /// `false` once its caller went away: the process may still be caught in it.
    waited_for: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (last_used, unanswered) = (Instant::now(), BTreeMap::new());
        let state = State { next: 0, in_flight: 0, closed: None, last_used, unanswered };
        Self { state: Mutex::new(state), drained: Notify::new() }
    }

    /// A call begins; it should be answered by the deadline. `None` once no further call is taken.
    pub(super) fn begin(&self, deadline: Instant) -> Option<CallNumber> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return None;
        }
        let number = CallNumber(state.next);
        state.next += 1;
        state.in_flight += 1;
        state.unanswered.insert(number, Unanswered { deadline, waited_for: true });
        Some(number)
    }

    /// Takes no further call; tells since when, and how many are in flight.
    pub(super) fn close(&self, now: Instant) -> (Instant, usize) {
        let mut state = self.lock();
        (*state.closed.get_or_insert(now), state.in_flight)
    }

    /// Whether no further call is taken.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// A call ended with its answer.
    pub(super) fn answered(&self, number: CallNumber) {
        let mut state = self.lock();
        state.unanswered.remove(&number);
        self.end(&mut state);
    }

    /// A caller went away before the answer.
    pub(super) fn abandoned(&self, number: CallNumber) {
        let mut state = self.lock();
        if let Some(call) = state.unanswered.get_mut(&number) {
            call.waited_for = false;
        }
        self.end(&mut state);
    }

    /// Since when nothing is in flight; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.in_flight == 0).then_some(state.last_used)
    }

    /// Whether a call is past its deadline.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.lock().unanswered.values().any(|call| call.deadline <= now)
    }

    /// The process answers otherwise, so its overdue calls are its own business: those nobody waits for are
    /// forgotten, the others get more time.
    pub(super) fn excuse_overdue(&self, now: Instant, extra: Duration) {
        let mut state = self.lock();
        state.unanswered.retain(|_, call| call.waited_for || call.deadline > now);
        for call in state.unanswered.values_mut().filter(|call| call.deadline <= now) {
            call.deadline = now + extra;
        }
    }

    /// Waits until nothing is in flight.
    pub(super) async fn drained(&self) {
        loop {
            let notified = self.drained.notified();
            if self.lock().in_flight == 0 {
                return;
            }
            notified.await;
        }
    }

    fn end(&self, state: &mut State) {
        state.in_flight -= 1;
        state.last_used = Instant::now();
        if state.in_flight == 0 {
            self.drained.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_call_is_watched_until_the_process_shows_that_it_lives() {
        let activity = Activity::new();
        let now = Instant::now();
        let call = activity.begin(now).expect("it is open");
        activity.abandoned(call);
        assert!(activity.idle_since().is_some() && activity.is_overdue(now));
        activity.excuse_overdue(now, Duration::from_secs(1));
        assert!(!activity.is_overdue(now + Duration::from_secs(2)));
    }

    #[test]
    fn what_is_closed_takes_no_call_and_tells_what_is_left() {
        let activity = Activity::new();
        let now = Instant::now();
        let call = activity.begin(now).expect("it is open");
        assert_eq!(activity.close(now), (now, 1));
        assert!(activity.begin(now).is_none());
        activity.answered(call);
        assert_eq!(activity.close(now + Duration::from_secs(1)), (now, 0));
    }

    #[test]
    fn a_call_that_is_waited_for_becomes_overdue_again() {
        let activity = Activity::new();
        let now = Instant::now();
        let call = activity.begin(now).expect("it is open");
        activity.excuse_overdue(now, Duration::from_secs(1));
        assert!(!activity.is_overdue(now) && activity.is_overdue(now + Duration::from_secs(1)));
        activity.answered(call);
        assert!(!activity.is_overdue(now + Duration::from_secs(1)));
    }
}
