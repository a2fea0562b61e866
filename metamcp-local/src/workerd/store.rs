//! What the publisher keeps on disk.
//!
//! ```text
//! modules/<digest>              large modules, once for all servers that share them
//! bundles/<artifact digest>     everything else of an artifact
//! servers/<server id>/
//!     server.json               id and name
//!     versions/<version>.json   digest of the artifact, time
//!     active                    the version that is served
//!     secrets.json  log.jsonl  state/
//! ```
//!
//! *Invariant:* every file is written whole before the one that names it: modules, then bundle, then version,
//! then `active`. A crash at any point leaves the old state or the new one, and perhaps files nobody names,
//! which the next [`Store::open`] removes. A file that cannot be read fails what needs it, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metamcp_core::{
    Artifact, Digest, Error, ErrorKind, PublishedVersion, Result, ServerId, ServerRef, VersionId, WorkerSettings,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::bundle::{self, Bundle};
use super::files::{self, storage_error};
use super::named::Named;
use super::secrets::Secrets;
use crate::owner::make_private_folder;

/// The publisher's files.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    /// Held while bundles are written together with what names them, or removed because nothing does.
    named: Mutex<Named>,
}

/// A server's versions, as far as they can be read.
#[derive(Debug, Default)]
struct Versions {
    readable: Vec<VersionFile>,
    are_all: bool,
}

/// A version as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionFile {
    pub(super) version: VersionId,
    pub(super) artifact: Digest,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
}

impl Store {
    /// Opens the store below a data directory and removes what a crash left over. What cannot be read stays.
    pub(super) fn open(root: &Path) -> Result<Self> {
        for folder in ["modules", "bundles", "servers"] {
            make_private_folder(&root.join(folder))?;
        }
        let store = Self { root: root.to_owned(), named: Mutex::default() };
        store.remove_unfinished()?;
        store.remove_unnamed(&mut store.named())?;
        Ok(store)
    }

    /// The data directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Every server that can be read.
    pub(super) fn servers(&self) -> Result<Vec<ServerRef>> {
        let ids = self.ids()?.into_iter();
        let read = ids.filter_map(|id| files::told(files::read_json::<ServerRef>(&self.server_path(id))).flatten());
        let mut servers: Vec<_> = read.collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(servers)
    }

    /// Whether there is something of a server, be it damaged.
    pub(super) fn has_files(&self, id: ServerId) -> Result<bool> {
        let folder = self.folder(id);
        folder.try_exists().map_err(|error| storage_error("look for", &folder, error))
    }

    /// Makes a server's folder, and its file anew where that is damaged. Idempotent.
    pub(super) fn put_server(&self, server: &ServerRef) -> Result<()> {
        make_private_folder(&self.folder(server.id).join("versions"))?;
        let path = self.server_path(server.id);
        if files::read_json_if_whole::<ServerRef>(&path)?.as_ref() == Some(server) {
            Ok(())
        } else {
            files::write_json(&path, server)
        }
    }

    /// Removes a server with everything that is its own: first the file that makes it one.
    pub(super) fn remove_server(&self, id: ServerId) -> Result<()> {
        let folder = self.folder(id);
        // Bundles of versions that cannot be read stay until the next start.
        let versions = files::told(self.version_files(id)).unwrap_or_default();
        files::remove(&self.server_path(id))?;
        files::remove_folder(&folder)?;
        self.release(&versions.readable)
    }

    /// Keeps an artifact as a new version of a server, which is made if it is new.
    ///
    /// `startable` hears of the version as soon as its process could be started: the rest reaches the disk
    /// meanwhile. Until it is there nothing may be made of the version.
    pub(super) fn put_version(
        &self,
        server: &ServerRef,
        artifact: &Artifact,
        startable: impl FnOnce(&VersionId),
    ) -> Result<VersionFile> {
        let mut named = self.named();
        let kept = self.write_version(server, artifact, startable);
        match &kept {
            Ok(file) => named.add(file.artifact, &bundle::modules_of(artifact)),
            // Nobody names what was written of it.
            Err(_) => self.remove_unnamed(&mut named)?,
        }
        kept
    }

