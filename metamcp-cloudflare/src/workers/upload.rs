//! What an upload says: the multipart form's `metadata` as typed data, and the modules.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use metamcp_core::{
    Artifact, Binding, BindingKind, COMPATIBILITY_DATE, Digest, EnvName, Error, ErrorKind, Module, ModuleKind, Result,
    VersionId,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::FormPart;

/// Binding of the key that signs what a server hands its clients to bring back.
pub(super) const STATE_KEY: &str = "METAMCP_STATE_KEY";
/// Binding of the key that a server with `auth` takes beside its own.
pub(super) const CHECK_KEY: &str = "METAMCP_CHECK_KEY";
/// Binding of the version's name, which its `/health` tells.
const VERSION: &str = "METAMCP_VERSION";
/// Annotation that names the version of ours an upload belongs to.
pub(super) const VERSION_ANNOTATION: &str = "workers/tag";
/// What the annotation says of the placeholder.
pub(super) const PLACEHOLDER_VERSION: &str = "metamcp-placeholder";
/// Annotation that tells which secrets an upload has.
pub(super) const SECRETS_ANNOTATION: &str = "workers/message";

/// Answers until a version is live, so that versions can be uploaded without being deployed.
const PLACEHOLDER: &str = "export default { fetch: (request) => new URL(request.url).pathname === \"/health\" \
     ? new Response(\"ok\") : new Response(\"no version of this server is live\", { status: 503 }) };\n";

/// One upload of a version.
#[derive(Debug)]
pub(super) struct Upload {
    metadata: Metadata,
    modules: Vec<(String, Module)>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    main_module: String,
    compatibility_date: String,
    compatibility_flags: Vec<String>,
    bindings: Vec<Value>,
    /// Secrets that are not sent again are dropped, unless their kind is named here.
    keep_bindings: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<Migrations>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct ScriptMetadata<'a> {
    #[serde(flatten)]
    version: &'a Metadata,
    observability: Value,
}

/// New Durable Object classes.
#[derive(Debug, Serialize)]
pub(super) struct Migrations {
    #[serde(skip_serializing_if = "Option::is_none")]
    old_tag: Option<String>,
    new_tag: String,
    steps: Vec<Value>,
}

impl Migrations {
    /// The step from a script's present tag to one with these classes. wrangler's first tag is `v1`, and so is ours.
    pub(super) fn adding(classes: &BTreeSet<&str>, old_tag: Option<String>) -> Self {
        let number = |tag: &str| tag.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        let next = old_tag.as_deref().map_or(1, |tag| number(tag).unwrap_or(1) + 1);
        Self { old_tag, new_tag: format!("v{next}"), steps: vec![json!({ "new_sqlite_classes": classes })] }
    }
}

impl Upload {
    /// A version with its present bindings; secrets stay as they are in the newest upload.
    pub(super) fn of(artifact: &Artifact, version: &VersionId, secrets: &str) -> Self {
        let settings = &artifact.settings;
        let metadata = Metadata {
            main_module: artifact.main_module.clone(),
            compatibility_date: settings.compatibility_date.clone(),
            compatibility_flags: settings.compatibility_flags.clone(),
            bindings: bindings(artifact, version),
            keep_bindings: vec!["secret_text"],
            migrations: None,
            tags: Vec::new(),
            annotations: annotations(version.as_str(), secrets),
        };
        let modules = artifact.modules.iter().map(|(name, module)| (name.clone(), uploadable(module))).collect();
        Self { metadata, modules }
    }

    /// What stands where no version is live yet, with a state key of its own.
    pub(super) fn placeholder(compatibility_date: &str, secrets: &str) -> Self {
        let metadata = Metadata {
            main_module: "index.js".to_owned(),
            compatibility_date: compatibility_date.to_owned(),
            compatibility_flags: Vec::new(),
            bindings: Vec::new(),
            keep_bindings: vec!["secret_text"],
            migrations: None,
            tags: Vec::new(),
            annotations: annotations(PLACEHOLDER_VERSION, secrets),
        };
        let module = Module { kind: ModuleKind::EsModule, content: PLACEHOLDER.into() };
        Self { metadata, modules: vec![("index.js".to_owned(), module)] }
    }

