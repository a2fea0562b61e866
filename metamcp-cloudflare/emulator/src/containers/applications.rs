//! Container applications: what an account's containers are made of, and for which Durable Object class.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::State;
use crate::answer::{Answer, Refusal, success, success_with};

/// So many applications are listed at once, unless asked otherwise.
const PER_PAGE: usize = 25;
/// Largest instance there is.
const STANDARD_4: [(&str, u64); 3] = [("vcpu", 4), ("memory_mib", 12 * 1024), ("disk_mb", 20_000)];

/// The applications of an account, by id.
#[derive(Debug, Default)]
pub(super) struct Applications(Mutex<BTreeMap<String, Value>>);

#[derive(Deserialize)]
struct Listing {
    name: Option<String>,
    page_token: Option<String>,
    per_page: Option<usize>,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/containers/me", get(limits))
        .route("/containers/applications", get(list).post(create))
        .route("/containers/dash/applications", get(list))
        .route("/containers/applications/{id}", get(describe).patch(change).delete(remove))
        .route("/containers/applications/{id}/rollouts", post(roll_out))
        .route("/containers/registries/{domain}/credentials", post(credentials))
}

type At = Path<(String, String)>;

impl Applications {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Value>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn inside<T>(&self, id: &str, work: impl FnOnce(&mut Value) -> T) -> Result<T, Refusal> {
        self.with(|applications| applications.get_mut(id).map(work).ok_or_else(not_found))
    }
}

fn not_found() -> Refusal {
    Refusal::new(404, 1_609, "APPLICATION_NOT_FOUND")
}

async fn limits(Path(account): Path<String>) -> Response {
    let [vcpu, memory, disk] = STANDARD_4.map(|(_, most)| most);
    success(json!({
        "external_account_id": account, "legacy_identity": account, "capabilities": [],
        "limits": {
            "account_id": account, "vcpu_per_deployment": vcpu, "memory_mib_per_deployment": memory,
            "memory_per_deployment": format!("{memory}MiB"), "disk_per_deployment": format!("{disk}MB"),
            "disk_mb_per_deployment": disk, "total_vcpu": 1_500, "total_memory_mib": 6 * 1024 * 1024,
            "node_group": "metal", "ipv4s": 0, "network_modes": [], "total_disk_mb": 30_000_000
        },
        "locations": [], "defaults": { "vcpus": 1, "memory_mib": 256, "disk_mb": 2_000, "memory": "256MiB" }
    }))
}

async fn list(Shared(state): Shared<Arc<State>>, Query(listing): Query<Listing>) -> Response {
    let per_page = listing.per_page.unwrap_or(PER_PAGE).max(1);
    state.containers.applications.with(|applications| {
        let after = listing.page_token.as_deref().unwrap_or_default();
        let wanted = |application: &Value| listing.name.as_deref().is_none_or(|name| application["name"] == name);
        let mut rest = applications.range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let found: Vec<_> =
            rest.by_ref().map(|(_, found)| found).filter(|found| wanted(found)).take(per_page).collect();
        let next = found.last().map(|last| last["id"].clone()).filter(|_| rest.next().is_some());
        success_with(json!(found), json!({ "next_page_token": next, "per_page": per_page }))
    })
}

async fn create(Shared(state): Shared<Arc<State>>, Path(account): Path<String>, Json(wanted): Json<Value>) -> Answer {
    let namespace = wanted["durable_objects"]["namespace_id"].as_str().unwrap_or_default();
    let invalid = |message: &str| Refusal::new(400, 1_000, message);
    if wanted["name"].as_str().is_none_or(str::is_empty) || wanted["configuration"]["image"].as_str().is_none() {
        return Err(invalid("an application needs a name and a configuration with an image"));
    }
    if !state.scripts.has_container_class(namespace) {
        return Err(Refusal::new(400, 1_607, "DURABLE_OBJECT_NOT_CONTAINER_ENABLED"));
    }
    state.containers.applications.with(|applications| {
        let same = |known: &&Value| known["durable_objects"]["namespace_id"] == namespace;
        if let Some(known) = applications.values().find(same) {
            let details = json!({ "details": { "id": known["id"], "name": known["name"] } });
            return Err(Refusal::new(400, 1_608, details.to_string()));
        }
        let mut application = wanted.clone();
        let id = Uuid::new_v4().to_string();
        merge(
            &mut application,
            &json!({ "id": id, "account_id": account, "version": 1, "health": { "instances": {} } }),
        );
        applications.insert(id, application.clone());
        Ok(success(application))
    })
}

async fn describe(Shared(state): Shared<Arc<State>>, Path((_, id)): At) -> Answer {
    state.containers.applications.inside(&id, |application| success(application.clone()))
}

async fn change(Shared(state): Shared<Arc<State>>, Path((_, id)): At, Json(change): Json<Value>) -> Answer {
    if change.get("name").is_some() {
        return Err(Refusal::new(400, 1_000, "the name of an application cannot be changed"));
    }
    state.containers.applications.inside(&id, |application| {
        merge(application, &change);
        success(application.clone())
    })
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((_, id)): At) -> Answer {
    let removed = state.containers.applications.with(|applications| applications.remove(&id));
    removed.map(|_| success(json!({}))).ok_or_else(not_found)
}

/// What runs is replaced at once.
async fn roll_out(Shared(state): Shared<Arc<State>>, Path((_, id)): At, Json(rollout): Json<Value>) -> Answer {
    if rollout["steps"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::new(400, 1_000, "a rollout needs steps"));
    }
    state.containers.applications.inside(&id, |application| {
        let version = application["version"].as_u64().unwrap_or(1);
        merge(application, &json!({ "version": version + 1, "configuration": rollout["target_configuration"] }));
        let mut made = rollout.clone();
        merge(
            &mut made,
            &json!({
                "id": Uuid::new_v4(), "status": "completed", "current_version": version, "target_version": version + 1
            }),
        );
        success(made)
    })
}

async fn credentials(Path((account, domain)): At) -> Response {
    success(json!({ "account_id": account, "registry_host": domain, "username": "v1", "password": Uuid::new_v4() }))
}

/// Puts the fields of one object over those of another.
fn merge(target: &mut Value, source: &Value) {
    match (target, source) {
        (Value::Object(target), Value::Object(source)) => {
            for (name, value) in source {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, source) => *target = source.clone(),
    }
}
