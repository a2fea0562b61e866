//! Waiting for a server of which something else is deployed, tested, rolled back or removed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::call::Call;
use crate::name::ServerKey;
use crate::{Error, ErrorKind, Result};

/// How long a call waits for others of the same server to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until it asks again for the first time, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Call {
    /// Does what needs a server for itself: begins it again for up to 30 seconds while somebody else has the server.
    pub(super) async fn when_free<T, F>(&self, key: &ServerKey, work: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSES.0;
        loop {
            match work().await {
                Err(error) if is_taken(&error) && Instant::now() < until => {}
                Err(error) if is_taken(&error) => return Err(still_taken(key, error)),
                done => return done,
            }
            if pause == PAUSES.0 {
                self.report("waiting for another deployment or test").await;
            }
            sleep(pause).await;
            pause = PAUSES.1.min(pause * 2);
        }
    }
}

/// Whether somebody else has the server, so that nothing was begun.
fn is_taken(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.is_retryable()
}

fn still_taken(key: &ServerKey, error: Error) -> Error {
    let waited = PATIENCE.as_secs();
    let message = format!("another deployment or test of server {key} runs, and did not end within {waited} s");
    Error::new(ErrorKind::Conflict, message).with_retryable(true).with_source(error)
}
