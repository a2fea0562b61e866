//! Somebody outside who counts what tools really did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;

/// What tools know the witness by.
pub(crate) const WITNESS_HOST: &str = "witness.test";

/// An HTTP server that tools `POST` to, at any path of one segment; it answers with how often that was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness {
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Witness {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let witness = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/{what}", post(see)).with_state(witness.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (witness, address)
    }

    /// How often a path was posted to.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.seen.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// Everything that was posted to.
    pub(crate) fn all(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap().clone()
    }
}

async fn see(State(witness): State<Witness>, Path(what): Path<String>) -> String {
    let mut seen = witness.seen.lock().unwrap();
    let count = seen.entry(what).or_default();
    *count += 1;
    count.to_string()
}
