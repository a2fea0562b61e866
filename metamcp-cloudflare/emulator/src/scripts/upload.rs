//! Uploads: multipart forms of metadata and modules, as wrangler sends them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State as Shared};
use axum::routing::{post, put};
use metamcp_core::{Digest, Module, ModuleKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Script, Version, exports, now, script_not_found};
use crate::State;
use crate::answer::{Answer, Refusal, success};
use crate::bindings::check_bound;
use crate::workerd::{Code, Plan, Process, Worker};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}", put(put_script))
        .route("/workers/scripts/{script}/versions", post(add_version))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    bindings_inherit: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    main_module: Option<String>,
    #[serde(default)]
    compatibility_date: String,
    #[serde(default)]
    compatibility_flags: Vec<String>,
    #[serde(default)]
    bindings: Vec<Value>,
    #[serde(default)]
    keep_bindings: Vec<String>,
    migrations: Option<Migrations>,
    #[serde(default)]
    containers: Vec<ContainerClass>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    annotations: Map<String, Value>,
    #[serde(default)]
    observability: Value,
}

#[derive(Debug, Deserialize)]
struct ContainerClass {
    class_name: String,
}

#[derive(Debug, Deserialize)]
struct Migrations {
    old_tag: Option<String>,
    new_tag: Option<String>,
    #[serde(default)]
    steps: Vec<MigrationStep>,
    #[serde(default)]
    new_sqlite_classes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct MigrationStep {
    #[serde(default)]
    new_sqlite_classes: Vec<String>,
}

/// What an upload's form had in it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenUpload {
    /// The `metadata`, as it was sent.
    pub metadata: Value,
    /// Content types of the modules, by name.
    pub modules: BTreeMap<String, String>,
}

pub(super) struct Upload {
    /// Of the version that it becomes.
    id: Uuid,
    metadata: Metadata,
    code: Arc<Code>,
    etag: String,
}

