//! Deployments: which version the traffic goes to.

use std::sync::Arc;

use axum::extract::{Path, Query, State as Shared};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Deployment, Script};
use crate::State;
use crate::answer::{Answer, Refusal, success};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/workers/scripts/{script}/deployments", get(list).post(create))
}

#[derive(Deserialize)]
struct NewDeployment {
    strategy: String,
    versions: Vec<Share>,
    #[serde(default)]
    annotations: Map<String, Value>,
}

#[derive(Deserialize)]
struct Share {
    version_id: Uuid,
    percentage: f64,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    force: bool,
}

async fn list(Shared(state): Shared<Arc<State>>, Path((_, name)): Path<(String, String)>) -> Answer {
    state.scripts.inside(&name, |script| {
        let deployments: Vec<_> = script.deployments.iter().rev().take(100).map(Deployment::described).collect();
        Ok(success(json!({ "deployments": deployments })))
    })
}

async fn create(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): Path<(String, String)>,
    Query(Parameters { force }): Query<Parameters>,
    Json(new): Json<NewDeployment>,
) -> Answer {
    let sum: f64 = new.versions.iter().map(|share| share.percentage).sum();
    if new.strategy != "percentage" || !(1..=2).contains(&new.versions.len()) || (sum - 100.0).abs() > 0.01 {
        return Err(Refusal::new(400, 10_021, "one or two versions whose percentages add up to 100"));
    }
    state.scripts.inside(&name, |script| {
        for share in &new.versions {
            check_deployable(script, share.version_id, force)?;
        }
        let mut annotations = new.annotations;
        annotations.entry("workers/triggered_by").or_insert(json!("deployment"));
        let versions = new.versions.iter().map(|share| (share.version_id, share.percentage)).collect();
        Ok(success(script.deploy(versions, annotations).described()))
    })
}

fn check_deployable(script: &Script, id: Uuid, force: bool) -> Result<(), Refusal> {
    let version = script.version(id)?;
    if version.migration_tag != script.migration_tag {
        let message = "cannot deploy a version from before a Durable Object migration";
        return Err(Refusal::new(400, 10_074, message));
    }
    let changed = script.live().is_some_and(|live| {
        let (old, new) = (version.secrets(), live.secrets());
        // An older version with another value of a secret, not a newer one with one more.
        version.number < live.number && old != new
    });
    if changed && !force {
        return Err(Refusal::new(400, 10_220, "the following secrets have changed since this version"));
    }
    Ok(())
}

impl Deployment {
    fn described(&self) -> Value {
        let share = |(id, percentage): &(Uuid, f64)| json!({ "version_id": id, "percentage": percentage });
        let versions: Vec<_> = self.versions.iter().map(share).collect();
        json!({
            "id": self.id, "source": "api", "strategy": "percentage", "author_email": "emulator@example.com",
            "created_on": self.created_on, "versions": versions, "annotations": self.annotations
        })
    }
}
