//! What builds with npm packages leave on disk: the lock file, so that a rebuild gives the same bytes, and the
//! bundled modules, so that a change of a body needs no container.
//!
//! ```text
//! packages/<digest of the dependencies>/package-lock.json
//! packages/<digest of the dependencies>/<digest of imports and image>.json
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use metamcp_core::{Digest, Module, Result};

use crate::owner::make_private_folder;
use crate::workerd::{files, storage_error};

/// Most bundles that are kept.
const MAX_BUNDLES: usize = 200;
/// Name of npm's lock file.
const LOCK_FILE: &str = "package-lock.json";

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

    /// The bundled modules; a damaged file counts as none. Their time is that of the last use.
    pub(super) fn modules(&self) -> Option<BTreeMap<String, Module>> {
        let found = files::read_json(&self.bundle).unwrap_or_else(|error| {
            tracing::warn!(%error, "bundled packages are built again");
            None
        });
        if found.is_some()
            && let Err(error) =
                File::options().append(true).open(&self.bundle).and_then(|file| file.set_modified(SystemTime::now()))
        {
            tracing::debug!(%error, "the last use of bundled packages is not written down");
        }
        found
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
        self.folder.join(LOCK_FILE)
    }
}

/// Removes bundles that nobody used for `age`, and the oldest beyond a number. Lock files stay: with them the packages
/// of a version that is still kept are the same ones again.
pub(super) fn remove_unused(folder: &Path, age: Duration) -> Result<()> {
    let root = folder.join("packages");
    let mut bundles = Vec::new();
    for set in entries(&root)? {
        for file in entries(&set)?.into_iter().filter(|file| !file.ends_with(LOCK_FILE)) {
            let used = fs::metadata(&file).and_then(|metadata| metadata.modified());
            bundles.push((used.map_err(|error| storage_error("read", &file, error))?, file));
        }
    }
    bundles.sort_by(|left, right| right.cmp(left));
    for (index, (used, file)) in bundles.into_iter().enumerate() {
        if index >= MAX_BUNDLES || used.elapsed().unwrap_or_default() > age {
            fs::remove_file(&file).map_err(|error| storage_error("remove", &file, error))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| storage_error("list", folder, error))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(|error| storage_error("list", folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_used_for_long_is_removed_and_lock_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dependencies = BTreeMap::from([("is-odd".to_owned(), "3.0.1".to_owned())]);
        let (used, unused) = (BTreeSet::from(["is-odd".to_owned()]), BTreeSet::new());
        let kept = |imports| {
            let set = PackageSet { dependencies: &dependencies, imports };
            KeptPackages::of(folder.path(), &set, Digest::of("an image"))
        };
        for packages in [kept(&used), kept(&unused)] {
            packages.keep(b"{}", &BTreeMap::new()).unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(1000);
            File::options().append(true).open(&packages.bundle).unwrap().set_modified(long_ago).unwrap();
        }
        kept(&used).modules().unwrap();
        remove_unused(folder.path(), Duration::from_secs(500)).unwrap();
        assert!(kept(&used).modules().is_some());
        assert!(kept(&unused).modules().is_none());
        assert!(kept(&unused).lockfile().unwrap().is_some());
    }
}
