//! Files that are there whole or not at all, and readable by their user only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use metamcp_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// An error of the disk, naming the path: [`ErrorKind::ConfigInvalid`] where the folder is of no use to this user,
/// [`ErrorKind::Unavailable`] where there is no room in it.
pub(crate) fn storage_error(verb: &str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let (kind, help) = match error.kind() {
        PermissionDenied | ReadOnlyFilesystem | NotADirectory => {
            (ErrorKind::ConfigInvalid, Some("choose a data directory that this user may write to"))
        }
        StorageFull | QuotaExceeded => (ErrorKind::Unavailable, Some("free some space on the disk, then try again")),
        _ => (ErrorKind::Unexpected, None),
    };
    let said = Error::new(kind, format!("could not {verb} {}", path.display())).with_source(error);
    match help {
        Some(help) => said.with_help(help),
        None => said,
    }
}

/// A file's bytes; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage_error("read", path, error)),
    }
}

/// The JSON value of a file that a deployment writes; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read(path)?.map(|bytes| from_json(path, &bytes)).transpose()
}

/// The JSON value of a file that can be done without: a damaged one counts as none, and is told.
pub(crate) fn read_json_if_whole<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(read(path)?.and_then(|bytes| told(from_json(path, &bytes))))
}

/// The value in the bytes of a file that a deployment writes.
pub(super) fn from_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("{} is damaged", path.display());
        Error::new(ErrorKind::Unexpected, message).with_source(error).with_help("deploy the server again")
    })
}

/// What was read; a failure is told, since it must not keep anything else from being read.
pub(super) fn told<T>(read: Result<T>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(%error, "part of the data directory could not be read")).ok()
}

/// Writes a file so that a crash leaves the old content or the new one: a new file is filled, flushed to the
/// disk and put in place by a rename, which is flushed too.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    write_atomically(path, content).map_err(|error| storage_error("write", path, error))
}

/// [`write`] unless the file has this content already.
pub(crate) fn write_if_different(path: &Path, content: &[u8]) -> Result<()> {
    if read(path)?.is_some_and(|there| there == content) { Ok(()) } else { write(path, content) }
}

/// [`write`] of a value as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|error| storage_error("write", path, error.into()))?;
    write(path, &text)
}

/// Removes a file; an absent one is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    absent_is_fine(fs::remove_file(path)).map_err(|error| storage_error("remove", path, error))
}

/// Removes a folder with all it holds; an absent one is fine.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(|error| storage_error("remove", path, error))
}

fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = folder.join(format!(".{}.new", Uuid::new_v4().simple()));
    let written = create(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        absent_is_fine(fs::remove_file(&temporary))?;
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_disk_says_whether_to_look_at_the_configuration_or_to_try_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write(&file, b"no folder").unwrap();
        let error = write(&file.join("below"), b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");

        let full = storage_error("write", &file, io::ErrorKind::StorageFull.into());
        assert_eq!((full.kind(), full.help().is_some()), (ErrorKind::Unavailable, true));
        assert_eq!(storage_error("write", &file, io::ErrorKind::Other.into()).kind(), ErrorKind::Unexpected);
    }
}
