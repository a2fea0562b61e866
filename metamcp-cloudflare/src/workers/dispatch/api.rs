//! The calls of a dispatch namespace, one function each.
//!
//! <https://developers.cloudflare.com/api/resources/workers_for_platforms/>

use metamcp_core::{EnvName, ErrorKind, Result};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::super::api::{BoundName, Script, absent_is_none};
use super::super::upload::Upload;
use crate::client::{Call, Client, Repeat, segment};

const NAMESPACES: &str = "workers/dispatch/namespaces";
/// Most scripts that one call lists.
const PAGE: usize = 1_000;

/// One dispatch namespace.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    client: Client,
    name: String,
}

/// What a script's settings tell.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Settings {
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) bindings: Vec<BoundName>,
}

impl Namespace {
    pub(super) fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the namespace where it does not exist.
    pub(super) async fn ensure(&self) -> Result<()> {
        let get = Call::get(format!("{NAMESPACES}/{}", segment(&self.name)));
        if absent_is_none(self.client.execute(&get).await)?.is_some() {
            return Ok(());
        }
        // Repeated after a lost answer it says that the name is taken, by the first attempt or by another program.
        let create = Call::new(Method::POST, NAMESPACES, Repeat::Safe).with_json(&json!({ "name": self.name }));
        match self.client.execute(&create).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Every script of the namespace; none if that is gone.
    ///
    /// <https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/configuration/tags/>
    pub(super) async fn list(&self) -> Result<Vec<Script>> {
        let (mut scripts, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let path = format!("{NAMESPACES}/{}/scripts", segment(&self.name));
            let mut call = Call::get(path).with_query("limit", PAGE.to_string());
            if let Some(cursor) = cursor {
                call = call.with_query("cursor", cursor);
            }
            let Some(page) = absent_is_none(self.client.call::<Vec<Script>>(&call).await)? else { break };
            scripts.extend(page.result);
            let Some(next) = page.cursor else { break };
            cursor = Some(next);
        }
        Ok(scripts)
    }

    /// Tags and bindings of a script; `None` if there is no such script.
    pub(super) async fn settings(&self, script: &str) -> Result<Option<Settings>> {
        let settings = self.client.call(&Call::get(self.below(script, "/settings"))).await;
        absent_is_none(settings.map(|settings| settings.result))
    }

    /// Uploads a script, which is live at once.
    pub(super) async fn put(&self, script: &str, upload: &Upload) -> Result<()> {
        let call = Call::new(Method::PUT, self.below(script, ""), Repeat::Safe);
        self.client.execute(&call.with_query("bindings_inherit", "strict").with_form(upload.script_parts())).await
    }

    /// Removes a script with its secrets; an absent one succeeds.
    pub(super) async fn remove(&self, script: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, self.below(script, ""), Repeat::Safe).with_query("force", "true");
        absent_is_none(self.client.execute(&call).await).map(drop)
    }

    pub(super) async fn set_secret(&self, script: &str, name: &EnvName, value: &SecretString) -> Result<()> {
        let body = json!({ "name": name, "text": value.expose_secret(), "type": "secret_text" });
        let call = Call::new(Method::PUT, self.below(script, "/secrets"), Repeat::Safe);
        self.client.execute(&call.with_json(&body)).await
    }

    /// Removes a secret; an absent one succeeds.
    pub(super) async fn remove_secret(&self, script: &str, name: &EnvName) -> Result<()> {
        let path = self.below(script, &format!("/secrets/{}", segment(name.as_str())));
        absent_is_none(self.client.execute(&Call::new(Method::DELETE, path, Repeat::Safe)).await).map(drop)
    }

    fn below(&self, script: &str, rest: &str) -> String {
        format!("{NAMESPACES}/{}/scripts/{}{rest}", segment(&self.name), segment(script))
    }
}
