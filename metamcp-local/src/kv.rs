//! [`SqliteKvCache`]: the cache in a file of its own, which may be deleted at any time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::kv_cache::{check_key, check_value};
use metamcp_core::{ErrorKind, KvCache, Result, Ttl};
use rusqlite::{Connection, OptionalExtension, params};

use crate::blocking::blocking;
use crate::sqlite::{database_error, open_private};

const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Keys are bytes, so that they sort by bytes and an upper bound of a prefix need not be text.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY NOT NULL,
    value BLOB NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_entries_expires_at ON entries (expires_at);";

/// A [`KvCache`] in a SQLite file apart from the registry's: its entries may be lost, so it waits for no disk
/// (`synchronous=OFF`), and a file that does not read is replaced by an empty one.
#[derive(Debug, Clone)]
pub struct SqliteKvCache {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteKvCache {
    /// Opens or creates the file, which only its owner can read.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let connection = blocking(move || connect_or_replace(&path)).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).map_err(|error| database_error(&error).with_operation("cache"))
        })
        .await
    }
}

#[async_trait]
impl KvCache for SqliteKvCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        let key = key.to_owned();
        self.run(move |connection| {
            let mut select = connection.prepare_cached("SELECT value FROM entries WHERE key = ? AND expires_at > ?")?;
            select.query_row(params![key.as_bytes(), now()], |row| row.get::<_, Vec<u8>>(0)).optional()
        })
        .await
        .map(|value| value.map(Bytes::from))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()> {
        check_key(key)?;
        check_value(&value)?;
        let key = key.to_owned();
        self.run(move |connection| {
            let now = now();
            connection.prepare_cached("DELETE FROM entries WHERE expires_at <= ?")?.execute([now])?;
            let expires_at = now.saturating_add(milliseconds(ttl.as_duration()));
            let mut insert = connection.prepare_cached(
                "INSERT INTO entries (key, value, expires_at) VALUES (?, ?, ?)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
            )?;
            insert.execute(params![key.as_bytes(), value.as_ref(), expires_at]).map(drop)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let key = key.to_owned();
        self.run(move |connection| {
            connection.prepare_cached("DELETE FROM entries WHERE key = ?")?.execute([key.as_bytes()]).map(drop)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let (first, end) = (prefix.as_bytes().to_vec(), behind(prefix));
        self.run(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT key FROM entries WHERE key >= ? AND key < ? AND expires_at > ? ORDER BY key")?;
            let keys = select.query_map(params![first, end, now()], |row| row.get::<_, Vec<u8>>(0))?;
            keys.map(|key| key.map(|key| String::from_utf8_lossy(&key).into_owned())).collect()
        })
        .await
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<()> {
        let (first, end) = (prefix.as_bytes().to_vec(), behind(prefix));
        self.run(move |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM entries WHERE key >= ? AND key < ?")?;
            delete.execute(params![first, end]).map(drop)
        })
        .await
    }
}

/// The first bytes behind everything that begins with `prefix`. No UTF-8 text holds the byte 255.
fn behind(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last += 1,
        None => bytes.push(u8::MAX),
    }
    bytes
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn connect_or_replace(path: &Path) -> Result<Connection> {
    connect(path).or_else(|error| {
        let unreadable = matches!(error.kind(), ErrorKind::ConfigInvalid | ErrorKind::Unexpected);
        if unreadable && path.is_file() && std::fs::remove_file(path).is_ok() {
            return connect(path);
        }
        Err(error)
    })
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = open_private(path, BUSY_TIMEOUT)?;
    let set_up = || {
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(SCHEMA)
    };
    set_up().map_err(|error| database_error(&error))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cache() -> (SqliteKvCache, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SqliteKvCache::open(folder.path().join("cache.db")).await.unwrap(), folder)
    }

    async fn rows(cache: &SqliteKvCache) -> i64 {
        cache
            .run(|connection| connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_entry_whose_time_is_over_is_gone_and_then_purged() {
        let (cache, _folder) = cache().await;
        for key in ["a", "b"] {
            cache.put(key, "1".into(), Ttl::HOUR).await.unwrap();
        }
        cache.run(|connection| connection.execute("UPDATE entries SET expires_at = ?", [now()])).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), None);
        assert!(cache.list("").await.unwrap().is_empty());
        assert_eq!(rows(&cache).await, 2);
        cache.put("c", "1".into(), Ttl::HOUR).await.unwrap();
        assert_eq!(rows(&cache).await, 1);
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        std::fs::write(&path, "not a database, and longer than any header of one could be".repeat(20)).unwrap();
        let cache = SqliteKvCache::open(&path).await.unwrap();
        cache.put("a", "1".into(), Ttl::HOUR).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some("1".into()));
    }
}
