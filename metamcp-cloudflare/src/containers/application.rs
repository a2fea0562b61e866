//! The container application: which image the containers of a Durable Object class are made of.
//!
//! <https://developers.cloudflare.com/api/resources/containers/>

use metamcp_core::{Error, ErrorKind, Result};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Call, Client, Repeat, segment};

/// The Durable Object class that is a container.
pub(super) const CLASS: &str = "MyContainer";
/// 4 virtual processors, 12 GiB of memory and 20 GB of disk.
pub(super) const INSTANCE_TYPE: &str = "standard-4";
/// How many run at once.
pub(super) const MAX_INSTANCES: u32 = 3;

const APPLICATIONS: &str = "containers/applications";
const PER_PAGE: &str = "100";

/// What became of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Made,
    RolledOut,
    None,
}

#[derive(Deserialize)]
struct Application {
    id: String,
    #[serde(default)]
    configuration: Value,
    #[serde(default)]
    max_instances: Option<u32>,
    #[serde(default)]
    durable_objects: Option<DurableObjects>,
}

#[derive(Deserialize)]
struct DurableObjects {
    namespace_id: String,
}

/// Makes the application of a Durable Object namespace, or changes its image.
pub(super) async fn apply(client: &Client, name: &str, namespace: &str, image: &str) -> Result<Change> {
    if let Some(application) = find(client, namespace).await? {
        return update(client, &application, image).await;
    }
    let wanted = json!({
        "name": name, "scheduling_policy": "default", "configuration": configuration(image), "instances": 0,
        "max_instances": MAX_INSTANCES, "constraints": { "tiers": [1, 2] },
        "durable_objects": { "namespace_id": namespace }, "rollout_active_grace_period": 0
    });
    // Repeated after a lost answer it says that the namespace has one already.
    let create = Call::new(Method::POST, APPLICATIONS, Repeat::Safe).with_json(&wanted);
    match client.execute(&create).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let application = find(client, namespace).await?.ok_or(error)?;
            update(client, &application, image).await?;
            Ok(Change::Made)
        }
        outcome => outcome.map(|()| Change::Made),
    }
}

async fn find(client: &Client, namespace: &str) -> Result<Option<Application>> {
    let mut token = None;
    loop {
        let mut call = Call::get(APPLICATIONS).with_query("per_page", PER_PAGE);
        if let Some(token) = token {
            call = call.with_query("page_token", token);
        }
        let answer = client.call::<Vec<Application>>(&call).await?;
        let is_ours = |application: &Application| {
            application.durable_objects.as_ref().is_some_and(|objects| objects.namespace_id == namespace)
        };
        if let Some(found) = answer.result.into_iter().find(is_ours) {
            return Ok(Some(found));
        }
        match answer.cursor {
            Some(next) => token = Some(next),
            None => return Ok(None),
        }
    }
}

async fn update(client: &Client, application: &Application, image: &str) -> Result<Change> {
    if application.configuration["image"] == image && application.max_instances == Some(MAX_INSTANCES) {
        return Ok(Change::None);
    }
    let path = format!("{APPLICATIONS}/{}", segment(&application.id));
    let change = json!({ "configuration": configuration(image), "max_instances": MAX_INSTANCES });
    client.execute(&Call::new(Method::PATCH, path.as_str(), Repeat::Safe).with_json(&change)).await?;
    let rollout = json!({
        "description": "A new image", "strategy": "rolling", "kind": "full_auto",
        "target_configuration": configuration(image),
        "steps": [{ "step_size": { "percentage": 100 }, "description": "all instances" }]
    });
    // Each call begins one, so it is not made again after a lost answer.
    let call = Call::new(Method::POST, format!("{path}/rollouts"), Repeat::Unsafe).with_json(&rollout);
    client.execute(&call).await.map_err(not_rolled_out)?;
    Ok(Change::RolledOut)
}

fn not_rolled_out(error: Error) -> Error {
    error.with_help("the application has the new image; look in the dashboard whether its rollout began")
}

fn configuration(image: &str) -> Value {
    json!({ "image": image, "instance_type": INSTANCE_TYPE })
}
