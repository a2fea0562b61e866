//! Tails: what a script logs from now on, over a WebSocket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, post};
use http::StatusCode;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use uuid::Uuid;

use crate::State;
use crate::answer::{Answer, Refusal, success};

/// Events that wait for a slow reader; it misses older ones.
const WAITING: usize = 1_000;
const LIFETIME: Duration = Duration::hours(6);
const PROTOCOL: &str = "trace-v1";

/// The tails that are open, by id.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    by_id: Mutex<BTreeMap<Uuid, Tail>>,
}

#[derive(Debug)]
struct Tail {
    script: String,
    events: Sender<String>,
    /// What happens before the reader comes.
    first: Option<Receiver<String>>,
}

impl Tails {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Tail>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the runtime tells of a script's events.
    pub(crate) fn receive(&self, script: &str, version: &str, events: &[u8]) {
        let Ok(Value::Array(events)) = serde_json::from_slice(events) else { return };
        for mut event in events {
            event["scriptName"] = json!(script);
            event["scriptVersion"] = json!({ "id": version });
            for tail in self.lock().values().filter(|tail| tail.script == script) {
                // Without a reader it is for nobody.
                drop(tail.events.send(event.to_string()));
            }
        }
    }

    fn reader(&self, id: Uuid) -> Option<Receiver<String>> {
        let mut tails = self.lock();
        let tail = tails.get_mut(&id)?;
        Some(tail.first.take().unwrap_or_else(|| tail.events.subscribe()))
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}/tails", post(create))
        .route("/workers/scripts/{script}/tails/{tail}", delete(remove))
}

/// Where tails are read, which needs no token: the id is one.
pub(crate) fn socket_routes() -> Router<Arc<State>> {
    Router::new().route("/__emulator/tails/{tail}", any(read))
}

async fn create(Shared(state): Shared<Arc<State>>, Path((_, script)): Path<(String, String)>) -> Answer {
    state.scripts.inside(&script, |_| Ok(()))?;
    let (id, (events, first)) = (Uuid::new_v4(), broadcast::channel(WAITING));
    state.scripts.tails.lock().insert(id, Tail { script, events, first: Some(first) });
    let expires_at = (OffsetDateTime::now_utc() + LIFETIME).format(&Rfc3339).unwrap_or_default();
    let url = format!("ws://{}/__emulator/tails/{id}", state.address);
    Ok(success(json!({ "id": id, "url": url, "expires_at": expires_at })))
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((_, _, id)): Path<(String, String, Uuid)>) -> Answer {
    let removed = state.scripts.tails.lock().remove(&id);
    removed.map(|_| success(Value::Null)).ok_or_else(|| Refusal::new(404, 10_007, "there is no such tail"))
}

async fn read(Shared(state): Shared<Arc<State>>, Path(id): Path<Uuid>, upgrade: WebSocketUpgrade) -> Response {
    match state.scripts.tails.reader(id) {
        // wrangler does not mask its frames.
        Some(events) => {
            upgrade.protocols([PROTOCOL]).accept_unmasked_frames(true).on_upgrade(move |socket| forward(socket, events))
        }
        None => (StatusCode::NOT_FOUND, "there is no such tail").into_response(),
    }
}

/// Until the reader goes, or the tail is removed.
async fn forward(mut socket: WebSocket, mut events: Receiver<String>) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => if socket.send(Message::Text(event.into())).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
        }
    }
}
