//! Dispatch namespaces: scripts that only a dispatcher Worker calls, each live with its newest upload.

mod serve;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, Request, State as Shared};
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::upload::{self, Parameters};
use super::{Script, Version, now, shown};
use crate::State;
use crate::answer::{Answer, Refusal, success, success_with};
use crate::workerd::Process;

/// Scripts listed at once. Cloudflare lists up to 1,000; here a second page is soon met.
const PAGE: usize = 20;

/// The dispatch namespaces of an account, by name.
#[derive(Debug, Default)]
pub(crate) struct DispatchNamespaces {
    by_name: Mutex<BTreeMap<String, Namespace>>,
}

#[derive(Debug)]
struct Namespace {
    id: Uuid,
    created_on: String,
    scripts: BTreeMap<String, Dispatched>,
}

/// A script, and what answers for its newest upload: one process for each outbound Worker and its parameters, by the
/// upload and these.
#[derive(Debug, Default)]
struct Dispatched {
    script: Script,
    running: BTreeMap<String, Arc<Process>>,
}

#[derive(Deserialize)]
struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct NewNamespace {
    name: String,
}

#[derive(Deserialize)]
struct NewSecret {
    name: String,
    text: String,
}

impl DispatchNamespaces {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Namespace>) -> T) -> T {
        work(&mut self.by_name.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a namespace of this name.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.with(|namespaces| namespaces.contains_key(name))
    }

    fn inside<T>(&self, name: &str, work: impl FnOnce(&mut Namespace) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.with(|namespaces| work(namespaces.get_mut(name).ok_or_else(namespace_not_found)?))
    }

    fn script<T>(
        &self,
        (namespace, name): (&str, &str),
        work: impl FnOnce(&mut Dispatched) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let missing = || Refusal::new(404, 10_092, "This Worker does not exist in this dispatch namespace.");
        self.inside(namespace, |namespace| work(namespace.scripts.get_mut(name).ok_or_else(missing)?))
    }
}

impl Namespace {
    fn described(&self, name: &str) -> Value {
        json!({
            "namespace_id": self.id, "namespace_name": name, "script_count": self.scripts.len(),
            "trusted_workers": false, "created_on": self.created_on, "modified_on": self.created_on
        })
    }
}

pub(super) fn routes() -> Router<Arc<State>> {
    const BASE: &str = "/workers/dispatch/namespaces";
    let below = |rest: &str| format!("{BASE}/{{namespace}}/scripts{rest}");
    Router::new()
        .route(BASE, get(list).post(create))
        .route(&format!("{BASE}/{{namespace}}"), get(describe).delete(remove))
        .route(&below(""), get(list_scripts))
        .route(&below("/{script}"), get(describe_script).put(put_script).delete(remove_script))
        .route(&below("/{script}/settings"), get(settings))
        .route(&below("/{script}/bindings"), get(bindings))
        .route(&below("/{script}/tags"), get(tags).put(set_tags))
        .route(&below("/{script}/secrets"), get(list_secrets).put(set_secret))
        .route(&below("/{script}/secrets/{secret}"), delete(remove_secret))
}

type AtNamespace = Path<(String, String)>;
type AtScript = Path<(String, String, String)>;

async fn list(Shared(state): Shared<Arc<State>>) -> Response {
    let described = |namespaces: &mut BTreeMap<String, Namespace>| {
        namespaces.iter().map(|(name, namespace)| namespace.described(name)).collect::<Vec<_>>()
    };
    success(state.dispatch.with(described))
}

async fn create(Shared(state): Shared<Arc<State>>, Json(NewNamespace { name }): Json<NewNamespace>) -> Answer {
    state.dispatch.with(|namespaces| {
        if namespaces.contains_key(&name) {
            return Err(Refusal::new(400, 100_120, "A dispatch namespace of this name already exists."));
        }
        let namespace = Namespace { id: Uuid::new_v4(), created_on: now(), scripts: BTreeMap::new() };
        let described = namespace.described(&name);
        namespaces.insert(name, namespace);
        Ok(success(described))
    })
}

async fn describe(Shared(state): Shared<Arc<State>>, Path((_, name)): AtNamespace) -> Answer {
    state.dispatch.inside(&name, |namespace| Ok(success(namespace.described(&name))))
}

/// Its scripts go with it.
async fn remove(Shared(state): Shared<Arc<State>>, Path((_, name)): AtNamespace) -> Answer {
    let removed = state.dispatch.with(|namespaces| namespaces.remove(&name));
    removed.map(|_| success(Value::Null)).ok_or_else(namespace_not_found)
}

async fn list_scripts(
    Shared(state): Shared<Arc<State>>,
    Path((_, namespace)): AtNamespace,
    Query(listing): Query<Listing>,
) -> Answer {
    state.dispatch.inside(&namespace, |namespace| {
        let after = listing.cursor.filter(|cursor| !cursor.is_empty());
        let mut behind = namespace.scripts.iter().filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
        let shown: Vec<_> = behind.by_ref().take(listing.limit.unwrap_or(PAGE).clamp(1, PAGE)).collect();
        let cursor = if behind.next().is_some() { shown.last().map(|(name, _)| (*name).clone()) } else { None };
        let listed: Vec<_> = shown.iter().map(|(name, dispatched)| dispatched.script.listed(name)).collect();
        let info = json!({ "count": listed.len(), "cursor": cursor.unwrap_or_default() });
        Ok(success_with(listed, info))
    })
}

