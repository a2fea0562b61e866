//! The four traits in memory: the reference the contract suites define "right" by, for tests, doctests and
//! benches. Everything is gone when the value is dropped.

mod builder;
mod kv_cache;
mod publisher;
mod registry;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use builder::MemoryBuilder;
pub use kv_cache::MemoryKvCache;
pub use publisher::MemoryPublisher;
pub use registry::MemoryRegistry;

/// Locks state that no code panics on half-way.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
