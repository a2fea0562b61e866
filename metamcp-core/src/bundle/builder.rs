//! [`BundleBuilder`]: bundles the runtime once, then builds servers by copying.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::Toolchain;
use super::esbuild::Scratch;
use crate::artifact::{Artifact, Module, ModuleKind};
use crate::builder::Builder;
use crate::codegen::{BODIES_FOLDER, BODIES_PATH, DEFINITION_PATH, ENTRY_PATH};
use crate::settings::WorkerSettings;
use crate::source_tree::SourceTree;
use crate::{Digest, Error, ErrorKind, Result};

/// The bundled runtime's name among the modules; the others keep theirs, relative to `src/`.
const MAIN_MODULE: &str = "runtime.js";
/// Not `workerd`: under that condition the SDK builds the schemas of every revision while it loads, since Cloudflare
/// does not bill that time. Here somebody waits for it: a start takes a fifth less without, and the first call
/// builds what it needs.
const CONDITIONS: &str = "--conditions=worker,browser";
/// Builds servers without npm dependencies, without npm and without a container.
#[derive(Debug)]
pub struct BundleBuilder {
    toolchain: Toolchain,
    /// Bundled runtimes by the digest of their source. The lock is held while one is bundled, so that a burst of
    /// first builds runs esbuild once.
    runtimes: Mutex<HashMap<Digest, Bytes>>,
}

impl BundleBuilder {
    /// A builder that uses an installed toolchain.
    pub fn new(toolchain: Toolchain) -> Self {
        Self { toolchain, runtimes: Mutex::default() }
    }

    /// A server's artifact without the npm packages that its bodies import: for a builder that adds them.
    pub async fn own_modules(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        let mut modules = BTreeMap::new();
        modules.insert(MAIN_MODULE.to_owned(), module(ModuleKind::EsModule, self.runtime(source).await?));
        for (path, content) in source.iter() {
            let kind = match path {
                DEFINITION_PATH => ModuleKind::Json,
                BODIES_PATH => ModuleKind::EsModule,
                _ if path.starts_with(BODIES_FOLDER) => ModuleKind::EsModule,
                _ => continue,
            };
            modules.insert(path["src/".len()..].to_owned(), module(kind, content.clone()));
        }
        Ok(Artifact { modules, main_module: MAIN_MODULE.to_owned(), settings: settings.clone() })
    }

    async fn runtime(&self, source: &SourceTree) -> Result<Bytes> {
        let files: Vec<_> = source.iter().filter(|(path, _)| is_runtime(path)).collect();
        let parts = files.iter().flat_map(|(path, content)| [path.as_bytes(), content.as_ref()]);
        let digest = Digest::of_parts(parts.chain([CONDITIONS.as_bytes()]));
        let mut runtimes = self.runtimes.lock().await;
        if let Some(runtime) = runtimes.get(&digest) {
            return Ok(runtime.clone());
        }
        let path = self.toolchain.folder().join(format!("runtime-{}.js", digest.short(16)));
        let runtime = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(_) => self.bundle(&files, &path).await?,
        };
        let runtime = Bytes::from(runtime);
        runtimes.insert(digest, runtime.clone());
        Ok(runtime)
    }

    /// Bundles in a scratch folder below the toolchain's, where the SDK is found, and moves the result to `path`:
    /// a reader sees a whole file or none.
    async fn bundle(&self, files: &[(&str, &Bytes)], path: &Path) -> Result<Vec<u8>> {
        let scratch = Scratch::new(&self.toolchain).await?;
        scratch.write(files.iter().map(|(path, content)| (*path, content.as_ref()))).await?;
        let options = ["--minify", CONDITIONS, "--external:./bodies.js", "--external:./definition.json"];
        scratch.bundle(ENTRY_PATH, &options, path).await
    }
}

#[async_trait]
impl Builder for BundleBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        if !settings.dependencies.is_empty() {
            let names: Vec<_> = settings.dependencies.keys().map(String::as_str).collect();
            let message = format!("npm dependencies need a container to be installed in: {}", names.join(", "));
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("remove `dependencies`, or use a container builder"));
        }
        self.own_modules(source, settings).await
    }

    /// `None`: copying costs less than reading a cache.
    fn fingerprint(&self) -> Option<String> {
        None
    }
}

/// What is the same for all servers of a template: its TypeScript.
fn is_runtime(path: &str) -> bool {
    let is_typescript = Path::new(path).extension().is_some_and(|extension| extension == "ts");
    (path.starts_with("src/") && is_typescript) || path == "tsconfig.json"
}

fn module(kind: ModuleKind, content: Bytes) -> Module {
    Module { kind, content }
}
