//! When a failed attempt is made again.

use std::time::{Duration, Instant};

use metamcp_core::{Error, ErrorKind};
use reqwest::StatusCode;

use super::Repeat;
use crate::config::RetryPolicy;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// An attempt without success.
pub(super) struct Failure {
    error: Error,
    cause: Cause,
    retry_after: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The API did nothing: it refused the request for its number, or was not reached.
    NotDone,
    /// The API may have done it, or not.
    Unknown,
    /// The same call would be answered in the same way.
    Permanent,
}

impl Failure {
    pub(super) fn from_answer(status: StatusCode, retry_after: Option<Duration>, error: Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::RateLimited => Cause::NotDone,
            ErrorKind::Unavailable | ErrorKind::TimedOut => Cause::Unknown,
            _ if status.is_server_error() => Cause::Unknown,
            _ => Cause::Permanent,
        };
        Self { error, cause, retry_after }
    }

    /// `peer` is who was called.
    pub(super) fn from_transport(peer: &str, error: reqwest::Error) -> Self {
        // The URL may hold a key or a name that is nobody's business.
        let error = error.without_url();
        let (kind, message, cause) = if error.is_connect() {
            (ErrorKind::Unavailable, format!("{peer} cannot be reached"), Cause::NotDone)
        } else if error.is_timeout() {
            (ErrorKind::TimedOut, format!("{peer} did not answer in time"), Cause::Unknown)
        } else if error.is_builder() {
            (ErrorKind::Unexpected, "the request cannot be sent".to_owned(), Cause::Permanent)
        } else {
            (ErrorKind::Unavailable, format!("the connection to {peer} broke"), Cause::Unknown)
        };
        Self { error: Error::new(kind, message).with_source(error), cause, retry_after: None }
    }

    /// The error of a call that is not repeated.
    pub(super) fn into_error(self) -> Error {
        self.error
    }

    /// A failure that repeating the call does not help.
    pub(super) fn permanent(error: Error) -> Self {
        Self { error, cause: Cause::Permanent, retry_after: None }
    }
}

/// The attempts of one call: bounded in number and in time.
pub(super) struct Retry {
    policy: RetryPolicy,
    started: Instant,
    attempts: u32,
}

impl Retry {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, started: Instant::now(), attempts: 0 }
    }

    /// How long to wait before the next attempt; `None` if there is none.
    pub(super) fn pause(&mut self, failure: &Failure, repeat: Repeat) -> Option<Duration> {
        self.attempts += 1;
        let allowed = match failure.cause {
            Cause::NotDone => true,
            Cause::Unknown => repeat == Repeat::Safe,
            Cause::Permanent => false,
        };
        if !allowed || self.attempts >= self.policy.attempts {
            return None;
        }
        let growing = FIRST_PAUSE.saturating_mul(1 << (self.attempts - 1).min(10)).min(LONGEST_PAUSE);
        // Those who were refused together must not come back together.
        let pause = failure.retry_after.unwrap_or_else(|| growing.mul_f64(fastrand::f64().mul_add(0.5, 0.75)));
        let until = self.started.elapsed().checked_add(pause)?;
        (until <= self.policy.total).then_some(pause)
    }

    /// The error of the last attempt, which says how many there were.
    pub(super) fn give_up(self, failure: Failure) -> Error {
        let Failure { error, retry_after, .. } = failure;
        let attempts = (self.attempts > 1).then(|| format!("gave up after {} attempts", self.attempts));
        let later = retry_after.map(|after| format!("try again in {} s", after.as_secs()));
        let help: Vec<_> = attempts.into_iter().chain(later).chain(error.help().map(str::to_owned)).collect();
        if help.is_empty() { error } else { error.with_help(help.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ApiError, error_from_response};

    fn refused(kind: ErrorKind, after: Option<u64>) -> Failure {
        let status = if kind == ErrorKind::RateLimited { 429 } else { 503 };
        let status = StatusCode::from_u16(status).unwrap();
        Failure::from_answer(status, after.map(Duration::from_secs), Error::new(kind, "no"))
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: 3, total: Duration::from_secs(30) }
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_where_that_is_safe() {
        let unavailable = refused(ErrorKind::Unavailable, None);
        assert!(Retry::new(policy()).pause(&unavailable, Repeat::Safe).is_some());
        assert!(Retry::new(policy()).pause(&unavailable, Repeat::Unsafe).is_none());
        assert!(Retry::new(policy()).pause(&refused(ErrorKind::RateLimited, None), Repeat::Unsafe).is_some());
        assert!(
            Retry::new(policy())
                .pause(&Failure::permanent(Error::new(ErrorKind::NotFound, "no")), Repeat::Safe)
                .is_none()
        );
    }

    #[test]
    fn a_database_in_passing_trouble_is_asked_again() {
        let said = |message: &str| {
            let errors = [ApiError { code: 7_500, message: message.to_owned() }];
            Failure::from_answer(StatusCode::BAD_REQUEST, None, error_from_response(400, &errors, None))
        };
        assert!(Retry::new(policy()).pause(&said("Network connection lost."), Repeat::Safe).is_some());
        assert!(Retry::new(policy()).pause(&said("UNIQUE constraint failed: t.id"), Repeat::Safe).is_none());
    }

    #[test]
    fn attempts_and_time_are_bounded_and_the_error_counts_them() {
        let mut retry = Retry::new(policy());
        let failure = refused(ErrorKind::RateLimited, Some(1));
        assert_eq!(retry.pause(&failure, Repeat::Safe), Some(Duration::from_secs(1)));
        assert_eq!(retry.pause(&failure, Repeat::Safe), Some(Duration::from_secs(1)));
        assert_eq!(retry.pause(&failure, Repeat::Safe), None);
        assert!(retry.give_up(failure).to_string().contains("after 3 attempts"));
        for after in [300, u64::MAX] {
            assert_eq!(Retry::new(policy()).pause(&refused(ErrorKind::RateLimited, Some(after)), Repeat::Safe), None);
        }
    }
}