async fn describe_script(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| {
        let script = dispatched.script.listed(&name);
        Ok(success(json!({ "dispatch_namespace": namespace, "script": script })))
    })
}

async fn put_script(
    Shared(state): Shared<Arc<State>>,
    Path((_, namespace, name)): AtScript,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Answer {
    let upload = upload::read(request, &state).await?;
    let prepared = state.dispatch.inside(&namespace, |namespace| {
        let fresh = Dispatched::default();
        upload.prepare(&namespace.scripts.get(&name).unwrap_or(&fresh).script, &parameters)
    })?;
    // Whether it starts; what it answers with starts when it is called.
    upload::start(&state, &name, &upload, &prepared.bindings).await?;
    state.dispatch.inside(&namespace, |namespace| {
        let dispatched = namespace.scripts.entry(name.clone()).or_default();
        // There is no history, but requests in flight end on the version they began on, and for a while another one may
        // still answer.
        let kept = [dispatched.script.latest(), dispatched.script.arrived()];
        let kept: Vec<_> = kept.into_iter().flatten().map(|version| version.id).collect();
        dispatched.running.retain(|key, _| kept.iter().any(|id| key.starts_with(&id.to_string())));
        dispatched.script.versions.retain(|version| kept.contains(&version.id));
        Ok(success(dispatched.script.replace(&name, &upload, prepared, None)))
    })
}

async fn remove_script(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state.dispatch.script((&namespace, &name), |_| Ok(()))?;
    state.dispatch.inside(&namespace, |namespace| {
        namespace.scripts.remove(&name);
        Ok(success(Value::Null))
    })
}

async fn settings(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| Ok(success(dispatched.script.settings())))
}

async fn bindings(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state
        .dispatch
        .script((&namespace, &name), |dispatched| Ok(success(dispatched.script.settings()["bindings"].clone())))
}

async fn tags(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| Ok(success(json!(dispatched.script.tags))))
}

async fn set_tags(
    Shared(state): Shared<Arc<State>>,
    Path((_, namespace, name)): AtScript,
    Json(tags): Json<Vec<String>>,
) -> Answer {
    if tags.len() > 8 {
        return Err(Refusal::new(400, 10_021, "a script has at most 8 tags"));
    }
    state.dispatch.script((&namespace, &name), |dispatched| {
        dispatched.script.tags = tags;
        Ok(success(json!(dispatched.script.tags)))
    })
}

async fn list_secrets(Shared(state): Shared<Arc<State>>, Path((_, namespace, name)): AtScript) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| {
        let latest = dispatched.script.latest().map(Version::secrets).unwrap_or_default();
        let secrets = latest.into_iter().map(|(name, _)| json!({ "name": name, "type": "secret_text" }));
        Ok(success(secrets.collect::<Vec<_>>()))
    })
}

async fn set_secret(
    Shared(state): Shared<Arc<State>>,
    Path((_, namespace, name)): AtScript,
    Json(secret): Json<NewSecret>,
) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| {
        dispatched.change_secrets(|bindings| {
            bindings.retain(|binding| binding["name"] != *secret.name);
            bindings.push(json!({ "name": secret.name, "type": "secret_text", "text": secret.text }));
        });
        Ok(success(json!({ "name": secret.name, "type": "secret_text" })))
    })
}

async fn remove_secret(
    Shared(state): Shared<Arc<State>>,
    Path((_, namespace, name, secret)): Path<(String, String, String, String)>,
) -> Answer {
    state.dispatch.script((&namespace, &name), |dispatched| {
        dispatched.change_secrets(|bindings| bindings.retain(|binding| binding["name"] != *secret));
        Ok(success(Value::Null))
    })
}

impl Dispatched {
    /// A secret is there from the next request on.
    fn change_secrets(&mut self, change: impl FnOnce(&mut Vec<Value>)) {
        if let Some(version) = self.script.versions.last_mut() {
            change(&mut version.bindings);
        }
        self.running.clear();
    }
}

impl Script {
    /// The settings of the newest version.
    pub(super) fn settings(&self) -> Value {
        let latest = self.latest();
        let bindings = latest.into_iter().flat_map(|version| &version.bindings);
        let bindings: Vec<_> = bindings.map(|binding| shown(binding, &self.classes)).collect();
        let mut settings = latest.map_or_else(|| json!({}), |version| version.compatibility.clone());
        settings["bindings"] = json!(bindings);
        settings["tags"] = json!(self.tags);
        settings["observability"] = self.observability.clone();
        settings
    }
}

fn namespace_not_found() -> Refusal {
    Refusal::new(404, 100_119, "This dispatch namespace does not exist.")
}
