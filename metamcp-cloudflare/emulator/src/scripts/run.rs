//! Uploaded code in workerd, by the local publisher: each version a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{
    Artifact, DurableObjectClass, EffectiveLimits, Error, ErrorKind, Module, Publisher, ServerId, ServerName,
    ServerRef, WorkerSettings,
};
use metamcp_local::{DataDirectory, Isolation, LocalConfig, WorkerdConfig, WorkerdPublisher};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

/// What was uploaded, apart from its bindings.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) main_module: String,
    pub(super) modules: BTreeMap<String, Module>,
    pub(super) compatibility_date: String,
    pub(super) compatibility_flags: Vec<String>,
}

/// Starts versions; made when the first one is uploaded.
#[derive(Debug, Default)]
pub(super) struct Runner {
    local: OnceCell<Local>,
}

#[derive(Debug)]
struct Local {
    publisher: Arc<WorkerdPublisher>,
    _folder: TempDir,
}

/// Longer than any emulator runs.
const IDLE: Duration = Duration::from_secs(30 * 86_400);

impl Runner {
    /// Starts a version and returns its socket; what does not start is an error with its log.
    pub(super) async fn start(
        &self,
        toolchain: Option<&Path>,
        code: &Code,
        bindings: &[Value],
    ) -> Result<PathBuf, Error> {
        let local = self.local.get_or_try_init(|| open(toolchain)).await?;
        let id = Uuid::new_v4();
        let name: ServerName =
            format!("v{}", id.simple()).parse().map_err(|error| unexpected("a bad name").with_source(error))?;
        let artifact = Artifact {
            modules: code.modules.clone(),
            main_module: code.main_module.clone(),
            settings: settings(name.clone(), code, bindings),
        };
        let staged = local.publisher.stage(&ServerRef { id: ServerId(id), name }, &artifact).await?;
        staged.preview.and_then(|preview| preview.socket).ok_or_else(|| unexpected("no socket"))
    }
}

async fn open(toolchain: Option<&Path>) -> Result<Local, Error> {
    let folder = tempfile::tempdir()
        .map_err(|error| Error::new(ErrorKind::Unavailable, "the emulator can make no folder").with_source(error))?;
    let mut local =
        LocalConfig::new(folder.path().join("data")).with_idle_timeout(IDLE).with_isolation(Isolation::Process);
    if let Some(toolchain) = toolchain {
        local = local.with_toolchain_dir(toolchain);
    }
    let workerd = Toolchain::install(&local.toolchain_folder()?).await?.workerd();
    let directory = Arc::new(DataDirectory::open(&local.data_dir)?);
    let publisher = WorkerdPublisher::open(WorkerdConfig { workerd, directory, local }).await?;
    Ok(Local { publisher, _folder: folder })
}

/// Texts, JSON, secrets and Durable Objects are bound; what else is bound the script does not see here.
fn settings(name: ServerName, code: &Code, bindings: &[Value]) -> WorkerSettings {
    let mut vars = BTreeMap::new();
    let mut durable_objects = Vec::new();
    for binding in bindings {
        let text = |field: &str| binding[field].as_str().unwrap_or_default().to_owned();
        let value = match binding["type"].as_str().unwrap_or_default() {
            // Nothing of the emulator outlives it, so a secret may be an ordinary variable.
            "plain_text" | "secret_text" => binding["text"].clone(),
            "json" => binding["json"].clone(),
            "durable_object_namespace" => {
                durable_objects.push(DurableObjectClass { binding: text("name"), class_name: text("class_name") });
                continue;
            }
            _ => continue,
        };
        // The local target brings its own key.
        if binding["name"] != "METAMCP_STATE_KEY"
            && let Ok(name) = text("name").parse()
        {
            vars.insert(name, value);
        }
    }
    WorkerSettings {
        name,
        compatibility_date: code.compatibility_date.clone(),
        compatibility_flags: code.compatibility_flags.clone(),
        vars,
        secrets: Vec::new(),
        bearer_secret: None,
        bindings: BTreeMap::new(),
        durable_objects,
        crons: Vec::new(),
        egress: None,
        limits: EffectiveLimits::default(),
        tool_timeouts_ms: BTreeMap::new(),
        dependencies: BTreeMap::new(),
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Unexpected, format!("the emulator gave a version {what}"))
}
