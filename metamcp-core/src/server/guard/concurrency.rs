//! [`Concurrency`]: how many requests of one caller are worked on at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use super::caller::CallerId;
use super::refusal::Refusal;

/// Counts the requests in flight by their callers; it knows none that has none.
#[derive(Debug)]
pub(super) struct Concurrency {
    most: NonZeroU32,
    counts: Arc<Counts>,
}

type Counts = Mutex<HashMap<CallerId, u32>>;

/// A request in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    counts: Arc<Counts>,
    id: CallerId,
}

impl Concurrency {
    pub(super) fn new(most: NonZeroU32) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Lets a caller's next request in, unless too many are there.
    pub(super) fn begin(&self, id: &CallerId) -> Result<Permit, Refusal> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(id.clone()).or_default();
        if *count >= self.most.get() {
            return Err(Refusal::TooManyAtOnce(self.most));
        }
        *count += 1;
        Ok(Permit { counts: Arc::clone(&self.counts), id: id.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}
