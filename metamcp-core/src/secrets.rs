//! [`Secrets`]: values of the secrets that definitions name. They go to the publisher and nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::meta_mcp::Backends;
use crate::name::{EnvName, ServerKey};
use crate::registry::ServerRecord;
use crate::{Error, ErrorKind, Result};

/// Sets, removes and lists secrets; values cannot be read back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Secrets {
    backends: Arc<Backends>,
    host: Arc<BTreeMap<EnvName, SecretString>>,
}

impl Secrets {
    pub(crate) fn new(backends: Arc<Backends>, host: Arc<BTreeMap<EnvName, SecretString>>) -> Self {
        Self { backends, host }
    }

    /// Sets a secret that the server's definition names; a live server sees it from its next request on.
    /// [`ErrorKind::NotFound`] if the definition does not name it.
    pub async fn set(&self, key: &ServerKey, name: &EnvName, value: SecretString) -> Result<()> {
        let record = self.backends.registry.get_server(key).await?;
        declared(&record, name)?;
        self.backends.publisher.set_secret(&record.reference(), name, value).await
    }

    /// Sets a secret to a value that the host offers ([`MetaMcp::with_host_secrets`](crate::MetaMcp::with_host_secrets)).
    /// [`ErrorKind::PermissionDenied`] for any other variable of the host.
    pub async fn set_from_host(&self, key: &ServerKey, name: &EnvName, variable: &EnvName) -> Result<()> {
        let Some(value) = self.host.get(variable) else {
            let message = format!("variable {variable} is not offered by the host");
            return Err(Error::new(ErrorKind::PermissionDenied, message).with_help(self.offered()));
        };
        self.set(key, name, value.clone()).await
    }

    /// Which values the host offers, in a sentence.
    pub(crate) fn offered(&self) -> String {
        let names: Vec<_> = self.host.keys().map(EnvName::as_str).collect();
        if names.is_empty() { "it offers none".to_owned() } else { format!("it offers {}", names.join(", ")) }
    }

    /// Removes a secret's value; an absent one succeeds.
    pub async fn remove(&self, key: &ServerKey, name: &EnvName) -> Result<()> {
        let record = self.backends.registry.get_server(key).await?;
        self.backends.publisher.remove_secret(&record.reference(), name).await
    }

    /// Names of the secrets that have a value.
    pub async fn list(&self, key: &ServerKey) -> Result<Vec<EnvName>> {
        let record = self.backends.registry.get_server(key).await?;
        self.backends.publisher.list_secret_names(&record.reference()).await
    }
}

fn declared(record: &ServerRecord, name: &EnvName) -> Result<()> {
    if record.definition.secrets.iter().any(|declared| declared == name.as_str()) {
        return Ok(());
    }
    let message = format!("server {} declares no secret {name}", record.name);
    Err(Error::new(ErrorKind::NotFound, message).with_help(format!("add \"{name}\" to its `secrets` first")))
}
