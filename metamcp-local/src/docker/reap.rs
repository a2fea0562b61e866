//! Removes the containers of programs that are gone. Those of a live one are spared.
//!
//! Every container names the folder of its owner, who holds a lock on a file in it for as long as it lives, and the
//! machine where that is true: the engine may serve several.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptions;
use metamcp_core::{Digest, Error, ErrorKind, Result};

use super::container;
use super::engine::Engine;
use crate::workerd::storage_error;

const LABEL_OWNER: &str = "dev.metamcp.owner";
const LABEL_MACHINE: &str = "dev.metamcp.machine";
const LOCK: &str = "owner.lock";

/// Takes a folder's lock; [`ErrorKind::Conflict`] if another program has it.
pub(super) fn own(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let lock = opened.map_err(|error| storage_error("open", &path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another program builds with containers in {}", folder.display());
            Err(Error::new(ErrorKind::Conflict, message).with_help("end it, or choose another data directory"))
        }
        Err(TryLockError::Error(error)) => Err(storage_error("lock", &path, error)),
    }
}

/// The labels of a container that belongs to the owner of `folder`.
pub(super) fn labels(folder: &Path) -> HashMap<String, String> {
    HashMap::from([(LABEL_OWNER.to_owned(), folder.display().to_string()), (LABEL_MACHINE.to_owned(), machine())])
}

/// Removes every container without a live owner and returns how many there were. To be called by the new owner of
/// `folder` before it makes any.
pub(super) async fn reap(engine: &Engine, folder: &Path) -> Result<usize> {
    remove_where(engine, |found| is_orphan(found, folder)).await
}

/// Removes the containers of the owner of `folder` that nobody has a handle on.
pub(super) async fn remove_lost(engine: &Engine, folder: &Path) -> Result<usize> {
    let has_handle = |name: &String| engine.roster().has(name.trim_start_matches('/'));
    let is_lost = |found: &ContainerSummary| {
        is_of(found, folder) && !found.names.as_ref().is_some_and(|names| names.iter().any(has_handle))
    };
    remove_where(engine, is_lost).await
}

async fn remove_where(engine: &Engine, is_wanted: impl Fn(&ContainerSummary) -> bool) -> Result<usize> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![LABEL_OWNER.to_owned()])])),
        ..ListContainersOptions::default()
    };
    let found = engine.call("list containers", engine.docker().list_containers(Some(options))).await?;
    let mut removed = 0;
    for id in found.iter().filter(|found| is_wanted(found)).filter_map(|found| found.id.as_deref()) {
        container::remove(engine, id).await?;
        removed += 1;
    }
    if removed > 0 {
        tracing::info!(removed, "removed containers that nobody uses any more");
    }
    Ok(removed)
}

fn is_orphan(container: &ContainerSummary, folder: &Path) -> bool {
    owner_here(container).is_some_and(|owner| owner == folder || !has_live_owner(owner))
}

fn is_of(container: &ContainerSummary, folder: &Path) -> bool {
    owner_here(container).is_some_and(|owner| owner == folder)
}

/// The folder of a container's owner, if that is one of this machine.
fn owner_here(container: &ContainerSummary) -> Option<&Path> {
    let labels = container.labels.as_ref()?;
    (*labels.get(LABEL_MACHINE)? == machine()).then_some(Path::new(labels.get(LABEL_OWNER)?))
}

fn has_live_owner(folder: &Path) -> bool {
    match fs::File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Tells machines apart, and containers that see other files than the machine they run on.
fn machine() -> String {
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let files = fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let name = rustix::system::uname().nodename().to_bytes().to_vec();
    Digest::of_parts([boot.as_slice(), files.as_os_str().as_encoded_bytes(), &name]).short(16)
}
