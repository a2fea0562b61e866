//! The four traits in memory: the reference the contract suites define "right" by, for tests, doctests and
//! benches. Everything is gone when the value is dropped.

mod builder;
mod kv_cache;
mod publisher;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::meta_mcp::Backends;

pub use builder::MemoryBuilder;
pub use kv_cache::MemoryKvCache;
pub use publisher::MemoryPublisher;
pub use registry::MemoryRegistry;

/// All four, empty: for a [`MetaMcp`](crate::MetaMcp) that needs neither an account nor a network. Its servers do not
/// run, so that a deployment fails when its version is to be verified.
pub fn backends() -> Backends {
    Backends {
        registry: Arc::new(MemoryRegistry::new()),
        cache: Arc::new(MemoryKvCache::new()),
        builder: Arc::new(MemoryBuilder::new()),
        publisher: Arc::new(MemoryPublisher::new()),
    }
}

/// Locks state that no code panics on half-way.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
