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
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The server of this id and name; `None` if there is none, or one with another id.
    pub(super) fn get(&self, server: &ServerRef) -> Option<Arc<Server>> {
        self.named(server.name.as_str()).filter(|found| found.reference().id == server.id)
    }

    /// The server of this id and name, made if the name is free.
    pub(super) fn get_or_insert(&self, server: &ServerRef, make: impl FnOnce() -> Server) -> Result<Arc<Server>> {
        let mut servers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let found = servers.entry(server.name.to_string()).or_insert_with(|| Arc::new(make()));
        if found.reference().id != server.id {
            let message = format!("the name {} belongs to another server", server.name);
            return Err(Error::new(ErrorKind::AlreadyExists, message).with_help("choose another name"));
        }
        Ok(Arc::clone(found))
    }

    /// Takes a server out.
    pub(super) fn remove(&self, server: &ServerRef) -> Option<Arc<Server>> {
        let found = self.get(server)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(server.name.as_str());
        Some(found)
    }

    /// All of them, in order of names.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        let mut servers: Vec<_> = self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        servers.sort_by(|a, b| a.reference().name.cmp(&b.reference().name));
        servers
    }
}
