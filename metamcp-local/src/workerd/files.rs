//! Files that are there whole or not at all, and readable by their user only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use metamcp_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// An error of the disk, naming the path.
pub(crate) fn storage_error(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unexpected, format!("could not {verb} {}", path.display())).with_source(error)
}

/// Runs work on the disk where it may wait.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Unexpected, "work on the disk was cut off").with_source(error))?
}

/// A file's bytes; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage_error("read", path, error)),
    }
}

/// A file's JSON value; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let damaged =
        |error| Error::new(ErrorKind::Unexpected, format!("{} is damaged", path.display())).with_source(error);
    serde_json::from_slice::<T>(&bytes).map(Some).map_err(|error: serde_json::Error| damaged(error))
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
