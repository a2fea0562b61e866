//! What builds with npm packages leave on disk: the lock file, so that a rebuild gives the same bytes, and the
//! bundled modules, so that a change of a body needs no container.
//!
//! ```text
//! packages/<digest of the dependencies>/package-lock.json
//! packages/<digest of the dependencies>/<digest of imports and image>.json
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use metamcp_core::{Digest, Module, Result};

use crate::owner::make_private_folder;
use crate::workerd::files;

/// What a server needs of npm.
#[derive(Debug)]
pub(super) struct PackageSet<'a> {
    pub(super) dependencies: &'a BTreeMap<String, String>,
    /// What bodies import of them.
    pub(super) imports: &'a BTreeSet<String>,
}

/// Where a set is kept.
#[derive(Debug)]
pub(super) struct KeptPackages {
    folder: PathBuf,
    bundle: PathBuf,
}

impl KeptPackages {
    pub(super) fn of(folder: &Path, set: &PackageSet<'_>, fingerprint: Digest) -> Self {
        let parts = set.dependencies.iter().flat_map(|(name, version)| [name.as_bytes(), version.as_bytes()]);
        let folder = folder.join("packages").join(Digest::of_parts(parts).short(32));
        let fingerprint = fingerprint.to_string();
        let parts = set.imports.iter().map(String::as_bytes).chain([fingerprint.as_bytes()]);
        let bundle = folder.join(format!("{}.json", Digest::of_parts(parts).short(32)));
        Self { folder, bundle }
    }

    /// The bundled modules; a damaged file counts as none.
    pub(super) fn modules(&self) -> Option<BTreeMap<String, Module>> {
        files::read_json(&self.bundle).unwrap_or_else(|error| {
            tracing::warn!(%error, "bundled packages are built again");
            None
        })
    }

    /// The lock file of an earlier build.
    pub(super) fn lockfile(&self) -> Result<Option<Bytes>> {
        Ok(files::read(&self.lock_path())?.map(Bytes::from))
    }

    /// Keeps what was built; the lock file first, since the modules are made from it.
    pub(super) fn keep(&self, lockfile: &[u8], modules: &BTreeMap<String, Module>) -> Result<()> {
        make_private_folder(&self.folder)?;
        files::write_if_different(&self.lock_path(), lockfile)?;
        files::write_json(&self.bundle, modules)
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("package-lock.json")
    }
}
