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

use super::run::Code;
use super::{Script, Version, now, script_not_found};
use crate::State;
use crate::answer::{Answer, Refusal, success};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/workers/scripts/{script}", put(put_script))
        .route("/workers/scripts/{script}/versions", post(add_version))
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
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
    tags: Vec<String>,
    #[serde(default)]
    annotations: Map<String, Value>,
    #[serde(default)]
    observability: Value,
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

struct Upload {
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
    let (mut classes, bindings) = state.scripts.with(|scripts| {
        let fresh = Script::default();
        let script = scripts.get(&name).unwrap_or(&fresh);
        let classes = migrated(script, upload.metadata.migrations.as_ref())?;
        let bindings = resolve(script, &upload.metadata, &classes, &parameters)?;
        Ok::<_, Refusal>((classes, bindings))
    })?;
    let socket = start(&state, &upload, &bindings).await?;
    state.scripts.with(|scripts| {
        let script = scripts.entry(name.clone()).or_default();
        script.classes.append(&mut classes);
        if let Some(migrations) = &upload.metadata.migrations {
            script.migration_tag.clone_from(&migrations.new_tag);
        }
        script.tags.clone_from(&upload.metadata.tags);
        script.observability = upload.metadata.observability.clone();
        let version = script.add(&upload, bindings, socket);
        let id = version.id;
        let described = json!({
            "id": name, "etag": version.etag, "created_on": version.created_on, "modified_on": version.created_on,
            "handlers": ["fetch"], "has_modules": true, "startup_time_ms": 10, "migration_tag": script.migration_tag,
            "tags": script.tags, "entry_point": upload.code.main_module,
            // The id of the new version, and so wrangler reads it.
            "deployment_id": id.simple().to_string(),
        });
        script.deploy(vec![(id, 100.0)], Map::new());
        Ok(success(described))
    })
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
    let bindings =
        state.scripts.inside(&name, |script| resolve(script, &upload.metadata, &script.classes, &parameters))?;
    let socket = start(&state, &upload, &bindings).await?;
    state.scripts.inside(&name, |script| {
        let id = script.add(&upload, bindings, socket).id;
        Ok(success(script.version(id)?.described(&script.classes)))
    })
}

impl Script {
    fn add(&mut self, upload: &Upload, bindings: Vec<Value>, socket: std::path::PathBuf) -> &Version {
        let Metadata { annotations, compatibility_date, compatibility_flags, .. } = &upload.metadata;
        let version = Version {
            id: Uuid::new_v4(),
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
            socket,
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

async fn start(state: &State, upload: &Upload, bindings: &[Value]) -> Result<std::path::PathBuf, Refusal> {
    let runner = &state.scripts.runner;
    let started = runner.start(state.toolchain_dir.as_deref(), &upload.code, bindings).await;
    started.map_err(|error| Refusal::new(400, 10_021, error.to_string()))
}

async fn read(request: Request, state: &Arc<State>) -> Result<Upload, Refusal> {
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
    };
    Ok(Upload { metadata, code: Arc::new(code), etag })
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

impl super::Scripts {
    /// A version like another one but for its secrets, not deployed.
    pub(super) async fn vary(
        &self,
        toolchain: Option<&std::path::Path>,
        name: &str,
        change: impl FnOnce(&mut Vec<Value>) + Send,
    ) -> Result<Uuid, Refusal> {
        let mut version =
            self.with(|scripts| scripts.get(name).and_then(Script::latest).cloned().ok_or_else(script_not_found))?;
        change(&mut version.bindings);
        let started = self.runner.start(toolchain, &version.code, &version.bindings).await;
        version.socket = started.map_err(|error| Refusal::new(400, 10_021, error.to_string()))?;
        self.inside(name, |script| {
            version.id = Uuid::new_v4();
            version.number = script.versions.len() + 1;
            version.created_on = now();
            version.source = "secret";
            version.annotations = Map::from_iter([("workers/triggered_by".to_owned(), json!("secret"))]);
            let id = version.id;
            script.versions.push(version);
            Ok(id)
        })
    }
}