    fn write_version(
        &self,
        server: &ServerRef,
        artifact: &Artifact,
        startable: impl FnOnce(&VersionId),
    ) -> Result<VersionFile> {
        let digest = artifact.digest();
        let created_at = OffsetDateTime::now_utc();
        let versions = self.folder(server.id).join("versions");
        make_private_folder(&versions)?;
        let version = unused_version(&versions, created_at, &digest)?;
        bundle::write_modules(&self.root, artifact)?;
        startable(&version);
        self.put_server(server)?;
        bundle::write(&self.root, digest, artifact)?;
        let file = VersionFile { version, artifact: digest, created_at };
        files::write_json(&versions.join(format!("{}.json", file.version)), &file)?;
        Ok(file)
    }

    /// A version's artifact, checked against its digest.
    pub(super) fn read_version(&self, id: ServerId, version: &VersionId) -> Result<Bundle> {
        bundle::read(&self.root, self.version_file(id, version)?.artifact)
    }

    /// A version's settings, without a look at the rest.
    pub(super) fn settings(&self, id: ServerId, version: &VersionId) -> Result<WorkerSettings> {
        bundle::settings(&self.root, self.version_file(id, version)?.artifact)
    }

    /// Removes a version; an absent one is fine.
    pub(super) fn remove_version(&self, id: ServerId, version: &VersionId) -> Result<()> {
        let path = self.version_path(id, version);
        let file = files::read_json::<VersionFile>(&path).unwrap_or_default();
        files::remove(&path)?;
        self.release(file.as_slice())
    }

