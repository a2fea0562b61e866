use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::lock;
use crate::kv_cache::{KvCache, Ttl, check_key, check_value};
use crate::{Error, ErrorKind, Result};

/// A [`KvCache`] in memory, by tokio's clock (so a paused one can be advanced).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> metamcp_core::Result<()> {
/// use metamcp_core::{KvCache, Ttl, memory::MemoryKvCache};
///
/// let cache = MemoryKvCache::new();
/// cache.put("config:1", "{}".into(), Ttl::HOUR).await?;
/// assert_eq!(cache.list("config:").await?, ["config:1"]);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct MemoryKvCache {
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    expires_at: Instant,
}

impl MemoryKvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl KvCache for MemoryKvCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        let now = Instant::now();
        Ok(lock(&self.entries).get(key).filter(|entry| entry.expires_at > now).map(|entry| entry.value.clone()))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()> {
        check_key(key)?;
        check_value(&value)?;
        let now = Instant::now();
        let expires_at = now.checked_add(ttl.as_duration()).ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, format!("ttl of {} s is too long", ttl.as_duration().as_secs()))
        })?;
        let mut entries = lock(&self.entries);
        entries.retain(|_, entry| entry.expires_at > now);
        entries.insert(key.to_owned(), Entry { value, expires_at });
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        lock(&self.entries).remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let now = Instant::now();
        let entries = lock(&self.entries);
        let behind = entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(behind.filter(|(_, entry)| entry.expires_at > now).map(|(key, _)| key.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_gone_when_its_time_is_over() {
        let cache = MemoryKvCache::new();
        cache.put("a", "1".into(), Ttl::from_secs(60).unwrap()).await.unwrap();
        tokio::time::advance(std::time::Duration::from_secs(59)).await;
        assert!(cache.get("a").await.unwrap().is_some());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(cache.get("a").await.unwrap(), None);
        assert!(cache.list("").await.unwrap().is_empty());
    }
}
