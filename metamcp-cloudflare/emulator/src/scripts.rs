//! Workers scripts: uploads, versions, deployments, subdomains and secrets. Every upload really runs in workerd.

mod deployments;
mod dispatch;
mod exports;
mod front;
mod listing;
mod secrets;
mod settings;
mod subdomain;
mod tails;
mod upload;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::State;
use crate::answer::Refusal;
use crate::workerd::{Code, Process};

pub(crate) use dispatch::DispatchNamespaces;
pub(crate) use front::{forward, serve_by_host};
pub(crate) use tails::socket_routes;
pub use upload::SeenUpload;

/// The account's name below `workers.dev`.
const SUBDOMAIN: &str = "emulator";

/// The scripts of an account.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    by_name: Mutex<BTreeMap<String, Script>>,
    seen: Mutex<Vec<SeenUpload>>,
    pub(crate) tails: tails::Tails,
}

#[derive(Debug, Default)]
struct Script {
    tags: Vec<String>,
    observability: Value,
    subdomain: subdomain::Exposure,
    schedules: Vec<Value>,
    migration_tag: Option<String>,
    /// Its Durable Object classes, each with the id of its namespace.
    classes: BTreeMap<String, String>,
    /// Those of them that are containers.
    container_classes: BTreeSet<String>,
    /// Oldest first.
    versions: Vec<Version>,
    /// Oldest first; the last one is live.
    deployments: Vec<Deployment>,
    /// Which deployment the edge knows of.
    arrived: usize,
    /// Since the newest deployment.
    requests: u32,
}

#[derive(Debug, Clone)]
struct Version {
    id: Uuid,
    number: usize,
    created_on: String,
    source: &'static str,
    annotations: Map<String, Value>,
    bindings: Vec<Value>,
    compatibility: Value,
    migration_tag: Option<String>,
    etag: String,
    /// What was uploaded, for a version that differs in a secret only.
    code: Arc<Code>,
    /// What answers for it; in a dispatch namespace it depends on the call.
    process: Option<Arc<Process>>,
}

#[derive(Debug, Clone)]
struct Deployment {
    id: Uuid,
    created_on: String,
    versions: Vec<(Uuid, f64)>,
    annotations: Map<String, Value>,
}

impl Scripts {
    /// Whether a Durable Object namespace is that of a container class.
    pub(crate) fn has_container_class(&self, namespace: &str) -> bool {
        self.with(|scripts| {
            scripts
                .values()
                .any(|script| script.container_classes.iter().any(|class| script.classes[class] == namespace))
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Script>) -> T) -> T {
        work(&mut self.by_name.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The uploads so far.
    pub(crate) fn seen(&self) -> Vec<SeenUpload> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, upload: SeenUpload) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(upload);
    }

    /// Whether there is a script of this name.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.with(|scripts| scripts.contains_key(name))
    }

    /// What answers for a script's live version.
    pub(crate) fn live_process(&self, name: &str) -> Option<Arc<Process>> {
        self.with(|scripts| scripts.get(name)?.live()?.process.clone())
    }

    fn inside<T>(&self, name: &str, work: impl FnOnce(&mut Script) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.with(|scripts| work(scripts.get_mut(name).ok_or_else(script_not_found)?))
    }
}

impl Script {
    fn version(&self, id: Uuid) -> Result<&Version, Refusal> {
        self.versions
            .iter()
            .find(|version| version.id == id)
            .ok_or_else(|| Refusal::new(404, 10_071, "workers.api.error.version_not_found"))
    }

    /// The version that all or most of the traffic goes to.
    fn live(&self) -> Option<&Version> {
        let (id, _) = self.deployments.last()?.versions.first()?;
        self.version(*id).ok()
    }

    fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// Makes a version live.
    fn deploy(&mut self, versions: Vec<(Uuid, f64)>, annotations: Map<String, Value>) -> Deployment {
        let deployment = Deployment { id: Uuid::new_v4(), created_on: now(), versions, annotations };
        self.deployments.push(deployment.clone());
        self.requests = 0;
        deployment
    }
}

impl Version {
    fn has_durable_objects(&self) -> bool {
        self.bindings.iter().any(|binding| binding["type"] == "durable_object_namespace")
    }

    /// The secrets, by name.
    fn secrets(&self) -> BTreeSet<(&str, &str)> {
        let secrets = self.bindings.iter().filter(|binding| binding["type"] == "secret_text");
        secrets.filter_map(|binding| Some((binding["name"].as_str()?, binding["text"].as_str()?))).collect()
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .merge(listing::routes())
        .merge(upload::routes())
        .merge(versions::routes())
        .merge(deployments::routes())
        .merge(secrets::routes())
        .merge(settings::routes())
        .merge(subdomain::routes())
        .merge(dispatch::routes())
        .merge(tails::routes())
}

fn script_not_found() -> Refusal {
    Refusal::new(404, 10_007, "This Worker does not exist on your account.")
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// A binding as it may be shown: without a secret's value.
fn shown(binding: &Value, classes: &BTreeMap<String, String>) -> Value {
    let mut binding = binding.clone();
    let class = binding["class_name"].as_str().and_then(|class| classes.get(class));
    if let Some(fields) = binding.as_object_mut() {
        if fields.get("type") == Some(&json!("secret_text")) {
            fields.remove("text");
        }
        if let Some(namespace) = class {
            fields.insert("namespace_id".to_owned(), json!(namespace));
        }
    }
    binding
}
