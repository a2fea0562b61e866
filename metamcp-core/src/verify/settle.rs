//! Time to settle: what a target says is done may take effect a little later.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::validate::ValidDefinition;
use crate::{Error, ErrorKind, Result};

/// The pause after the first attempt; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What may still answer in the place of what was just staged or made live.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settling<'a> {
    /// How long: [`Publisher::settle_time`](crate::Publisher::settle_time).
    pub(crate) time: Duration,
    /// What was live before at the same place.
    pub(crate) before: Before<'a>,
}

/// Whose answers may still be seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Before<'a> {
    /// Nobody's: whatever is answered is the new version's.
    #[default]
    Nothing,
    /// Those of a version that answered as its definition says when it became live.
    Checked(&'a ValidDefinition),
    /// Those of a version that may answer anything.
    Unknown,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The change may not have arrived.
    Passing(Error),
    /// The server's own, which no time mends.
    Own(Error),
}

impl Failure {
    /// Of connecting and listing. A new host name answers with errors first, and an older version with its own lists, or
    /// asks for its own token.
    pub(crate) fn of_asking(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::VerificationFailed | ErrorKind::Unauthenticated => Self::Passing(error),
            _ => Self::Own(error),
        }
    }
}

/// Attempts until one succeeds or fails by itself; `time` after the first none begins, and the last failure counts.
pub(crate) async fn settled<T, F>(time: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(Failure::Own(error)) => return Err(error),
            Err(Failure::Passing(error)) => error,
        };
        if started.elapsed() + pause > time {
            return Err(error);
        }
        tracing::debug!(%error, "a change may not have arrived: trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
