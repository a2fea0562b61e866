//! What takes its time to be known everywhere: counted in requests, so that no test waits for a clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::faults::close_connection;

/// How far behind the edge is.
#[derive(Debug)]
pub(crate) struct Edge {
    host_failures: u32,
    stale_answers: AtomicU32,
    /// Requests of each host name so far.
    hosts: Mutex<BTreeMap<String, u32>>,
}

impl Edge {
    pub(crate) fn new(host_failures: u32, stale_answers: u32) -> Self {
        Self { host_failures, stale_answers: stale_answers.into(), hosts: Mutex::default() }
    }

    /// How a host name answers that is not known here yet: each time in another way that was seen of Cloudflare.
    pub(crate) fn unknown_host(&self, host: &str) -> Option<Response> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = hosts.entry(host.to_owned()).or_default();
        if *asked >= self.host_failures {
            return None;
        }
        *asked += 1;
        let status = match *asked % 4 {
            1 => 404,
            2 => 523,
            3 => 530,
            _ => {
                drop(hosts);
                close_connection()
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
        Some((status, "There is nothing here yet").into_response())
    }

    /// Changes how far behind it is with deployments.
    pub(crate) fn set_stale_answers(&self, count: u32) {
        self.stale_answers.store(count, Ordering::Relaxed);
    }

    /// Whether a deployment is not known here yet, after so many requests since.
    pub(crate) fn is_behind(&self, requests: &mut u32) -> bool {
        let behind = *requests < self.stale_answers.load(Ordering::Relaxed);
        *requests = requests.saturating_add(1);
        behind
    }
}
