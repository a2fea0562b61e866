//! Whether a script answers below `workers.dev`, and its versions' previews.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::SUBDOMAIN;
use crate::State;
use crate::answer::{Answer, success};

/// Which of a script's host names answer.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Exposure {
    #[serde(default)]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) previews_enabled: bool,
}

#[derive(Deserialize)]
struct Change {
    enabled: bool,
    previews_enabled: Option<bool>,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/subdomain", get(async || success(json!({ "subdomain": SUBDOMAIN }))))
        .route("/workers/scripts/{script}/subdomain", get(read).post(change).delete(switch_off))
}

type At = Path<(String, String)>;

async fn read(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| Ok(success(json!(script.subdomain))))
}

async fn change(Shared(state): Shared<Arc<State>>, Path((_, name)): At, Json(change): Json<Change>) -> Answer {
    state.scripts.inside(&name, |script| {
        // Left out, previews follow the script.
        let previews_enabled = change.previews_enabled.unwrap_or(change.enabled);
        script.subdomain = Exposure { enabled: change.enabled, previews_enabled };
        Ok(success(json!(script.subdomain)))
    })
}

async fn switch_off(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| {
        script.subdomain = Exposure::default();
        Ok(success(json!(script.subdomain)))
    })
}
