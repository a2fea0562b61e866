//! What the publishers share: which scripts of the account are ours, and where they answer.

use std::sync::Arc;

use metamcp_core::{Artifact, Digest, Endpoint, ServerId, ServerRef};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::api::Scripts;
use super::upload::{CHECK_KEY, Upload};
use crate::client::Client;
use crate::containers::NAME as CONTAINER_MANAGER;

/// An account with the scripts of one registry.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) client: Client,
    pub(super) scripts: Scripts,
    /// Tells this registry's scripts from others in the account.
    registry_id: Arc<str>,
    /// Ids and names of resources that no server may bind.
    private: Arc<[String]>,
}

impl Account {
    pub(super) fn new(client: Client, registry_id: &str) -> Self {
        let scripts = Scripts::new(client.clone());
        let private = Arc::from([registry_id.to_owned(), CONTAINER_MANAGER.to_owned()]);
        Self { client, scripts, registry_id: registry_id.into(), private }
    }

    /// Keeps a resource from servers.
    pub(super) fn keep_private(&mut self, id: &str) {
        self.private = self.private.iter().cloned().chain([id.to_owned()]).collect();
    }

    /// What no server may bind: the registry and the cache hold what others run, and the Container Manager runs it.
    pub(super) fn private(&self) -> &[String] {
        &self.private
    }

    /// The id of the registry's database.
    pub(super) fn registry_id(&self) -> &str {
        &self.registry_id
    }

    /// What marks a script as one of this registry's.
    pub(super) fn tag(&self, what: impl std::fmt::Display) -> String {
        format!("metamcp:{}:{what}", self.registry_id)
    }

    /// The server whose script this is; `None` for a foreign one.
    pub(super) fn owner(&self, script: &str, tags: &[String]) -> Option<ServerRef> {
        let id = tags.iter().find_map(|tag| self.server_of(tag))?;
        Some(ServerRef { id, name: script.parse().ok()? })
    }

    /// The id in a tag of a server of ours.
    fn server_of(&self, tag: &str) -> Option<ServerId> {
        let (registry, id) = tag.strip_prefix("metamcp:")?.rsplit_once(':')?;
        (registry == &*self.registry_id).then(|| id.parse().ok().map(ServerId))?
    }

    /// An endpoint at which a server asks its callers for a bearer token, or does not.
    pub(super) fn endpoint(&self, url: Url, server: ServerId, callers: Callers) -> Endpoint {
        let endpoint = Endpoint::new(url);
        match callers {
            Callers::Anybody => endpoint,
            Callers::WithToken => {
                let value = format!("Bearer {}", self.check_key(server).expose_secret());
                endpoint.with_header("authorization", value.into())
            }
        }
    }

    /// The token that a server with `auth` takes from us beside its own, which cannot be read back. It follows from the
    /// API token, whose holder may replace the Worker anyway, so nobody has to keep it.
    fn check_key(&self, server: ServerId) -> SecretString {
        let token = self.client.config().api_token().expose_secret();
        let server = server.to_string();
        let parts = ["metamcp check key", token, &self.registry_id, &server];
        Digest::of_parts(parts.map(str::as_bytes)).to_string().into()
    }

    /// Adds that token to a version that asks its callers for one.
    pub(super) fn with_check_key(&self, upload: Upload, artifact: &Artifact, server: ServerId) -> Upload {
        match artifact.settings.bearer_secret {
            Some(_) => upload.with_secret(CHECK_KEY, &self.check_key(server)),
            None => upload,
        }
    }

    /// Tells a check key from those of other API tokens.
    pub(super) fn check_key_id(&self, server: ServerId) -> String {
        Digest::of(self.check_key(server).expose_secret()).short(8)
    }
}

/// Who may call a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Callers {
    #[default]
    Anybody,
    /// Those who send its bearer token.
    WithToken,
}

impl Callers {
    pub(super) fn with_token(needed: bool) -> Self {
        if needed { Self::WithToken } else { Self::Anybody }
    }
}
