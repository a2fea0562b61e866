//! Artifacts on disk, by digest, checked when they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use metamcp_core::{Artifact, Digest, Error, ErrorKind, Module, ModuleKind, Result, WorkerSettings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::ModuleSource;
use super::files;
use super::named::Named;
use super::store::names_in;

/// Modules from this size on get a file of their own, which servers share: the runtime is the same for all.
const OWN_FILE_BYTES: usize = 32 * 1024;

/// An artifact with the files its large modules are in.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) artifact: Artifact,
    module_files: BTreeMap<String, PathBuf>,
}

impl Bundle {
    /// An artifact that [`write`] has just kept.
    pub(super) fn of(root: &Path, artifact: Artifact) -> Self {
        let module_files = artifact
            .modules
            .iter()
            .filter(|(_, module)| has_own_file(module))
            .map(|(name, module)| (name.clone(), module_path(root, &Digest::of(&module.content))))
            .collect();
        Self { artifact, module_files }
    }

    /// Where each module's bytes are.
    pub(super) fn sources(&self) -> BTreeMap<String, ModuleSource<'_>> {
        let mut sources = BTreeMap::new();
        for (name, module) in &self.artifact.modules {
            let source = match self.module_files.get(name) {
                Some(path) => ModuleSource::File(module.kind, path),
                None => ModuleSource::Inline(module),
            };
            sources.insert(name.clone(), source);
        }
        sources
    }

    /// Files that workerd has to read.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.module_files.values().map(PathBuf::as_path)
    }
}

/// A bundle's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleFile {
    main_module: String,
    settings: WorkerSettings,
    modules: BTreeMap<String, KeptModule>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptModule {
    kind: ModuleKind,
    content: Content,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Content {
    Text(String),
    /// The bytes are in `modules/<digest>`.
    File(Digest),
}

/// Keeps the modules that get files of their own: what a process reads beside its configuration.
pub(super) fn write_modules(root: &Path, artifact: &Artifact) -> Result<()> {
    let mut own = artifact.modules.values().filter(|module| has_own_file(module));
    own.try_for_each(|module| write_module(root, &module.content).map(drop))
}

/// Keeps an artifact under its digest. What is there whole is not written again, what is damaged is.
pub(super) fn write(root: &Path, digest: Digest, artifact: &Artifact) -> Result<()> {
    let mut modules = BTreeMap::new();
    for (name, module) in &artifact.modules {
        let content = match std::str::from_utf8(&module.content) {
            Ok(text) if !has_own_file(module) => Content::Text(text.to_owned()),
            _ => Content::File(write_module(root, &module.content)?),
        };
        modules.insert(name.clone(), KeptModule { kind: module.kind, content });
    }
    let file = BundleFile { main_module: artifact.main_module.clone(), settings: artifact.settings.clone(), modules };
    let path = bundle_path(root, &digest);
    let text = serde_json::to_vec(&file)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "an artifact does not serialize").with_source(error))?;
    files::write_if_different(&path, &text)
}

/// An artifact by its digest; a damaged one is an error that says so.
pub(super) fn read(root: &Path, digest: Digest) -> Result<Bundle> {
    let path = bundle_path(root, &digest);
    let file: BundleFile = read_file(root, &digest)?;
    let mut modules = BTreeMap::new();
    for (name, kept) in file.modules {
        let content = match kept.content {
            Content::Text(text) => Bytes::from(text),
            Content::File(digest) => {
                let path = module_path(root, &digest);
                files::read(&path)?.map(Bytes::from).ok_or_else(|| damaged(&path, "is missing"))?
            }
        };
        modules.insert(name, Module { kind: kept.kind, content });
    }
    let artifact = Artifact { modules, main_module: file.main_module, settings: file.settings };
    if artifact.digest() != digest {
        return Err(damaged(&path, "does not have the content it was kept with"));
    }
    Ok(Bundle::of(root, artifact))
}

/// An artifact's settings, unchecked: enough to decide whether it is to be read.
pub(super) fn settings(root: &Path, digest: Digest) -> Result<WorkerSettings> {
    #[derive(Deserialize)]
    struct Settings {
        settings: WorkerSettings,
    }
    Ok(read_file::<Settings>(root, &digest)?.settings)
}

/// The modules of a kept artifact that have files of their own.
pub(super) fn kept_modules(root: &Path, digest: &Digest) -> Result<BTreeSet<String>> {
    Ok(module_digests(read_file(root, digest)?))
}

/// The modules of an artifact that have files of their own.
pub(super) fn modules_of(artifact: &Artifact) -> BTreeSet<String> {
    let own = artifact.modules.values().filter(|module| has_own_file(module));
    own.map(|module| Digest::of(&module.content).to_string()).collect()
}

/// Removes a bundle that nothing names; tells the modules it had. Those of a damaged one stay until the next start.
pub(super) fn remove(root: &Path, digest: &Digest) -> Result<BTreeSet<String>> {
    let path = bundle_path(root, digest);
    let file: Option<BundleFile> = files::read_json_if_whole(&path)?;
    files::remove(&path)?;
    Ok(file.map(module_digests).unwrap_or_default())
}

/// Removes a module that no bundle names.
pub(super) fn remove_module(root: &Path, name: &str) -> Result<()> {
    files::remove(&root.join("modules").join(name))
}

/// Removes bundles and modules that nothing names.
pub(super) fn remove_unnamed(root: &Path, named: &Named) -> Result<()> {
    let folder = root.join("bundles");
    for name in names_in(&folder)?.iter().filter(|name| named.is_unnamed(name)) {
        files::remove(&folder.join(name))?;
    }
    for name in names_in(&root.join("modules"))?.iter().filter(|name| named.is_unnamed_module(name)) {
        remove_module(root, name)?;
    }
    Ok(())
}

/// What is looked for of a bundle's file.
fn read_file<T: DeserializeOwned>(root: &Path, digest: &Digest) -> Result<T> {
    let path = bundle_path(root, digest);
    files::read_json(&path)?.ok_or_else(|| damaged(&path, "is missing"))
}

fn module_digests(file: BundleFile) -> BTreeSet<String> {
    let own = file.modules.into_values().filter_map(|module| match module.content {
        Content::File(digest) => Some(digest.to_string()),
        Content::Text(_) => None,
    });
    own.collect()
}

fn has_own_file(module: &Module) -> bool {
    module.content.len() >= OWN_FILE_BYTES || std::str::from_utf8(&module.content).is_err()
}

fn write_module(root: &Path, content: &[u8]) -> Result<Digest> {
    let digest = Digest::of(content);
    files::write_if_different(&module_path(root, &digest), content)?;
    Ok(digest)
}

fn bundle_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("bundles").join(digest.to_string())
}

fn module_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("modules").join(digest.to_string())
}

fn damaged(path: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::Unexpected, format!("artifact {} {problem}", path.display()))
        .with_help("deploy the server again")
}
