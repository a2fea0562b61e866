//! Scripts as a whole: listed, described for wrangler, removed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::response::Response;
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Script, script_not_found};
use crate::State;
use crate::answer::{Answer, Refusal, page, success};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts", get(list))
        .route("/workers/scripts/{script}", delete(remove))
        .route("/workers/services/{script}", get(service).delete(remove))
        .route("/workers/workers/{script}", get(worker))
        .route("/workers/durable_objects/namespaces", get(namespaces))
}

type At = Path<(String, String)>;

async fn list(Shared(state): Shared<Arc<State>>) -> Response {
    let listed: Vec<Value> =
        state.scripts.with(|scripts| scripts.iter().map(|(name, script)| script.listed(name)).collect());
    success(listed)
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    let removed = state.scripts.with(|scripts| scripts.remove(&name));
    removed.map(|_| success(Value::Null)).ok_or_else(script_not_found)
}

/// What wrangler looks at before a deploy.
async fn service(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.with(|scripts| {
        let script =
            scripts.get(&name).ok_or_else(|| Refusal::new(404, 10_090, "workers.api.error.service_not_found"))?;
        let environment = json!({ "environment": "production", "script": script.listed(&name) });
        Ok(success(json!({ "id": name, "default_environment": environment })))
    })
}

async fn worker(Shared(state): Shared<Arc<State>>, Path((_, name)): At) -> Answer {
    state.scripts.inside(&name, |script| {
        Ok(success(json!({ "id": name, "name": name, "tags": script.tags, "subdomain": script.subdomain })))
    })
}

#[derive(Deserialize)]
struct Listing {
    page: Option<usize>,
    per_page: Option<usize>,
}

async fn namespaces(Shared(state): Shared<Arc<State>>, Query(listing): Query<Listing>) -> Response {
    let found: Vec<Value> = state.scripts.with(|scripts| {
        let each =
            scripts.iter().flat_map(|(name, script)| script.classes.iter().map(move |found| (name, script, found)));
        each.map(|(script, script_of, (class, id))| {
            json!({ "id": id, "name": format!("{script}_{class}"), "script": script, "class": class,
                "use_sqlite": true,
                "use_containers": script_of.container_classes.contains(class) })
        })
        .collect()
    });
    page(found, listing.page, listing.per_page, 1_000)
}

impl Script {
    pub(super) fn listed(&self, name: &str) -> Value {
        let (created, modified) = (self.versions.first(), self.versions.last());
        json!({
            "id": name, "tag": name, "tags": self.tags, "etag": modified.map(|version| &version.etag),
            "created_on": created.map(|version| &version.created_on),
            "modified_on": modified.map(|version| &version.created_on),
            "migration_tag": self.migration_tag, "last_deployed_from": "api", "handlers": ["fetch"],
            "has_modules": true, "usage_model": "standard"
        })
    }
}