    /// A server's versions that can be read, newest first.
    pub(super) fn versions(&self, id: ServerId) -> Result<Vec<PublishedVersion>> {
        let active = self.active(id)?;
        let mut versions: Vec<_> = self
            .version_files(id)?
            .readable
            .into_iter()
            .map(|file| PublishedVersion {
                active: active.as_ref() == Some(&file.version),
                version: file.version,
                artifact: file.artifact,
                created_at: file.created_at,
            })
            .collect();
        versions.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.version.cmp(&a.version)));
        Ok(versions)
    }

    /// Whether a server has this version.
    pub(super) fn has_version(&self, id: ServerId, version: &VersionId) -> Result<bool> {
        Ok(files::read(&self.version_path(id, version))?.is_some())
    }

    /// The version that is served; none where that cannot be told.
    pub(super) fn active(&self, id: ServerId) -> Result<Option<VersionId>> {
        files::read_json_if_whole(&self.folder(id).join("active"))
    }

    /// Says which version is served from now on.
    pub(super) fn set_active(&self, id: ServerId, version: &VersionId) -> Result<()> {
        files::write_json(&self.folder(id).join("active"), version)
    }

    /// A server's secrets, empty if none were set.
    pub(super) fn secrets(&self, id: ServerId) -> Result<Secrets> {
        let path = self.secrets_path(id);
        if let Some(secrets) = Secrets::read(&path)? {
            return Ok(secrets);
        }
        // The state key has to stay the same from the first start on.
        let secrets = Secrets::new();
        secrets.write(&path)?;
        Ok(secrets)
    }

    /// Names that have a value; none for an unknown server.
    pub(super) fn secret_names(&self, id: ServerId) -> Result<Vec<metamcp_core::EnvName>> {
        Ok(Secrets::read(&self.secrets_path(id))?.map(|secrets| secrets.names()).unwrap_or_default())
    }

    /// Keeps a server's secrets.
    pub(super) fn put_secrets(&self, id: ServerId, secrets: &Secrets) -> Result<()> {
        secrets.write(&self.secrets_path(id))
    }

    /// Where a server's log is kept.
    pub(super) fn log_path(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("log.jsonl")
    }

    /// Where a server's Durable Objects are kept.
    pub(super) fn state_folder(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("state")
    }

    fn folder(&self, id: ServerId) -> PathBuf {
        self.root.join("servers").join(id.to_string())
    }

    fn server_path(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("server.json")
    }

    fn secrets_path(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("secrets.json")
    }

    fn version_path(&self, id: ServerId, version: &VersionId) -> PathBuf {
        self.folder(id).join("versions").join(format!("{version}.json"))
    }

    fn version_file(&self, id: ServerId, version: &VersionId) -> Result<VersionFile> {
        files::read_json(&self.version_path(id, version))?.ok_or_else(|| unknown_version(version))
    }

    fn version_files(&self, id: ServerId) -> Result<Versions> {
        let folder = self.folder(id).join("versions");
        let mut versions = Versions { readable: Vec::new(), are_all: true };
        for name in names_in(&folder)?.iter().filter(|name| is_finished_json(name)) {
            let path = folder.join(name);
            let Some(bytes) = files::read(&path)? else { continue };
            let file = files::told(files::from_json(&path, &bytes));
            versions.are_all &= file.is_some();
            versions.readable.extend(file);
        }
        Ok(versions)
    }

    /// Ids of all servers that have a folder.
    fn ids(&self) -> Result<Vec<ServerId>> {
        let names = names_in(&self.root.join("servers"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok().map(ServerId)).collect())
    }

    /// Removes servers whose making or removal was cut off: folders without the file that makes them one.
    fn remove_unfinished(&self) -> Result<()> {
        for id in self.ids()? {
            if self.server_path(id).try_exists().is_ok_and(|exists| !exists)
                && let Err(error) = files::remove_folder(&self.folder(id))
            {
                tracing::warn!(%error, "what is left of a server that was removed stays until the next start");
            }
        }
        Ok(())
    }

    /// Removes the bundles of versions that are gone, and their modules, where nothing else names them.
    fn release(&self, versions: &[VersionFile]) -> Result<()> {
        let mut named = self.named();
        for bundle in versions.iter().map(|file| file.artifact) {
            if !named.release(&bundle) {
                continue;
            }
            for module in bundle::remove(&self.root, &bundle)? {
                if named.release_module(&module) {
                    bundle::remove_module(&self.root, &module)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at everything: counts what is named and removes bundles and modules that nothing names.
    fn remove_unnamed(&self, named: &mut Named) -> Result<()> {
        *named = Named::default();
        for id in self.ids()? {
            let versions = files::told(self.version_files(id)).unwrap_or_default();
            if !versions.are_all {
                named.keep_all();
            }
            for bundle in versions.readable.iter().map(|file| file.artifact) {
                self.count(named, bundle);
            }
        }
        bundle::remove_unnamed(&self.root, named)
    }

    /// Counts a version that names a bundle.
    fn count(&self, named: &mut Named, bundle: Digest) {
        let modules = if named.has(&bundle) {
            Some(BTreeSet::new())
        } else {
            files::told(bundle::kept_modules(&self.root, &bundle))
        };
        if modules.is_none() {
            named.keep_all();
        }
        named.add(bundle, &modules.unwrap_or_default());
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for a version that is not there.
pub(super) fn unknown_version(version: &VersionId) -> Error {
    Error::new(ErrorKind::NotFound, format!("version {version} does not exist"))
        .with_help("list the versions to see which exist")
}

/// Names in a folder, sorted; none if it is absent.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(storage_error("list", folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| storage_error("list", folder, error))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Files begin with a dot until they are whole.
fn is_finished_json(name: &str) -> bool {
    !name.starts_with('.') && Path::new(name).extension().is_some_and(|extension| extension == "json")
}

/// A name that sorts by time and tells what it holds.
fn unused_version(folder: &Path, at: OffsetDateTime, digest: &Digest) -> Result<VersionId> {
    let mut milliseconds = at.unix_timestamp_nanos() / 1_000_000;
    loop {
        let name = format!("v{milliseconds}-{}", digest.short(8));
        if !folder.join(format!("{name}.json")).exists() {
            return name.parse().map_err(|error| Error::new(ErrorKind::Unexpected, format!("{error}")));
        }
        milliseconds += 1;
    }
}
