//! The calls of the Workers scripts API, one function each.
//!
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/>

use std::collections::BTreeMap;
use std::sync::Arc;

use metamcp_core::{Error, ErrorKind, Result, VersionId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;
use url::Url;

use super::upload::Upload;
use crate::client::{Call, Client, Repeat, segment};
use crate::error::CHOOSE_SUBDOMAIN;

/// Annotation of a deployment that people read as its message.
const DEPLOYMENT_NOTE: &str = "workers/message";
/// What it says before the version.
const NOTE_PREFIX: &str = "Meta-MCP version ";

/// A script of the account.
#[derive(Debug, Deserialize)]
pub(super) struct Script {
    /// Its name.
    pub(super) id: String,
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
}

/// A version of a script.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) id: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Resources {
    #[serde(default)]
    pub(super) bindings: Vec<BoundName>,
    #[serde(default)]
    pub(super) script_runtime: Runtime,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct BoundName {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Runtime {
    #[serde(default)]
    pub(super) migration_tag: Option<String>,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Deployments {
    deployments: Vec<Deployment>,
}

#[derive(Deserialize)]
struct Deployment {
    versions: Vec<Share>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Share {
    version_id: String,
    percentage: f64,
}

#[derive(Deserialize)]
struct Subdomain {
    subdomain: String,
}

/// What a script's traffic goes to: all of it, or the largest share where somebody divided it.
#[derive(Debug)]
pub(super) struct Deployed {
    /// The upload's id.
    pub(super) upload: String,
    /// The version of ours that it was deployed as; `None` if that was not done by [`Scripts::deploy`].
    pub(super) version: Option<VersionId>,
    /// How much of the traffic, in percent.
    share: f64,
}

impl Deployed {
    /// Whether nothing else answers.
    pub(super) fn is_alone(&self) -> bool {
        self.share >= 100.0
    }

    /// Whether nothing else answers as often.
    pub(super) fn prevails(&self) -> bool {
        self.share > 50.0
    }
}

/// What a script logs from now on, until it is removed.
#[derive(Deserialize)]
pub(super) struct Tail {
    pub(super) id: String,
    /// Of a WebSocket; whoever knows it may read.
    pub(super) url: String,
}

/// A Durable Object class of some script.
#[derive(Deserialize)]
struct ObjectNamespace {
    id: String,
    script: Option<String>,
    class: Option<String>,
}

/// The scripts of an account.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    client: Client,
    /// The account's name below `workers.dev`.
    subdomain: Arc<OnceCell<String>>,
}

impl Scripts {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, subdomain: Arc::default() }
    }

    /// Every script of the account; the API does not page them.
    pub(super) async fn list(&self) -> Result<Vec<Script>> {
        Ok(self.client.call(&Call::get("workers/scripts")).await?.result)
    }

    /// The tags of a script; `None` if there is no such script.
    pub(super) async fn tags(&self, name: &str) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        struct Settings {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let settings = self.client.call::<Settings>(&Call::get(below(name, "script-settings"))).await;
        absent_is_none(settings.map(|settings| settings.result.tags.unwrap_or_default()))
    }

    /// Uploads and deploys at once. Repeating it uploads the same once more, which changes nothing.
    pub(super) async fn put(&self, name: &str, upload: &Upload) -> Result<()> {
        let call = Call::new(Method::PUT, script(name), Repeat::Safe).with_query("bindings_inherit", "strict");
        self.client.execute(&call.with_form(upload.script_parts())).await
    }

    /// Uploads a version without deploying it. Each call makes one, also if its answer is lost.
    pub(super) async fn add_version(&self, name: &str, upload: &Upload) -> Result<Version> {
        let call = Call::new(Method::POST, below(name, "versions"), Repeat::Unsafe);
        let call = call.with_query("bindings_inherit", "strict").with_form(upload.parts());
        Ok(self.client.call(&call).await?.result)
    }

    /// The hundred newest versions, which are those that can be deployed, newest first; empty without a script.
    pub(super) async fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let call = Call::get(below(name, "versions")).with_query("per_page", "100");
        let items = self.client.call::<Items<Version>>(&call).await;
        Ok(absent_is_none(items.map(|items| items.result.items))?.unwrap_or_default())
    }

    /// One version with what it is bound to.
    pub(super) async fn version(&self, name: &str, id: &str) -> Result<Version> {
        Ok(self.client.call(&Call::get(format!("{}/{}", below(name, "versions"), segment(id)))).await?.result)
    }

    /// The Durable Object migration that a script's newest upload was made after; `None` without one.
    pub(crate) async fn migration_tag(&self, name: &str) -> Result<Option<String>> {
        self.migration_tag_of(name, self.versions(name).await?.first()).await
    }

    /// The same, where the newest upload is known.
    pub(super) async fn migration_tag_of(&self, name: &str, newest: Option<&Version>) -> Result<Option<String>> {
        let Some(newest) = newest else { return Ok(None) };
        Ok(self.version(name, &newest.id).await?.resources.script_runtime.migration_tag)
    }

    /// What the traffic goes to; `None` without a deployment, or without a script.
    pub(super) async fn live(&self, name: &str) -> Result<Option<Deployed>> {
        let deployments = self.client.call::<Deployments>(&Call::get(below(name, "deployments"))).await;
        let deployments = absent_is_none(deployments.map(|answer| answer.result.deployments))?.unwrap_or_default();
        let Some(Deployment { versions, annotations }) = deployments.into_iter().next() else { return Ok(None) };
        let annotations = annotations.unwrap_or_default();
        let note = annotations.get(DEPLOYMENT_NOTE).and_then(|note| note.strip_prefix(NOTE_PREFIX));
        let version = note.and_then(|version| version.parse().ok());
        let most = versions.into_iter().max_by(|a, b| a.percentage.total_cmp(&b.percentage));
        Ok(most.map(|most| Deployed { upload: most.version_id, version, share: most.percentage }))
    }

    /// Sends all traffic to the upload `id` of a version, and notes that version where [`Scripts::live`] finds it.
    pub(super) async fn deploy(&self, name: &str, id: &str, version: &VersionId) -> Result<()> {
        let body = json!({
            "strategy": "percentage", "versions": [{ "version_id": id, "percentage": 100 }],
            "annotations": { DEPLOYMENT_NOTE: format!("{NOTE_PREFIX}{version}") }
        });
        // The same again adds a line to the history and changes nothing.
        let call = Call::new(Method::POST, below(name, "deployments"), Repeat::Safe).with_json(&body);
        self.client.execute(&call).await
    }

    /// Whether it and its versions answer below `workers.dev`.
    pub(crate) async fn expose(&self, name: &str, exposure: Exposure) -> Result<()> {
        let Exposure { enabled, previews } = exposure;
        let body = json!({ "enabled": enabled, "previews_enabled": previews });
        let call = Call::new(Method::POST, below(name, "subdomain"), Repeat::Safe).with_json(&body);
        self.client.execute(&call).await
    }

    /// Which of its host names answer.
    pub(super) async fn exposure(&self, name: &str) -> Result<Exposure> {
        Ok(self.client.call(&Call::get(below(name, "subdomain"))).await?.result)
    }

    /// Where a host name of the account answers.
    pub(crate) async fn url(&self, label: &str, path: &str) -> Result<Url> {
        let subdomain = self.subdomain.get_or_try_init(|| self.account_subdomain()).await?;
        let host = format!("{label}.{subdomain}.workers.dev");
        let url = match self.client.config().workers_dev_url() {
            None => format!("https://{host}/{path}"),
            Some(base) => format!("{base}{host}/{path}"),
        };
        Url::parse(&url)
            .map_err(|error| Error::new(ErrorKind::Unexpected, format!("{url} is not a URL")).with_source(error))
    }

    async fn account_subdomain(&self) -> Result<String> {
        let answer = self.client.call::<Subdomain>(&Call::get("workers/subdomain")).await;
        answer.map(|answer| answer.result.subdomain).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_help(CHOOSE_SUBDOMAIN),
            _ => error,
        })
    }

    /// The Durable Object classes that a script has, each with the id of its namespace.
    pub(crate) async fn durable_object_classes(&self, name: &str) -> Result<BTreeMap<String, String>> {
        const PAGE: usize = 1_000;
        let mut classes = BTreeMap::new();
        for page in 1.. {
            let call = Call::get("workers/durable_objects/namespaces")
                .with_query("per_page", PAGE.to_string())
                .with_query("page", page.to_string());
            let namespaces: Vec<ObjectNamespace> = self.client.call(&call).await?.result;
            let is_last = namespaces.len() < PAGE;
            let ours = namespaces.into_iter().filter(|namespace| namespace.script.as_deref() == Some(name));
            classes.extend(ours.filter_map(|namespace| Some((namespace.class?, namespace.id))));
            if is_last {
                break;
            }
        }
        Ok(classes)
    }

    /// Opens a tail. Each call makes one, also if its answer is lost; it ends by itself after some hours.
    pub(super) async fn add_tail(&self, name: &str) -> Result<Tail> {
        let call = Call::new(Method::POST, below(name, "tails"), Repeat::Safe).with_json(&json!({ "filters": [] }));
        Ok(self.client.call(&call).await?.result)
    }

    /// Closes a tail; an absent one succeeds.
    pub(super) async fn remove_tail(&self, name: &str, id: &str) -> Result<()> {
        let path = format!("{}/{}", below(name, "tails"), segment(id));
        absent_is_none(self.client.execute(&Call::new(Method::DELETE, path, Repeat::Safe)).await).map(drop)
    }

    /// Removes a script with its versions, secrets and Durable Objects; an absent one succeeds.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, script(name), Repeat::Safe).with_query("force", "true");
        absent_is_none(self.client.execute(&call).await).map(drop)
    }
}

/// Which of a script's host names answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Exposure {
    /// The one that its live version answers at.
    #[serde(default)]
    pub(crate) enabled: bool,
    /// Those of each version.
    #[serde(default, rename = "previews_enabled")]
    pub(crate) previews: bool,
}

fn script(name: &str) -> String {
    format!("workers/scripts/{}", segment(name))
}

fn below(name: &str, what: &str) -> String {
    format!("{}/{what}", script(name))
}

pub(super) fn absent_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
