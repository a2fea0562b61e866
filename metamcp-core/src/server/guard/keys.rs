//! [`Keys`]: looks keys up, without a request to the registry for each request that comes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::failures::Failures;
use super::refusal::Refusal;
use crate::keys::{ApiKeys, is_key, is_valid};
use crate::registry::ApiKeyRecord;
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, Result};

/// For how long an answer of the registry is taken for the present state.
const FRESH: Duration = Duration::from_secs(2);
/// How often a request in flight looks whether its key still holds.
const KEY_CHECK: Duration = Duration::from_secs(1);
/// How long one look-up may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);
/// Keys that are remembered, right and wrong ones.
const MAX_SEEN: usize = 10_000;

/// What looks keys up: each once in [`FRESH`], however many requests come with it at once, and wrong ones of one peer
/// only so often.
#[derive(Debug)]
pub(super) struct Keys {
    registered: ApiKeys,
    seen: Mutex<HashMap<Digest, Seen>>,
    failures: Failures,
    unconfirmed_limit: Duration,
}

/// What is known of a key; nothing while it is looked up.
type Found = Arc<OnceCell<Option<ApiKeyRecord>>>;

#[derive(Debug)]
struct Seen {
    /// When the look-up began.
    at: Instant,
    found: Found,
    /// Whether it was a key when it was looked up before, so that its holder is no guesser.
    was_right: bool,
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    fn is_right(&self) -> bool {
        self.found.get().map_or(self.was_right, Option::is_some)
    }
}

impl Keys {
    pub(super) fn new(registered: ApiKeys, wrong_per_minute: NonZeroU32, unconfirmed_limit: Duration) -> Self {
        let failures = Failures::new(wrong_per_minute);
        Self { registered, seen: Mutex::default(), failures, unconfirmed_limit }
    }

    /// The key that this is, and what finds it again.
    ///
    /// What has not the form of a key costs nothing and counts for nothing. Of what has, a peer may try some that are
    /// wrong; then only those are looked up that were right before.
    pub(super) async fn holder(&self, key: &SecretString, peer: IpAddr) -> Result<(ApiKeyRecord, Digest), Refusal> {
        if !is_key(key.expose_secret()) {
            return Err(Refusal::WrongKey);
        }
        let hash = Digest::of(key.expose_secret());
        // Before it is remembered: a flood of wrong keys makes nobody's right one forgotten.
        let attempt = if self.is_known(&hash) { None } else { Some(self.failures.begin(peer)?) };
        let found = self.seen(&hash);
        let record = self.look_up(&hash, &found).await.map_err(|error| {
            tracing::error!(%error, "a key could not be looked up");
            Refusal::Unavailable
        });
        if let Some(attempt) = attempt
            && !matches!(record, Ok(None))
        {
            attempt.forgive();
        }
        record?.map(|record| (record, hash)).ok_or(Refusal::WrongKey)
    }

    /// Ends once a key holds no longer, or nobody could say that it does for too long.
    pub(super) fn ended(self: Arc<Self>, hash: Digest) -> BoxFuture<'static, Refusal> {
        Box::pin(async move {
            let mut confirmed = Instant::now();
            loop {
                sleep(KEY_CHECK).await;
                let found = self.seen(&hash);
                match timeout_at(confirmed + self.unconfirmed_limit, self.look_up(&hash, &found)).await {
                    Ok(Ok(Some(_))) => confirmed = Instant::now(),
                    Ok(Ok(None)) => return Refusal::WrongKey,
                    Ok(Err(error)) => tracing::warn!(%error, "it is not known whether the key of a stream still holds"),
                    Err(_) => {}
                }
                if confirmed.elapsed() >= self.unconfirmed_limit {
                    return Refusal::Unavailable;
                }
            }
        })
    }

    /// Whether it costs nothing to say if this is a key, or it was one when it was looked up before.
    fn is_known(&self, hash: &Digest) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(hash).is_some_and(|known| known.is_right() || (known.is_fresh() && known.found.initialized()))
    }

    /// What is known of a key now, or where its look-up leaves it.
    fn seen(&self, hash: &Digest) -> Found {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let was_right = match seen.get(hash) {
            Some(known) if known.is_fresh() => return Arc::clone(&known.found),
            Some(known) => known.is_right(),
            None => false,
        };
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, known| known.is_fresh() || known.is_right());
        }
        if seen.len() >= MAX_SEEN {
            // So many at once come from many peers. What is forgotten is looked up again.
            seen.clear();
        }
        let found = Found::default();
        seen.insert(*hash, Seen { at: Instant::now(), found: Arc::clone(&found), was_right });
        found
    }

    /// The key, if it is a valid one. What fails is not remembered.
    async fn look_up(&self, hash: &Digest, found: &Found) -> Result<Option<ApiKeyRecord>> {
        let record = asked_once(found, || self.registered.find(hash)).await?;
        Ok(record.as_ref().filter(|record| is_valid(record)).cloned())
    }
}

/// The answer of whoever asks first. Nobody waits for longer than one look-up may take: those who ask in turn, since it
/// failed for the one before, would.
async fn asked_once<T, F>(found: &OnceCell<T>, ask: impl FnOnce() -> F) -> Result<&T>
where
    F: Future<Output = Result<T>>,
{
    timeout(LOOK_UP_LIMIT, found.get_or_try_init(ask)).await.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> Error {
    let message = format!("the registry did not say within {} s whether a key is valid", LOOK_UP_LIMIT.as_secs());
    Error::new(ErrorKind::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use futures::future::{join_all, pending};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_look_ups_of_others() {
        let (found, begun) = (OnceCell::<()>::new(), Instant::now());
        let asked = join_all((0..10).map(|_| asked_once(&found, pending))).await;
        assert!(asked.into_iter().all(|asked| asked.is_err_and(|error| error.kind() == ErrorKind::TimedOut)));
        assert_eq!(begun.elapsed().as_secs(), LOOK_UP_LIMIT.as_secs());
    }
}
