//! The refusals every registry gives in the same words.

use super::{Lease, Revision};
use crate::name::{ServerId, ServerKey, ServerName, VersionId};
use crate::{Error, ErrorKind};

pub(crate) fn server_not_found(key: &ServerKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("server \"{key}\" does not exist"))
        .with_help("list the servers to see their names")
}

pub(crate) fn server_exists(name: &ServerName) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("server \"{name}\" exists already with another definition"))
        .with_help("choose another name, or read the server and update it")
}

pub(crate) fn revision_conflict(name: &ServerName, present: Revision, expected: Revision) -> Error {
    let message = format!("server \"{name}\" is at revision {present}, not at {expected}");
    Error::new(ErrorKind::Conflict, message).with_help("read it again and repeat the change")
}

pub(crate) fn version_not_found(id: ServerId, version: &VersionId) -> Error {
    Error::new(ErrorKind::NotFound, format!("version \"{version}\" of server {id} does not exist"))
        .with_help("list the versions")
}

/// Retryable: nothing was begun, and the holder ends.
pub(crate) fn lease_taken(name: &str, holder: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("\"{name}\" is held by {holder:?}"))
        .with_help("something else deploys, tests, changes or removes it: wait until that has ended")
        .with_retryable(true)
}

/// The lease is over or another one followed it; `holder` holds it now.
pub(crate) fn lease_lost(lease: &Lease, holder: Option<&str>) -> Error {
    let now = holder.map_or_else(|| "nobody".to_owned(), |holder| format!("{holder:?}"));
    let message = format!("{:?} no longer holds \"{}\" (fence {}): {now} does", lease.holder, lease.name, lease.fence);
    Error::new(ErrorKind::Conflict, message).with_help("acquire it again and start over from what is recorded")
}

pub(crate) fn connection_exists(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("a connection named {name:?} exists already"))
        .with_help("choose another name")
}

pub(crate) fn api_key_exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "another API key has the same hash").with_help("create a new key")
}
