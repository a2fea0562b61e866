//! The folder of the running processes: one folder each, with its configuration and its socket.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use metamcp_core::{Digest, Error, ErrorKind, Result};

use super::files::{self, storage_error};
use super::store::names_in;
use crate::owner::DataDirectory;

/// Longest path of this folder: below it stand `/<12 digits>/s`, and a socket's path may have 103 bytes on macOS.
const MAX_PATH_BYTES: usize = 80;

/// Where the folder is: in the data directory, or below `/tmp` if that path is too long for sockets.
pub(super) fn path(directory: &DataDirectory) -> Result<PathBuf> {
    let inside = directory.path().join("run");
    if inside.as_os_str().len() <= MAX_PATH_BYTES {
        return Ok(inside);
    }
    let name = Digest::of(directory.path().as_os_str().as_encoded_bytes()).short(16);
    let temporary =
        Path::new("/tmp").canonicalize().map_err(|error| storage_error("open", Path::new("/tmp"), error))?;
    Ok(temporary.join(format!("metamcp-{name}")))
}

/// Makes the folder so that only its user can enter it, and empties it. Below `/tmp` somebody else may have made
/// it first: then it is not used.
pub(super) fn make_empty(path: &Path, user: u32) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(storage_error("make", path, error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(|error| storage_error("read", path, error))?;
    if !metadata.is_dir() || metadata.uid() != user {
        let message = format!("{} belongs to another user", path.display());
        return Err(
            Error::new(ErrorKind::ConfigInvalid, message).with_help("choose a data directory with a shorter path")
        );
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|error| storage_error("narrow", path, error))?;
    for name in names_in(path)? {
        files::remove_folder(&path.join(name))?;
    }
    Ok(())
}

/// A process's folder, which only its user can enter; removed again unless a process took it over.
#[derive(Debug)]
pub(super) struct NewFolder {
    path: PathBuf,
    is_kept: bool,
}

impl NewFolder {
    pub(super) fn make(path: PathBuf) -> Result<Self> {
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| storage_error("make", &path, error))?;
        Ok(Self { path, is_kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves its removal to the caller.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = files::remove_folder(&self.path)
        {
            tracing::warn!(%error, "a process's folder could not be removed");
        }
    }
}
