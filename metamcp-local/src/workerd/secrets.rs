//! Values of one server's secrets, in one file that only its user can read.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use metamcp_core::{EnvName, Error, ErrorKind, Result, WorkerSettings};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files;

/// Longest value; a process takes each as one environment string, which Linux bounds at 128 KiB.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// All secrets of a server.
#[derive(Clone)]
pub(super) struct Secrets {
    state_key: SecretString,
    values: BTreeMap<EnvName, SecretString>,
}

/// The file's form: the one place where values leave their wrapper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    state_key: String,
    values: BTreeMap<EnvName, String>,
}

impl Secrets {
    /// Secrets without values and with a new state key.
    pub(super) fn new() -> Self {
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        Self { state_key: SecretString::from(STANDARD.encode(key)), values: BTreeMap::new() }
    }

    /// The secrets kept in a file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = files::read(path)? else { return Ok(None) };
        // The parser's own message may quote a value, so it is left out.
        let file: File = serde_json::from_slice(&bytes).map_err(|_| {
            Error::new(ErrorKind::Unexpected, format!("secrets file {} is damaged", path.display()))
                .with_help("put it back from a copy, or remove it and set the server's secrets again")
        })?;
        let values = file.values.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
        Ok(Some(Self { state_key: SecretString::from(file.state_key), values }))
    }

    /// Writes them, all or nothing.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let values = self.values.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
        let file = File { state_key: self.state_key.expose_secret().to_owned(), values };
        files::write_json(path, &file)
    }

    /// Sets a value; refuses one that a process could not be given.
    pub(super) fn set(&mut self, name: &EnvName, value: SecretString) -> Result<()> {
        if value.expose_secret().len() > MAX_SECRET_BYTES {
            let message = format!("the value of secret {name} is longer than {MAX_SECRET_BYTES} bytes");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        if value.expose_secret().contains('\0') {
            let message = format!("the value of secret {name} holds a NUL character");
            return Err(Error::new(ErrorKind::Unsupported, message).with_help("store binary values as base64"));
        }
        self.values.insert(name.clone(), value);
        Ok(())
    }

    /// Removes a value; whether there was one.
    pub(super) fn remove(&mut self, name: &EnvName) -> bool {
        self.values.remove(name).is_some()
    }

    /// Names that have a value, sorted.
    pub(super) fn names(&self) -> Vec<EnvName> {
        self.values.keys().cloned().collect()
    }

    /// Those of the declared secrets that have a value.
    pub(super) fn declared<'a>(
        &'a self,
        names: &'a [EnvName],
    ) -> impl Iterator<Item = (&'a EnvName, &'a SecretString)> {
        names.iter().filter_map(|name| self.values.get_key_value(name))
    }

    /// The `Authorization` header that a Worker with these settings asks its callers for, if it asks for any.
    pub(super) fn authorization(&self, settings: &WorkerSettings) -> Result<Option<SecretString>> {
        let Some(name) = &settings.bearer_secret else { return Ok(None) };
        let value = self.values.get(name).ok_or_else(|| {
            let message =
                format!("the secret {name}, which callers of server {} authenticate with, is not set", settings.name);
            Error::new(ErrorKind::ConfigInvalid, message).with_help("set it, then deploy")
        })?;
        Ok(Some(SecretString::from(format!("Bearer {}", value.expose_secret()))))
    }

    /// The key that signs what the server hands its clients.
    pub(super) fn state_key(&self) -> &SecretString {
        &self.state_key
    }
}

impl Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("names", &self.names()).finish_non_exhaustive()
    }
}
