//! Secrets, each change of which makes and deploys a version.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::State;
use crate::answer::{Answer, Refusal, success};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}/secrets", get(list).put(set))
        .route("/workers/scripts/{script}/secrets/{secret}", delete(remove))
}

#[derive(Deserialize)]
struct NewSecret {
    name: String,
    text: String,
}

async fn list(Shared(state): Shared<Arc<State>>, Path((_, name)): Path<(String, String)>) -> Answer {
    state.scripts.inside(&name, |script| {
        let secrets = script.latest().map(super::Version::secrets).unwrap_or_default().into_iter();
        let shown: Vec<Value> = secrets.map(|(name, _)| json!({ "name": name, "type": "secret_text" })).collect();
        Ok(success(shown))
    })
}

async fn set(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): Path<(String, String)>,
    Json(secret): Json<NewSecret>,
) -> Answer {
    let shown = json!({ "name": secret.name, "type": "secret_text" });
    change(&state, &name, |bindings| {
        bindings.retain(|binding| binding["name"] != *secret.name);
        bindings.push(json!({ "name": secret.name, "type": "secret_text", "text": secret.text }));
    })
    .await?;
    Ok(success(shown))
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((_, name, secret)): Path<(String, String, String)>) -> Answer {
    change(&state, &name, |bindings| bindings.retain(|binding| binding["name"] != *secret)).await?;
    Ok(success(Value::Null))
}

async fn change(state: &State, name: &str, change: impl FnOnce(&mut Vec<Value>) + Send) -> Result<(), Refusal> {
    let deployed = state.scripts.inside(name, |script| {
        Ok(script.live().map(|version| version.id) == script.latest().map(|version| version.id))
    })?;
    if !deployed {
        return Err(Refusal::new(400, 10_215, "the latest version is not deployed, so its secrets cannot be edited"));
    }
    let id = super::upload::vary(state, name, change).await?;
    state.scripts.inside(name, |script| {
        script.deploy(vec![(id, 100.0)], Map::new());
        Ok(())
    })
}
