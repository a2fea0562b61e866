//! The cache's spans.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{traced, verb};
use crate::Result;
use crate::kv_cache::{KvCache, Ttl};

#[derive(Debug)]
pub(super) struct Traced(pub(super) Arc<dyn KvCache>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl KvCache for Traced {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        traced(verb!(DEBUG, "cache.get", key), self.0.get(key)).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()> {
        traced(verb!(DEBUG, "cache.put", key, bytes = value.len()), self.0.put(key, value, ttl)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        traced(verb!(DEBUG, "cache.delete", key), self.0.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        traced(verb!(DEBUG, "cache.list", prefix), self.0.list(prefix)).await
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<()> {
        traced(verb!(DEBUG, "cache.delete_prefix", prefix), self.0.delete_prefix(prefix)).await
    }
}
