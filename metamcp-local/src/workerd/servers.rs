//! The publisher's servers by name.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use metamcp_core::{Error, ErrorKind, Result, ServerRef};

use super::server::Server;

/// Every server, each under its name.
#[derive(Debug, Default)]
pub(crate) struct Servers(RwLock<HashMap<String, Arc<Server>>>);

impl Servers {
    /// The server of a name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Server>> {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        servers.get(name).filter(|found| !found.is_removed()).cloned()
    }

    /// The server of this id and name; `None` if there is none, or one with another id.
    pub(super) fn get(&self, server: &ServerRef) -> Option<Arc<Server>> {
        self.named(server.name.as_str()).filter(|found| found.reference().id == server.id)
    }

    /// The server of this id and name, made if the name is free.
    pub(super) fn get_or_insert(&self, server: &ServerRef, make: impl FnOnce() -> Server) -> Result<Arc<Server>> {
        let mut servers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = servers.get(server.name.as_str()).filter(|found| !found.is_removed()) else {
            let new = Arc::new(make());
            servers.insert(server.name.to_string(), Arc::clone(&new));
            return Ok(new);
        };
        if found.reference().id != server.id {
            let message = format!("the name {} belongs to another server", server.name);
            return Err(Error::new(ErrorKind::AlreadyExists, message).with_help("choose another name"));
        }
        Ok(Arc::clone(found))
    }

    /// Takes out a server that was removed, unless another one has its name already.
    pub(super) fn forget(&self, removed: &Arc<Server>) {
        let mut servers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = removed.reference().name.as_str();
        if servers.get(name).is_some_and(|found| Arc::ptr_eq(found, removed)) {
            servers.remove(name);
        }
    }

    /// All of them, in order of names.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        let servers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut servers: Vec<_> = servers.values().filter(|found| !found.is_removed()).cloned().collect();
        servers.sort_by(|a, b| a.reference().name.cmp(&b.reference().name));
        servers
    }
}
