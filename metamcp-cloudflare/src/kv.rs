//! [`WorkersKvCache`]: the cache on Workers KV.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::kv_cache::{check_key, check_value};
use metamcp_core::{ErrorKind, KvCache, Result, Ttl};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::client::{Call, Client, Collection, Repeat, segment};

/// Workers KV lists at most so many at once: <https://developers.cloudflare.com/kv/platform/limits/>.
const PAGE: usize = 1_000;
/// Most keys that one call deletes: <https://developers.cloudflare.com/api/resources/kv/>.
const BULK: usize = 10_000;
/// Namespaces by title.
const NAMESPACES: Collection =
    Collection { path: "storage/kv/namespaces", name_field: "title", has_filter: false, per_page: PAGE };

/// A [`KvCache`] on a Workers KV namespace.
///
/// Workers KV is eventually consistent: a read may return the value from before an overwrite, or miss a value that
/// was just written, for up to 60 seconds. One key takes one write a second.
#[derive(Debug, Clone)]
pub struct WorkersKvCache {
    client: Client,
    namespace_id: String,
}

#[derive(Deserialize)]
struct Key {
    name: String,
}

impl WorkersKvCache {
    /// The namespace of this title in the client's account; it is created if there is none.
    pub async fn open(client: Client, title: &str) -> Result<Self> {
        let namespace_id = client.find_or_create(NAMESPACES, title).await?;
        Ok(Self { client, namespace_id })
    }

    /// The namespace's id, as `wrangler.jsonc` names it.
    pub fn namespace_id(&self) -> &str {
        &self.namespace_id
    }

    fn path(&self, rest: &str) -> String {
        format!("storage/kv/namespaces/{}/{rest}", segment(&self.namespace_id))
    }

    fn value_path(&self, key: &str) -> String {
        self.path(&format!("values/{}", segment(key)))
    }
}

#[async_trait]
impl KvCache for WorkersKvCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        self.client.read(&Call::get(self.value_path(key))).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()> {
        check_key(key)?;
        check_value(&value)?;
        let call = Call::new(Method::PUT, self.value_path(key), Repeat::Safe)
            .with_query("expiration_ttl", ttl.as_duration().as_secs().to_string())
            .with_bytes(HeaderValue::from_static("application/octet-stream"), value);
        self.client.execute(&call).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        match self.client.execute(&Call::new(Method::DELETE, self.value_path(key), Repeat::Safe)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut call = Call::get(self.path("keys")).with_query("limit", PAGE.to_string());
            if !prefix.is_empty() {
                call = call.with_query("prefix", prefix);
            }
            if let Some(cursor) = &cursor {
                call = call.with_query("cursor", cursor.as_str());
            }
            let page = self.client.call::<Vec<Key>>(&call).await?;
            keys.extend(page.result.into_iter().map(|key| key.name));
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<()> {
        for keys in self.list(prefix).await?.chunks(BULK) {
            let call = Call::new(Method::POST, self.path("bulk/delete"), Repeat::Safe).with_json(&keys);
            self.client.execute(&call).await?;
        }
        Ok(())
    }
}
