//! [`DataDirectory`]: a folder with one owner at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use metamcp_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::workerd::storage_error;

/// A data directory that this process owns as long as the value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    user: u32,
    lock: File,
}

/// What the lock file says about its holder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    pid: u32,
    program: String,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

impl DataDirectory {
    /// Takes the directory, making it with mode 0700 if it is absent.
    /// [`ErrorKind::Conflict`] names the process that owns it already.
    pub fn open(path: &Path) -> Result<Self> {
        make_private_folder(path)?;
        let path = path.canonicalize().map_err(|error| storage_error("open", path, error))?;
        let lock_path = path.join("owner.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| storage_error("open", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(owned_by_other(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(storage_error("lock", &lock_path, error)),
        }
        write_owner(&mut lock).map_err(|error| storage_error("write", &lock_path, error))?;
        let user = lock.metadata().map_err(|error| storage_error("read", &lock_path, error))?.uid();
        Ok(Self { path, user, lock })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user whose files are in it.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }
}

/// Closing the file is not enough: a process that another thread is about to start has a copy of it until it runs its
/// program, and the lock with it.
impl Drop for DataDirectory {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, path = %self.path.display(), "the data directory is given back late");
        }
    }
}

/// Longest path of a socket, on macOS; Linux takes four bytes more.
const MAX_SOCKET_PATH: usize = 103;

/// The Unix socket at which the owner of a data directory can let other programs of its user in, such as a second
/// stdio process. Who owns the directory binds it, over one that a crash left.
///
/// [`ErrorKind::ConfigInvalid`] if the path would be too long for a socket.
pub fn control_socket(data_dir: &Path) -> Result<PathBuf> {
    let path = data_dir.join("control.sock");
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(path);
    }
    let message = format!("{} is too long for a socket's path", path.display());
    Err(Error::new(ErrorKind::ConfigInvalid, message).with_help("choose a data directory with a shorter path"))
}

/// Makes a folder, with its parents, that only its user can enter; narrows one that is there.
pub(crate) fn make_private_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .map_err(|error| storage_error("make", path, error))
}

fn write_owner(lock: &mut File) -> std::io::Result<()> {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "unknown program".to_owned());
    let owner = Owner { pid: std::process::id(), program, since: OffsetDateTime::now_utc() };
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    lock.write_all(&serde_json::to_vec(&owner)?)?;
    lock.flush()
}

fn owned_by_other(path: &Path, lock: &mut File) -> Error {
    let mut text = String::new();
    let owner = lock.take(4096).read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Owner>(&text).ok());
    let who = owner.map_or_else(
        || "another process".to_owned(),
        |owner| format!("{} (process {}, since {})", owner.program, owner.pid, owner.since),
    );
    Error::new(ErrorKind::Conflict, format!("data directory {} is owned by {who}", path.display()))
        .with_help("stop that program, use it instead, or choose another data directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDirectory::open(&path).unwrap();
        let error = DataDirectory::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_process_that_is_being_started_does_not_hold_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let directory = DataDirectory::open(&path).unwrap();
        let copy_between_fork_and_exec = directory.lock.try_clone().unwrap();
        drop(directory);
        DataDirectory::open(&path).unwrap();
        drop(copy_between_fork_and_exec);
    }

    #[test]
    fn only_its_user_can_enter_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let directory = DataDirectory::open(&path).unwrap();
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(directory.path().join("owner.lock")).unwrap().mode() & 0o777, 0o600);
    }
}
