//! What is written down of each call of a tool, at level debug: which tool, about which server, how it ended, how long
//! it took. Never its arguments.

use std::time::Instant;

use rmcp::model::{CallToolRequestParams, CallToolResponse, RequestMetaObject};
use tracing::Span;

use super::metrics::Metrics;
use crate::Result;
use crate::trace::verb;

/// Longest name that is written down: names come from the caller.
const SHOWN_CHARS: usize = 128;

/// A call that began.
#[derive(Debug)]
pub(super) struct Called {
    tool: String,
    server: Option<String>,
    started: Instant,
}

impl Called {
    pub(super) fn new(request: &CallToolRequestParams) -> Self {
        let arguments = request.arguments.as_ref();
        let server = arguments.and_then(|arguments| arguments.get("serverId")?.as_str()).map(shortened);
        Self { tool: shortened(&request.name), server, started: Instant::now() }
    }

    /// The call's span: a child of the caller's own, where `_meta` names that (SEP-414) and the feature `otel` is on.
    pub(super) fn span(&self, meta: &RequestMetaObject) -> Span {
        let (tool, server) = (self.tool.as_str(), self.server.as_deref());
        let name = format_args!("tools/call {tool}");
        let span = verb!(DEBUG, "call", tool, server, otel.name = %name, otel.kind = "server");
        #[cfg(feature = "otel")]
        super::trace_parent::set(&span, meta);
        #[cfg(not(feature = "otel"))]
        let _ = meta;
        span
    }

    /// The call ended.
    pub(super) fn end(&self, span: &Span, response: &Result<CallToolResponse>, metrics: Option<&Metrics>) {
        let elapsed = self.started.elapsed();
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let outcome = match response {
            Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true) => "tool_error",
            Ok(_) => "ok",
            Err(error) => error.kind().as_str(),
        };
        if let Some(metrics) = metrics {
            metrics.called(&self.tool, outcome, elapsed);
        }
        span.record("outcome", outcome).record("ms", ms);
        if outcome != "ok" {
            span.record("otel.status_code", "ERROR");
        }
        let (tool, server) = (self.tool.as_str(), self.server.as_deref());
        let error = response.as_ref().err().map(tracing::field::display);
        tracing::debug!(parent: span, tool, server, outcome, ms, error, "called");
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}
