//! [`Secrets`]: values of the secrets that definitions name. They go to the publisher and nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::deploy::run_to_its_end;
use crate::event::EventSink;
use crate::lease::HeldLease;
use crate::meta_mcp::Backends;
#[cfg(feature = "server")]
use crate::name::ServerName;
use crate::name::{EnvName, ServerKey};
use crate::publisher::Publisher;
use crate::registry::ServerRecord;
use crate::trace::{traced, verb};
use crate::{Error, ErrorKind, Result};

/// Sets, removes and lists secrets; values cannot be read back. Cheap to clone.
///
/// What changes a secret holds the server's lease as a deployment does: a value is set for a version that is live, and
/// none becomes live meanwhile. It waits for others as a deployment does ([`Deployments`](crate::Deployments)). The work
/// goes on if the returned future is dropped.
///
/// ```
/// use metamcp_core::{EnvName, MetaMcp, ServerDefinition, ServerKey, memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let meta = MetaMcp::new(memory::backends());
/// let mut weather = ServerDefinition::new("weather", "Tells the weather.");
/// weather.secrets = vec!["TOKEN".to_owned()]; // bodies read it as `env.TOKEN`
/// meta.servers().create(&weather).await?;
///
/// let key: ServerKey = "weather".parse()?;
/// let name: EnvName = "TOKEN".parse()?;
/// meta.secrets().set(&key, &name, "the value".into()).await?;
/// assert_eq!(meta.secrets().list(&key).await?, [name]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Secrets {
    backends: Arc<Backends>,
    holder: Arc<str>,
    host: Arc<BTreeMap<EnvName, SecretString>>,
}

impl Secrets {
    pub(crate) fn new(backends: Arc<Backends>, holder: Arc<str>, host: Arc<BTreeMap<EnvName, SecretString>>) -> Self {
        Self { backends, holder, host }
    }

    /// Sets a secret that the server's definition names; a live server sees it from its next request on.
    /// [`ErrorKind::NotFound`] if the definition does not name it.
    pub async fn set(&self, key: &ServerKey, name: &EnvName, value: SecretString) -> Result<()> {
        self.change(key, name, Some(value)).await
    }

    /// Sets a secret to a value that the host offers ([`MetaMcp::with_host_secrets`](crate::MetaMcp::with_host_secrets)).
    /// [`ErrorKind::PermissionDenied`] for any other variable of the host.
    pub async fn set_from_host(&self, key: &ServerKey, name: &EnvName, variable: &EnvName) -> Result<()> {
        traced(verb!(INFO, "secrets.set_from_host", server = %key, %name, %variable), async move {
            let Some(value) = self.host.get(variable) else {
                let message = format!("variable {variable} is not offered by the host");
                return Err(Error::new(ErrorKind::PermissionDenied, message).with_help(self.offered()));
            };
            self.set(key, name, value.clone()).await
        })
        .await
    }

    /// The server that declares a secret; [`ErrorKind::NotFound`] if it does not.
    #[cfg(feature = "server")]
    pub(crate) async fn declaring_server(&self, key: &ServerKey, name: &EnvName) -> Result<ServerName> {
        let record = self.backends.registry.get_server(key).await?;
        declared(&record, name)?;
        Ok(record.name)
    }

    /// Which values the host offers, in a sentence.
    pub(crate) fn offered(&self) -> String {
        let names: Vec<_> = self.host.keys().map(EnvName::as_str).collect();
        if names.is_empty() { "it offers none".to_owned() } else { format!("it offers {}", names.join(", ")) }
    }

    /// Removes a secret's value; an absent one succeeds.
    pub async fn remove(&self, key: &ServerKey, name: &EnvName) -> Result<()> {
        self.change(key, name, None).await
    }

    /// Names of the secrets that have a value.
    pub async fn list(&self, key: &ServerKey) -> Result<Vec<EnvName>> {
        traced(verb!(DEBUG, "secrets.list", server = %key), async move {
            let record = self.backends.registry.get_server(key).await?;
            self.backends.publisher.list_secret_names(&record.reference()).await
        })
        .await
    }

    async fn change(&self, key: &ServerKey, name: &EnvName, value: Option<SecretString>) -> Result<()> {
        let (backends, holder) = (self.backends.clone(), self.holder.clone());
        let (key, name) = (key.clone(), name.clone());
        run_to_its_end(verb!(INFO, "secrets.change", server = %key, secret = %name), async move {
            let events = EventSink::default();
            let (record, lease) = HeldLease::of_server(backends.registry.clone(), &key, &holder, &events).await?;
            let outcome = write(backends.publisher.as_ref(), &record, &name, value).await;
            lease.release().await;
            outcome
        })
        .await
    }
}

async fn write(
    publisher: &dyn Publisher,
    server: &ServerRecord,
    name: &EnvName,
    value: Option<SecretString>,
) -> Result<()> {
    match value {
        Some(value) => {
            declared(server, name)?;
            publisher.set_secret(&server.reference(), name, value).await
        }
        None => publisher.remove_secret(&server.reference(), name).await,
    }
}

fn declared(record: &ServerRecord, name: &EnvName) -> Result<()> {
    if record.definition.secrets.iter().any(|declared| declared == name.as_str()) {
        return Ok(());
    }
    let message = format!("server {} declares no secret {name}", record.name);
    Err(Error::new(ErrorKind::NotFound, message).with_help(format!("add \"{name}\" to its `secrets` first")))
}
