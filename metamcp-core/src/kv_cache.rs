//! [`KvCache`]: a cache of bytes by key that may forget anything at any time. It keeps what builders in containers made.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, ErrorKind, Result};

/// Longest key, in bytes (Workers KV's limit).
pub const MAX_KEY_BYTES: usize = 512;
/// Largest value, in bytes (Workers KV's limit).
pub const MAX_VALUE_BYTES: usize = 25 * 1024 * 1024;

/// How long an entry lives: at least 60 seconds, which is Workers KV's floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(Duration);

impl Ttl {
    /// One hour.
    pub const HOUR: Self = Self(Duration::from_secs(3_600));
    /// One day: what a build made is kept so long.
    pub const DAY: Self = Self(Duration::from_secs(86_400));

    /// A time to live of whole seconds; below 60 it is [`ErrorKind::LimitExceeded`].
    pub fn from_secs(seconds: u64) -> Result<Self> {
        if seconds < 60 {
            return Err(Error::new(ErrorKind::LimitExceeded, format!("ttl of {seconds} s is below the 60 s minimum")));
        }
        Ok(Self(Duration::from_secs(seconds)))
    }

    /// The time to live as a duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

/// A cache with a time to live.
///
/// It saves slow builders ([`Builder::fingerprint`](crate::Builder::fingerprint)) from building the same thing twice.
/// Artifacts are kept for a day under `build:{serverId}:{hash}`, where the hash is that of source and builder, so an entry
/// can never stand for anything else. They are removed with their server.
///
/// A miss or a cache that is down only costs time: nothing is kept here alone, and it holds no lock. A read after a write
/// may return the older value, or none, for 60 seconds or longer (Workers KV).
///
/// ```
/// use metamcp_core::memory::MemoryKvCache;
/// use metamcp_core::{KvCache, Ttl};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = MemoryKvCache::new();
/// cache.put("build:1:a", "artifact".into(), Ttl::DAY).await?;
/// assert_eq!(cache.get("build:1:a").await?.as_deref(), Some(b"artifact".as_slice()));
/// cache.delete_prefix("build:1:").await?;
/// assert_eq!(cache.list("build:").await?, [""; 0]);
/// assert!(Ttl::from_secs(59).is_err(), "Workers KV keeps nothing for less than a minute");
/// # Ok(())
/// # }
/// ```
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait KvCache: Debug + Send + Sync + 'static {
    /// The value, or `None` if there is none or its time is over.
    ///
    /// [`ErrorKind::LimitExceeded`] for a key that is empty or longer than [`MAX_KEY_BYTES`];
    /// [`ErrorKind::Unavailable`] if the cache cannot answer.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Writes or overwrites a value. Idempotent.
    ///
    /// [`ErrorKind::LimitExceeded`] for a bad key or a value over [`MAX_VALUE_BYTES`].
    async fn put(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()>;

    /// Removes a value; removing an absent one succeeds.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Keys that begin with `prefix`, in byte order; all of them.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes the values of all keys that begin with `prefix`. One that was written just now may stay until its time is
    /// over, where a list may be stale.
    async fn delete_prefix(&self, prefix: &str) -> Result<()> {
        for key in self.list(prefix).await? {
            self.delete(&key).await?;
        }
        Ok(())
    }
}

/// Refuses a key that Workers KV would refuse; every implementation calls it first.
pub fn check_key(key: &str) -> Result<()> {
    let problem = match key {
        "" => "is empty",
        "." | ".." => "is a reserved path",
        _ if key.len() > MAX_KEY_BYTES => "is longer than 512 bytes",
        _ => return Ok(()),
    };
    let shown: String = key.chars().take(40).collect();
    Err(Error::new(ErrorKind::LimitExceeded, format!("cache key {shown:?} {problem}")))
}

/// Refuses a value that Workers KV would refuse; every implementation calls it first.
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        let message = format!("cache value of {} bytes is over the {MAX_VALUE_BYTES} byte limit", value.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(())
}