    /// A Worker of one module that serves the servers, and is none.
    pub(super) fn of_source(source: &'static str, bindings: Vec<Value>) -> Self {
        let metadata = Metadata {
            main_module: "index.js".to_owned(),
            compatibility_date: COMPATIBILITY_DATE.to_owned(),
            compatibility_flags: Vec::new(),
            bindings,
            keep_bindings: Vec::new(),
            migrations: None,
            tags: Vec::new(),
            annotations: BTreeMap::new(),
        };
        let module = Module { kind: ModuleKind::EsModule, content: source.into() };
        Self { metadata, modules: vec![("index.js".to_owned(), module)] }
    }

    /// Whether what was uploaded with these annotations is this.
    pub(super) fn carries(&self, annotations: &BTreeMap<String, String>) -> bool {
        self.metadata.annotations.iter().all(|(name, value)| annotations.get(*name) == Some(value))
    }

    /// With a further module, by the name that others import it by.
    pub(super) fn with_source(mut self, name: &str, source: &'static str) -> Self {
        self.modules.push((name.to_owned(), Module { kind: ModuleKind::EsModule, content: source.into() }));
        self
    }

    /// Tells this upload from others: its metadata and modules.
    pub(super) fn digest(&self) -> Digest {
        let parts = self.script_parts();
        Digest::of_parts(parts.iter().map(|part| part.content.as_ref()))
    }

    /// Marks the script as ours; for uploads that make or replace a script.
    pub(super) fn with_tag(mut self, tag: String) -> Self {
        self.metadata.tags.push(tag);
        self
    }

    /// Adds Durable Object classes; for uploads that replace a script.
    pub(super) fn with_migrations(mut self, migrations: Migrations) -> Self {
        self.metadata.migrations = Some(migrations);
        self
    }

    /// Sets a secret.
    pub(super) fn with_secret(mut self, name: &str, value: &SecretString) -> Self {
        self.metadata.bindings.push(json!({ "type": "secret_text", "name": name, "text": value.expose_secret() }));
        self
    }

    /// A new key for what the server signs.
    pub(super) fn with_new_state_key(self) -> Self {
        let key = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        self.with_secret(STATE_KEY, &STANDARD.encode(key).into())
    }

    /// Keeps these secrets of the newest upload and no others.
    pub(super) fn keeping_only<'a>(mut self, secrets: impl Iterator<Item = &'a str>) -> Self {
        self.metadata.keep_bindings.clear();
        for name in secrets {
            if self.metadata.bindings.iter().all(|binding| binding["name"] != *name) {
                self.metadata.bindings.push(json!({ "type": "inherit", "name": name }));
            }
        }
        self
    }

    /// The form of a version.
    pub(super) fn parts(&self) -> Vec<FormPart> {
        self.form(&self.metadata)
    }

    /// The form of a whole script: also with what no version holds.
    pub(super) fn script_parts(&self) -> Vec<FormPart> {
        self.form(&ScriptMetadata { version: &self.metadata, observability: json!({ "enabled": true }) })
    }

    /// As wrangler sends it: the metadata as a plain field, then each module as a file.
    fn form(&self, metadata: &impl Serialize) -> Vec<FormPart> {
        let metadata = serde_json::to_vec(metadata).unwrap_or_default();
        let metadata = FormPart { name: "metadata".to_owned(), file: None, content: metadata.into() };
        let modules = self.modules.iter().map(|(name, module)| FormPart {
            name: name.clone(),
            file: Some((name.clone(), content_type(module.kind))),
            content: module.content.clone(),
        });
        std::iter::once(metadata).chain(modules).collect()
    }
}

/// Where a version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    AccountScript,
    DispatchNamespace,
}

