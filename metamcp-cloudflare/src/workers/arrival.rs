//! Whether a version is what answers: Cloudflare's API says that it is live before its edge has taken notice.

use std::time::{Duration, Instant};

use metamcp_core::{Error, ErrorKind, Result, VersionId, WorkerSettings};
use tokio::time::sleep;
use url::Url;

use super::account::Account;

/// So many answers in a row are the version's: many machines answer at one place, and not all of them hear of it at once.
const ANSWERS: u32 = 3;
/// After an answer of something else.
const PAUSE: Duration = Duration::from_millis(250);

impl Account {
    /// Waits until a version that was made live is what answers at `health`: at the place of Cloudflare's that this
    /// machine reaches, which says nothing of others. [`ErrorKind::TimedOut`] if something else still does after
    /// [`CloudflareConfig::settle_time`](crate::CloudflareConfig::settle_time).
    pub(super) async fn arrived(&self, settings: &WorkerSettings, version: &VersionId, health: &Url) -> Result<()> {
        if !settings.tells_version {
            return Ok(());
        }
        let (time, started) = (self.client.config().settle_time(), Instant::now());
        let mut answers = 0;
        while answers < ANSWERS {
            let seen = self.client.version_at(health).await;
            if seen.as_ref().is_ok_and(|seen| seen.as_deref() == Some(version.as_str())) {
                answers += 1;
                continue;
            }
            answers = 0;
            if started.elapsed() + PAUSE > time {
                return Err(not_arrived(settings, version, time, seen));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

fn not_arrived(settings: &WorkerSettings, version: &VersionId, time: Duration, seen: Result<Option<String>>) -> Error {
    let (kind, instead) = match &seen {
        Ok(Some(other)) => (ErrorKind::TimedOut, format!("version {other} answers")),
        Ok(None) => (ErrorKind::TimedOut, "what answers says no version".to_owned()),
        Err(error) => (error.kind(), error.message().to_owned()),
    };
    let message = format!(
        "version {version} of server {} did not arrive at Cloudflare's edge within {} s: {instead}",
        settings.name,
        time.as_secs()
    );
    let error = Error::new(kind, message)
        .with_retryable(true)
        .with_help("deploy again, or give it more time (`CloudflareConfig::with_settle_time`)");
    match seen {
        Ok(_) => error,
        Err(source) => error.with_source(source),
    }
}
