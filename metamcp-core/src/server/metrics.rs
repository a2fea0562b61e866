//! What the HTTP endpoint has done since it was started, for Prometheus. Every label has few values: names of our own
//! tools, outcomes and classes of statuses, never what callers or servers are called.

mod exposition;
mod histogram;
mod process;
mod servers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::StatusCode;

pub(super) use self::exposition::CONTENT_TYPE;
use self::exposition::{Exposition, Kind};
use self::histogram::Histogram;
pub(super) use self::servers::Servers;
use super::table;

/// The tool that makes a deployment.
const DEPLOYS: &str = "deploy_mcp_server";
/// A call of a tool that there is not.
const NO_TOOL: &str = "none";
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    statuses: [AtomicU64; STATUS_CLASSES.len()],
    unauthenticated: AtomicU64,
    forbidden: AtomicU64,
    rate_limited: AtomicU64,
    in_flight: AtomicU64,
    seconds: Histogram,
    /// By the name of the tool.
    calls: Mutex<BTreeMap<&'static str, Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    outcomes: BTreeMap<&'static str, u64>,
    seconds: Histogram,
}

/// A request, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    metrics: Arc<Metrics>,
    begun: Instant,
}

impl InFlight {
    /// When the request came.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A request came.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { metrics: Arc::clone(self), begun: Instant::now() }
    }

    /// A request was answered, or its answer's stream began.
    pub(super) fn answered(&self, status: StatusCode, after: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let refused = match status {
            StatusCode::UNAUTHORIZED => Some(&self.unauthenticated),
            StatusCode::FORBIDDEN => Some(&self.forbidden),
            StatusCode::TOO_MANY_REQUESTS => Some(&self.rate_limited),
            _ => None,
        };
        for counter in [self.statuses.get(class), refused].into_iter().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.seconds.observe(after);
    }

    /// A call of a tool ended.
    pub(super) fn called(&self, tool: &str, outcome: &'static str, after: Duration) {
        let tool = table::find(tool).map_or(NO_TOOL, |entry| entry.name());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.entry(tool).or_default();
        *calls.outcomes.entry(outcome).or_default() += 1;
        calls.seconds.observe(after);
    }

    /// All of them, in Prometheus' text format, with the number of servers where it is known.
    pub(super) fn render(&self, servers: Option<Servers>) -> String {
        let mut text = Exposition::default();
        text.family("metamcp_build_info", Kind::Gauge, "The version that runs.");
        text.sample("metamcp_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.render_requests(&mut text);
        self.render_calls(&mut text);
        if let Some(servers) = servers {
            servers.render(&mut text);
        }
        process::render(&mut text);
        text.finish()
    }

    fn render_requests(&self, text: &mut Exposition) {
        let requests = "metamcp_http_requests_total";
        text.family(requests, Kind::Counter, "HTTP requests, by class of the answer's status.");
        for (class, count) in STATUS_CLASSES.into_iter().zip(&self.statuses) {
            text.sample(requests, &[("status", class)], count.load(Ordering::Relaxed));
        }
        for (name, help, count) in [
            (
                "metamcp_http_unauthenticated_total",
                "HTTP requests without a valid key or token.",
                &self.unauthenticated,
            ),
            (
                "metamcp_http_forbidden_total",
                "HTTP requests without the scope, or from hosts not allowed.",
                &self.forbidden,
            ),
            ("metamcp_http_rate_limited_total", "HTTP requests that were too many.", &self.rate_limited),
        ] {
            text.family(name, Kind::Counter, help);
            text.sample(name, &[], count.load(Ordering::Relaxed));
        }
        let in_flight = "metamcp_http_requests_in_flight";
        text.family(in_flight, Kind::Gauge, "HTTP requests that are not answered to their end.");
        text.sample(in_flight, &[], self.in_flight.load(Ordering::Relaxed));
        let seconds = "metamcp_http_request_duration_seconds";
        text.family(seconds, Kind::Histogram, "Time until an HTTP request's answer began.");
        self.seconds.render(text, seconds, &[]);
    }

    fn render_calls(&self, text: &mut Exposition) {
        let all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = "metamcp_tool_calls_total";
        text.family(calls, Kind::Counter, "Calls of Meta-MCP's tools, by how they ended.");
        for (tool, of_tool) in &*all {
            for (outcome, count) in &of_tool.outcomes {
                text.sample(calls, &[("tool", tool), ("outcome", outcome)], count);
            }
        }
        let deployments = "metamcp_deployments_total";
        text.family(deployments, Kind::Counter, "Deployments that were asked for, by how they ended.");
        for (outcome, count) in all.get(DEPLOYS).into_iter().flat_map(|calls| &calls.outcomes) {
            text.sample(deployments, &[("outcome", outcome)], count);
        }
        let seconds = "metamcp_tool_call_duration_seconds";
        text.family(seconds, Kind::Histogram, "Duration of calls of Meta-MCP's tools.");
        for (tool, of_tool) in &*all {
            of_tool.seconds.render(text, seconds, &[("tool", tool)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_that_makes_deployments_is_one_of_ours() {
        assert!(table::find(DEPLOYS).is_ok());
        assert!(table::find(NO_TOOL).is_err());
    }
}
