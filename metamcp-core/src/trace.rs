//! Spans over everything Meta-MCP does, named like the verbs of the API.
//!
//! Deployments are spans of level info, what a registry or a cache is asked is of level debug. Each ends with `outcome`
//! (`ok`, or the error's kind) and `ms`. *Invariant:* no span holds a body, an argument, a command line or a secret.

mod builder;
mod kv_cache;
mod publisher;
mod registry;

use std::sync::Arc;
use std::time::Instant;

use tracing::{Instrument, Span};

use crate::Result;
use crate::meta_mcp::Backends;

/// A span that [`traced`] ends: `verb!(INFO, "deploy", server = %key)`.
macro_rules! verb {
    ($level:ident, $verb:literal $(, $($fields:tt)*)?) => {
        tracing::span!(
            tracing::Level::$level,
            $verb,
            $($($fields)*,)?
            outcome = tracing::field::Empty,
            ms = tracing::field::Empty,
            // The name under which OpenTelemetry's exporters look for it.
            otel.status_code = tracing::field::Empty
        )
    };
}
pub(crate) use verb;

/// The same backends, with a span around each of their calls.
pub(crate) fn traced_backends(backends: Backends) -> Backends {
    Backends {
        registry: Arc::new(registry::Traced(backends.registry)),
        cache: Arc::new(kv_cache::Traced(backends.cache)),
        builder: Arc::new(builder::Traced(backends.builder)),
        publisher: Arc::new(publisher::Traced(backends.publisher)),
    }
}

/// Does the work in the span, and writes into it how that ended and how long it took.
pub(crate) async fn traced<T>(span: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
    if span.is_disabled() {
        return work.await;
    }
    let started = Instant::now();
    let result = work.instrument(span.clone()).await;
    record_end(&span, &result, started);
    result
}

/// [`traced`] for work that waits for nothing.
pub(crate) fn traced_now<T>(span: &Span, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = span.in_scope(work);
    record_end(span, &result, started);
    result
}

fn record_end<T>(span: &Span, result: &Result<T>, started: Instant) {
    span.record("ms", u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    match result {
        Ok(_) => span.record("outcome", "ok"),
        Err(error) => span.record("outcome", error.kind().as_str()).record("otel.status_code", "ERROR"),
    };
}