/// Refuses settings a target cannot offer, naming every one of them.
pub(super) fn check_supported(artifact: &Artifact, target: Target, private: &[String]) -> Result<()> {
    let settings = &artifact.settings;
    let mut problems = Vec::new();
    let whose = match target {
        Target::AccountScript => {
            if settings.egress.is_some() {
                problems.push(
                    "`egress` (only a dispatch namespace has an outbound Worker that could enforce it)".to_owned(),
                );
            }
            "a Cloudflare account"
        }
        Target::DispatchNamespace => {
            if settings.has_durable_state() {
                problems.push("Durable Objects, which `sessions` and some templates need".to_owned());
            }
            if settings.egress.is_some() {
                let browsers = settings.bindings.iter().filter(|(_, binding)| binding.kind == BindingKind::Browser);
                problems.extend(
                    browsers.map(|(name, _)| format!("binding {name} with `egress`, which a browser does not keep to")),
                );
            }
            "a dispatch namespace"
        }
    };
    let unknown =
        settings.bindings.iter().filter(|(name, binding)| !binding.optional && resource(name, binding).is_none());
    problems.extend(unknown.map(|(name, _)| format!("binding {name}")));
    let own = settings.bindings.iter().filter(|(name, binding)| {
        let target = binding.target.as_deref().unwrap_or(name.as_str());
        private.iter().any(|private| private == target)
    });
    problems.extend(own.map(|(name, _)| format!("binding {name}, whose target Meta-MCP keeps to itself")));
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("scripts of {whose} do not offer {}", problems.join(", "));
    Err(Error::new(ErrorKind::Unsupported, message).with_help("remove it from the definition"))
}

fn bindings(artifact: &Artifact, version: &VersionId) -> Vec<Value> {
    let settings = &artifact.settings;
    let vars = settings.vars.iter().map(|(name, value)| match value {
        Value::String(text) => json!({ "type": "plain_text", "name": name, "text": text }),
        value => json!({ "type": "json", "name": name, "json": value }),
    });
    let resources = settings.bindings.iter().filter_map(|(name, binding)| resource(name, binding));
    let objects = settings.durable_objects.iter().map(
        |object| json!({ "type": "durable_object_namespace", "name": object.binding, "class_name": object.class_name }),
    );
    let version = settings.tells_version.then(|| json!({ "type": "plain_text", "name": VERSION, "text": version }));
    vars.chain(resources).chain(objects).chain(version).collect()
}

/// A resource's binding; `None` for a kind that is not known here.
fn resource(name: &EnvName, binding: &Binding) -> Option<Value> {
    let target = binding.target.as_deref().unwrap_or(name.as_str());
    Some(match binding.kind {
        BindingKind::Kv => json!({ "type": "kv_namespace", "name": name, "namespace_id": target }),
        BindingKind::D1 => json!({ "type": "d1", "name": name, "database_id": target }),
        BindingKind::R2 => json!({ "type": "r2_bucket", "name": name, "bucket_name": target }),
        BindingKind::Service => json!({ "type": "service", "name": name, "service": target }),
        BindingKind::Vectorize => json!({ "type": "vectorize", "name": name, "index_name": target }),
        BindingKind::Queue => json!({ "type": "queue", "name": name, "queue_name": target }),
        BindingKind::Ai => json!({ "type": "ai", "name": name }),
        BindingKind::Images => json!({ "type": "images", "name": name }),
        BindingKind::Browser => json!({ "type": "browser", "name": name }),
        _ => return None,
    })
}

fn annotations(version: &str, secrets: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(VERSION_ANNOTATION, version.to_owned()), (SECRETS_ANNOTATION, secrets.to_owned())])
}

/// Uploads know no JSON modules: such a one becomes a script that gives the same value.
fn uploadable(module: &Module) -> Module {
    if module.kind != ModuleKind::Json {
        return module.clone();
    }
    // As a text, since an object literal would take a key `__proto__` for its prototype.
    let text = json!(String::from_utf8_lossy(&module.content));
    Module { kind: ModuleKind::EsModule, content: format!("export default JSON.parse({text});\n").into() }
}

fn content_type(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::EsModule | ModuleKind::Json => "application/javascript+module",
        ModuleKind::Wasm => "application/wasm",
        ModuleKind::Text => "text/plain",
        ModuleKind::Data => "application/octet-stream",
    }
}
