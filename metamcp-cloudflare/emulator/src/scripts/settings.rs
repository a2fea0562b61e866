//! Settings of a script that no version holds.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::State;
use crate::answer::{Answer, success};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}/settings", get(settings))
        .route("/workers/scripts/{script}/script-settings", get(script_settings).patch(change))
        .route("/workers/scripts/{script}/schedules", get(schedules).put(set_schedules))
}

type At = Path<(String, String)>;

async fn settings(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| Ok(success(script.settings())))
}

async fn script_settings(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| {
        Ok(success(json!({ "tags": script.tags, "observability": script.observability, "logpush": false })))
    })
}

async fn change(Shared(state): Shared<Arc<State>>, Path((_, name)): At, Json(change): Json<Value>) -> Answer {
    state.scripts.inside(&name, |script| {
        if let Some(tags) = change["tags"].as_array() {
            script.tags = tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        }
        if change["observability"].is_object() {
            script.observability = change["observability"].clone();
        }
        Ok(success(json!({ "tags": script.tags, "observability": script.observability, "logpush": false })))
    })
}

async fn schedules(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| Ok(success(json!({ "schedules": script.schedules }))))
}

async fn set_schedules(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): At,
    Json(schedules): Json<Vec<Value>>,
) -> Answer {
    state.scripts.inside(&name, |script| {
        script.schedules = schedules;
        Ok(success(json!({ "schedules": script.schedules })))
    })
}
