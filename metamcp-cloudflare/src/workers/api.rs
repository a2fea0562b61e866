//! The calls of the Workers scripts API, one function each.
//!
//! <https://developers.cloudflare.com/api/resources/workers/subresources/scripts/>

use std::collections::BTreeMap;

use metamcp_core::{ErrorKind, Result};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::upload::Upload;
use crate::client::{Call, Client, Repeat, segment};

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

#[derive(Debug, Deserialize)]
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

#[derive(Deserialize)]
struct Namespace {
    script: Option<String>,
    class: Option<String>,
}

/// The scripts of an account.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    client: Client,
}

impl Scripts {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
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
        self.client.execute(&call.with_form(upload.parts())).await
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

    /// The version that all traffic goes to; `None` without one, or without a script.
    pub(super) async fn live(&self, name: &str) -> Result<Option<String>> {
        let deployments = self.client.call::<Deployments>(&Call::get(below(name, "deployments"))).await;
        let deployments = absent_is_none(deployments.map(|answer| answer.result.deployments))?.unwrap_or_default();
        let newest = deployments.into_iter().next();
        let shares = newest.map(|deployment| deployment.versions).unwrap_or_default();
        Ok(shares.into_iter().find(|share| share.percentage > 50.0).map(|share| share.version_id))
    }

    /// Sends all traffic to a version.
    pub(super) async fn deploy(&self, name: &str, id: &str) -> Result<()> {
        let body = json!({ "strategy": "percentage", "versions": [{ "version_id": id, "percentage": 100 }] });
        // The same again adds a line to the history and changes nothing.
        let call = Call::new(Method::POST, below(name, "deployments"), Repeat::Safe).with_json(&body);
        self.client.execute(&call).await
    }

    /// Whether it and its versions answer below `workers.dev`.
    pub(super) async fn expose(&self, name: &str, exposure: Exposure) -> Result<()> {
        let Exposure { enabled, previews } = exposure;
        let body = json!({ "enabled": enabled, "previews_enabled": previews });
        let call = Call::new(Method::POST, below(name, "subdomain"), Repeat::Safe).with_json(&body);
        self.client.execute(&call).await
    }

    /// The account's name below `workers.dev`.
    pub(super) async fn account_subdomain(&self) -> Result<String> {
        let answer = self.client.call::<Subdomain>(&Call::get("workers/subdomain")).await;
        answer.map(|answer| answer.result.subdomain).map_err(|error| {
            error.with_help("choose a workers.dev subdomain: https://developers.cloudflare.com/workers/configuration/routing/workers-dev/")
        })
    }

    /// When it is woken.
    pub(super) async fn schedule(&self, name: &str, crons: &[String]) -> Result<()> {
        let body: Vec<_> = crons.iter().map(|cron| json!({ "cron": cron })).collect();
        let call = Call::new(Method::PUT, below(name, "schedules"), Repeat::Safe).with_json(&body);
        self.client.execute(&call).await
    }

    /// The Durable Object classes that a script has.
    pub(super) async fn durable_object_classes(&self, name: &str) -> Result<Vec<String>> {
        const PAGE: usize = 1_000;
        let mut classes = Vec::new();
        for page in 1.. {
            let call = Call::get("workers/durable_objects/namespaces")
                .with_query("per_page", PAGE.to_string())
                .with_query("page", page.to_string());
            let namespaces: Vec<Namespace> = self.client.call(&call).await?.result;
            let is_last = namespaces.len() < PAGE;
            let ours = namespaces.into_iter().filter(|namespace| namespace.script.as_deref() == Some(name));
            classes.extend(ours.filter_map(|namespace| namespace.class));
            if is_last {
                break;
            }
        }
        Ok(classes)
    }

    /// Removes a script with its versions, secrets and Durable Objects; an absent one succeeds.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, script(name), Repeat::Safe).with_query("force", "true");
        absent_is_none(self.client.execute(&call).await).map(drop)
    }
}

/// Which of a script's host names answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposure {
    /// The one that its live version answers at.
    pub(super) enabled: bool,
    /// Those of each version.
    pub(super) previews: bool,
}

fn script(name: &str) -> String {
    format!("workers/scripts/{}", segment(name))
}

fn below(name: &str, what: &str) -> String {
    format!("{}/{what}", script(name))
}

fn absent_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
