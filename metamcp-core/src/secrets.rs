//! [`Secrets`]: values of the secrets that definitions name. They go to the publisher and nowhere else.

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
}

impl Secrets {
    pub(crate) fn new(backends: Arc<Backends>) -> Self {
        Self { backends }
    }

    /// Sets a secret that the server's definition names; a live server sees it from its next request on.
    /// [`ErrorKind::NotFound`] if the definition does not name it.
    pub async fn set(&self, key: &ServerKey, name: &EnvName, value: SecretString) -> Result<()> {
        let record = self.backends.registry.get_server(key).await?;
        declared(&record, name)?;
        self.backends.publisher.set_secret(&record.reference(), name, value).await
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
