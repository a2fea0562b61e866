//! Versions, read.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Version, shown};
use crate::State;
use crate::answer::{Answer, Refusal, success, success_with};

/// So many versions stay deployable.
const KEPT: usize = 100;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}/versions", get(list))
        .route("/workers/scripts/{script}/versions/{version}", get(describe))
}

#[derive(Deserialize)]
struct Listing {
    page: Option<usize>,
    per_page: Option<usize>,
}

async fn list(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): Path<(String, String)>,
    Query(listing): Query<Listing>,
) -> Answer {
    state.scripts.inside(&name, |script| {
        let (page, per_page) = (listing.page.unwrap_or(1).max(1), listing.per_page.unwrap_or(KEPT).clamp(1, KEPT));
        let newest = script.versions.iter().rev().take(KEPT);
        let items: Vec<Value> = newest.skip((page - 1) * per_page).take(per_page).map(Version::summary).collect();
        let info = json!({ "page": page, "per_page": per_page, "count": items.len() });
        Ok(success_with(json!({ "items": items }), info))
    })
}

async fn describe(Shared(state): Shared<Arc<State>>, Path((_, name, id)): Path<(String, String, String)>) -> Answer {
    state.scripts.inside(&name, |script| Ok(success(script.version(parse(&id)?)?.described(&script.classes))))
}

pub(super) fn parse(id: &str) -> Result<Uuid, Refusal> {
    id.parse().map_err(|_| Refusal::new(400, 10_071, format!("{id} is no version id")))
}

impl Version {
    fn summary(&self) -> Value {
        json!({
            "id": self.id, "number": self.number, "annotations": self.annotations,
            "metadata": {
                "created_on": self.created_on, "modified_on": self.created_on, "source": self.source,
                "author_id": "emulator", "author_email": "emulator@example.com", "hasPreview": true
            }
        })
    }

    pub(super) fn described(&self, classes: &BTreeMap<String, String>) -> Value {
        let mut described = self.summary();
        let bindings: Vec<_> = self.bindings.iter().map(|binding| shown(binding, classes)).collect();
        let mut runtime = self.compatibility.clone();
        runtime["migration_tag"] = json!(self.migration_tag);
        described["resources"] = json!({
            "bindings": bindings,
            "script": { "etag": self.etag, "handlers": ["fetch"], "named_handlers": [], "last_deployed_from": "api" },
            "script_runtime": runtime,
        });
        described["startup_time_ms"] = json!(10);
        described
    }
}