/// Uploads and deploys at once.
async fn put_script(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Answer {
    let upload = read(request, &state).await?;
    let prepared = state.scripts.with(|scripts| {
        let fresh = Script::default();
        upload.prepare(scripts.get(&name).unwrap_or(&fresh), &parameters)
    })?;
    let process = start(&state, &name, &upload, &prepared.bindings).await?;
    state.scripts.with(|scripts| {
        let script = scripts.entry(name.clone()).or_default();
        Ok(success(script.replace(&name, &upload, prepared, Some(process))))
    })
}

/// What an upload makes of a script.
pub(super) struct Prepared {
    classes: BTreeMap<String, String>,
    pub(super) bindings: Vec<Value>,
}

impl Upload {
    pub(super) fn prepare(&self, script: &Script, parameters: &Parameters) -> Result<Prepared, Refusal> {
        let classes = migrated(script, self.metadata.migrations.as_ref())?;
        exports::check(script, &classes, &self.code)?;
        let bindings = resolve(script, &self.metadata, &classes, parameters)?;
        Ok(Prepared { classes, bindings })
    }
}

/// Uploads without deploying.
async fn add_version(
    Shared(state): Shared<Arc<State>>,
    Path((_, name)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Answer {
    let upload = read(request, &state).await?;
    if upload.metadata.migrations.is_some() {
        return Err(Refusal::new(400, 10_074, "migrations cannot be part of a version"));
    }
    let bindings = state.scripts.inside(&name, |script| {
        exports::check(script, &script.classes, &upload.code)?;
        resolve(script, &upload.metadata, &script.classes, &parameters)
    })?;
    let process = start(&state, &name, &upload, &bindings).await?;
    state.scripts.inside(&name, |script| {
        let id = script.add(&upload, bindings, Some(process)).id;
        Ok(success(script.version(id)?.described(&script.classes)))
    })
}

impl Script {
    /// Uploads and deploys; describes it.
    pub(super) fn replace(
        &mut self,
        name: &str,
        upload: &Upload,
        prepared: Prepared,
        process: Option<Arc<Process>>,
    ) -> Value {
        self.classes = prepared.classes;
        let containers = upload.metadata.containers.iter().map(|container| container.class_name.clone());
        self.container_classes.extend(containers.filter(|class| self.classes.contains_key(class)));
        if let Some(migrations) = &upload.metadata.migrations {
            self.migration_tag.clone_from(&migrations.new_tag);
        }
        self.tags.clone_from(&upload.metadata.tags);
        self.observability = upload.metadata.observability.clone();
        let version = self.add(upload, prepared.bindings, process);
        let id = version.id;
        let described = json!({
            "id": name, "etag": version.etag, "created_on": version.created_on, "modified_on": version.created_on,
            "handlers": ["fetch"], "has_modules": true, "startup_time_ms": 10, "migration_tag": self.migration_tag,
            "tags": self.tags, "entry_point": upload.code.main_module,
            // The id of the new version, and so wrangler reads it.
            "deployment_id": id.simple().to_string(),
        });
        self.deploy(vec![(id, 100.0)], Map::new());
        described
    }

    fn add(&mut self, upload: &Upload, bindings: Vec<Value>, process: Option<Arc<Process>>) -> &Version {
        let Metadata { annotations, compatibility_date, compatibility_flags, .. } = &upload.metadata;
        let version = Version {
            id: upload.id,
            number: self.versions.len() + 1,
            created_on: now(),
            source: "api",
            annotations: annotations.clone(),
            bindings,
            compatibility: json!({
                "compatibility_date": compatibility_date, "compatibility_flags": compatibility_flags,
                "usage_model": "standard"
            }),
            migration_tag: self.migration_tag.clone(),
            etag: upload.etag.clone(),
            code: Arc::clone(&upload.code),
            process,
        };
        self.versions.push(version);
        &self.versions[self.versions.len() - 1]
    }
}

/// The classes that a script has after its migrations.
fn migrated(script: &Script, migrations: Option<&Migrations>) -> Result<BTreeMap<String, String>, Refusal> {
    let mut classes = script.classes.clone();
    let Some(migrations) = migrations else { return Ok(classes) };
    if migrations.old_tag != script.migration_tag {
        let message = format!(
            "migration tag precondition failed; current tag is {:?}",
            script.migration_tag.as_deref().unwrap_or_default()
        );
        return Err(Refusal::new(412, 10_079, message));
    }
    let steps = migrations.steps.iter().flat_map(|step| &step.new_sqlite_classes);
    for class in steps.chain(&migrations.new_sqlite_classes) {
        if classes.contains_key(class) {
            return Err(Refusal::new(400, 10_074, format!("Cannot apply new-class migration to class '{class}'")));
        }
        classes.insert(class.clone(), Uuid::new_v4().simple().to_string());
    }
    Ok(classes)
}

/// The bindings of an upload, with what it inherits and keeps.
fn resolve(
    script: &Script,
    metadata: &Metadata,
    classes: &BTreeMap<String, String>,
    parameters: &Parameters,
) -> Result<Vec<Value>, Refusal> {
    let mut bindings = Vec::new();
    for binding in &metadata.bindings {
        match binding["type"].as_str() {
            Some("inherit") => match inherited(script, binding)? {
                Some(inherited) => bindings.push(inherited),
                None if parameters.bindings_inherit.as_deref() == Some("strict") => {
                    let message = format!("binding {} cannot be inherited", binding["name"]);
                    return Err(Refusal::new(400, 10_057, message));
                }
                None => {}
            },
            Some("durable_object_namespace") if !classes.contains_key(binding["class_name"].as_str().unwrap_or("")) => {
                let message = format!("Cannot create binding for class {} that does not exist", binding["class_name"]);
                return Err(Refusal::new(400, 10_061, message));
            }
            Some(_) => bindings.push(binding.clone()),
            None => return Err(Refusal::new(400, 10_021, "a binding has no type")),
        }
    }
    let kept = script.latest().into_iter().flat_map(|latest| &latest.bindings).filter(|kept| {
        metadata.keep_bindings.iter().any(|kind| kept["type"] == **kind)
            && !metadata.bindings.iter().any(|binding| binding["name"] == kept["name"])
    });
    bindings.extend(kept.cloned());
    Ok(bindings)
}

fn inherited(script: &Script, binding: &Value) -> Result<Option<Value>, Refusal> {
    let from = match binding["version_id"].as_str() {
        None | Some("latest") => script.latest(),
        Some(id) => Some(script.version(id.parse().map_err(|_| Refusal::new(400, 10_057, "a bad version id"))?)?),
    };
    let name = binding["old_name"].as_str().or(binding["name"].as_str());
    let found = from.and_then(|version| version.bindings.iter().find(|known| known["name"].as_str() == name));
    Ok(found.cloned().map(|mut found| {
        found["name"] = binding["name"].clone();
        found
    }))
}

/// Starts what was uploaded, with its bindings.
pub(super) async fn start(
    state: &State,
    name: &str,
    upload: &Upload,
    bindings: &[Value],
) -> Result<Arc<Process>, Refusal> {
    start_code(state, (name, upload.id), &upload.code, bindings).await
}

async fn start_code(
    state: &State,
    (script, version): (&str, Uuid),
    code: &Code,
    bindings: &[Value],
) -> Result<Arc<Process>, Refusal> {
    check_bound(state, bindings)?;
    let mut bindings = bindings.to_vec();
    if code.has_containers {
        bindings.push(state.containers.bridge());
    }
    let worker = Worker { code, bindings: &bindings };
    let plan = Plan { script, version, worker, outbound: None };
    state.runner.start(plan).await.map_err(|error| Refusal::new(400, 10_021, error.to_string()))
}

pub(super) async fn read(request: Request, state: &Arc<State>) -> Result<Upload, Refusal> {
    let bad = |message: String| Refusal::new(400, 10_021, message);
    let mut form = Multipart::from_request(request, state).await.map_err(|error| bad(error.to_string()))?;
    let (mut metadata, mut modules, mut content_types) = (None, BTreeMap::new(), BTreeMap::new());
    while let Some(field) = form.next_field().await.map_err(|error| bad(error.to_string()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let kind = field.content_type().map(str::to_owned);
        let content = field.bytes().await.map_err(|error| bad(error.to_string()))?;
        if name == "metadata" {
            metadata = Some(serde_json::from_slice::<Value>(&content).map_err(|error| bad(error.to_string()))?);
        } else {
            let content_type = kind.unwrap_or_default();
            if let Some(kind) = module_kind(&content_type) {
                modules.insert(name.clone(), Module { kind, content });
            }
            content_types.insert(name, content_type);
        }
    }
    let written = metadata.ok_or_else(|| bad("the form has no metadata".to_owned()))?;
    let metadata: Metadata = serde_json::from_value(written.clone()).map_err(|error| bad(error.to_string()))?;
    state.scripts.note(SeenUpload { metadata: written, modules: content_types });
    let main_module = metadata.main_module.clone().unwrap_or_default();
    if !modules.contains_key(&main_module) {
        return Err(bad(format!("No such module \"{main_module}\".")));
    }
    let parts = modules.iter().flat_map(|(name, module)| [name.as_bytes(), module.content.as_ref()]);
    let etag = Digest::of_parts(parts).to_string();
    let code = Code {
        main_module,
        modules,
        compatibility_date: metadata.compatibility_date.clone(),
        compatibility_flags: metadata.compatibility_flags.clone(),
        has_containers: !metadata.containers.is_empty(),
    };
    Ok(Upload { id: Uuid::new_v4(), metadata, code: Arc::new(code), etag })
}

/// Source maps are no modules.
fn module_kind(content_type: &str) -> Option<ModuleKind> {
    Some(match content_type {
        "application/javascript+module" => ModuleKind::EsModule,
        "application/wasm" => ModuleKind::Wasm,
        "text/plain" => ModuleKind::Text,
        "application/octet-stream" => ModuleKind::Data,
        "application/json" => ModuleKind::Json,
        _ => return None,
    })
}

/// A version like another one but for its secrets, not deployed.
pub(super) async fn vary(
    state: &State,
    name: &str,
    change: impl FnOnce(&mut Vec<Value>) + Send,
) -> Result<Uuid, Refusal> {
    let latest = |script: &mut Script| script.latest().cloned().ok_or_else(script_not_found);
    let mut version = state.scripts.inside(name, latest)?;
    change(&mut version.bindings);
    version.id = Uuid::new_v4();
    version.process = Some(start_code(state, (name, version.id), &version.code, &version.bindings).await?);
    state.scripts.inside(name, |script| {
        version.number = script.versions.len() + 1;
        version.created_on = now();
        version.source = "secret";
        version.annotations = Map::from_iter([("workers/triggered_by".to_owned(), json!("secret"))]);
        let id = version.id;
        script.versions.push(version);
        Ok(id)
    })
}
