//! [`deploy_container_manager`]: the Container Manager in an account.

use std::path::PathBuf;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Result};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::application::{self, CLASS, Change};
use super::project;
use crate::client::{Call, Client, FormPart, Repeat, segment};
use crate::config::CloudflareConfig;
use crate::workers::api::{Exposure, Scripts};

/// Name of the Worker and of its image.
pub(crate) const NAME: &str = "containers-manager";
/// Name of its container application, as wrangler gives it one.
const APPLICATION: &str = "containers-manager-mycontainer";
/// Marks the Worker as ours.
const TAG: &str = "metamcp:container-manager";
/// The migration that made its classes; wrangler.jsonc has the same.
const MIGRATION: &str = "v1";
const COMPATIBILITY_DATE: &str = "2026-11-01";
/// The wrangler that the project was tried with.
const WRANGLER: &str = "wrangler@4.164.0";
/// A key that cannot be guessed.
const MIN_KEY_LENGTH: usize = 32;

/// How a Container Manager is deployed.
#[derive(Debug, Clone)]
pub struct ContainerManagerPlan {
    key: SecretString,
    image: Option<String>,
    folder: Option<PathBuf>,
}

/// What [`deploy_container_manager`] did, and what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerManagerSetup {
    /// Where the Worker answers: what [`ContainerManagerConfig`](crate::ContainerManagerConfig) takes.
    pub url: Url,
    /// What was done, a line each.
    pub done: Vec<String>,
    /// Commands to run on a machine with Docker and Node 22, in order; empty once all is done.
    pub to_run: Vec<String>,
    /// The image that the commands make: give it to [`ContainerManagerPlan::with_image`] and deploy once more.
    pub image: String,
}

impl ContainerManagerPlan {
    /// With the key that callers will have to show: 32 characters or more, without blanks.
    pub fn new(key: SecretString) -> Result<Self> {
        let shown = key.expose_secret();
        if shown.len() < MIN_KEY_LENGTH || !shown.chars().all(|c| c.is_ascii_graphic()) {
            let message = format!("the key is shorter than {MIN_KEY_LENGTH} characters, or holds blanks");
            return Err(
                Error::new(ErrorKind::ConfigInvalid, message).with_help("use the output of `openssl rand -hex 32`")
            );
        }
        Ok(Self { key, image: None, folder: None })
    }

    /// The image of the containers, once it is in an image registry that Cloudflare reads.
    #[must_use]
    pub fn with_image(mut self, reference: impl Into<String>) -> Self {
        self.image = Some(reference.into());
        self
    }

    /// Where the project is written that the image is built from; by default beside the JavaScript toolchain.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }
}

/// Prepares an account for [`ContainerBuilder`](crate::ContainerBuilder), and updates what is there.
///
/// The API can do everything except build the image, which needs Docker. So the Worker is uploaded with its Durable
/// Object classes, its key and its host name. If the plan names an image, the container application is created or changed
/// (`standard-4`, at most 3 at once); if not, the result has the commands that build and push the image.
///
/// ```no_run
/// # use metamcp_cloudflare::{CloudflareConfig, ContainerManagerPlan, deploy_container_manager};
/// # async fn prepare(key: metamcp_core::SecretString) -> metamcp_core::Result<()> {
/// let config = CloudflareConfig::from_env()?;
/// let plan = ContainerManagerPlan::new(key)?; // keep it for CLOUDFLARE_CONTAINER_MANAGER_KEY
/// let setup = deploy_container_manager(&config, &plan).await?;
/// for command in &setup.to_run {
///     println!("{command}"); // run it, on any machine with Docker and Node 22.12
/// }
/// // Once the image is pushed:
/// deploy_container_manager(&config, &plan.with_image(setup.image)).await?;
/// println!("CLOUDFLARE_CONTAINER_MANAGER_URL={}", setup.url);
/// # Ok(())
/// # }
/// ```
///
/// Repeating it is safe. A Worker of the same name that is none of ours is [`ErrorKind::AlreadyExists`]. The token needs
/// Workers Scripts Edit and Containers Edit. npm is needed on this machine.
pub async fn deploy_container_manager(
    config: &CloudflareConfig,
    plan: &ContainerManagerPlan,
) -> Result<ContainerManagerSetup> {
    let client = Client::new(config.clone())?;
    let deployment = Deployment { scripts: Scripts::new(client.clone()), client, plan };
    deployment.run().await.map_err(|error| error.with_operation("deploy the Container Manager"))
}

struct Deployment<'a> {
    client: Client,
    scripts: Scripts,
    plan: &'a ContainerManagerPlan,
}

/// Settings of a Worker that is there.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    bindings: Vec<Value>,
}

impl Deployment<'_> {
    async fn run(&self) -> Result<ContainerManagerSetup> {
        let url = self.scripts.url(NAME, "").await?;
        let toolchain = Toolchain::install(&self.client.config().toolchain_folder()?).await?;
        let code = toolchain.bundle_worker(project::WORKER, project::ENTRY).await?;
        self.upload(&code).await?;
        self.scripts.expose(NAME, Exposure { enabled: true, previews: false }).await?;
        let version = project::version()?;
        let mut setup = ContainerManagerSetup {
            done: vec![format!("uploaded the Worker {NAME} {version} with its key"), format!("it answers at {url}")],
            url,
            to_run: Vec::new(),
            // With a letter, since wrangler takes a tag of digits for a port.
            image: format!("registry.cloudflare.com/{}/{NAME}:v{version}", self.client.config().account_id()),
        };
        match &self.plan.image {
            Some(image) => setup.done.push(self.application(image).await?),
            None => setup.to_run = self.image_commands(version).await?,
        }
        Ok(setup)
    }

    /// Uploads the Worker. Its classes are made by the first upload; when the answer to that is lost, the next attempt
    /// finds them there.
    async fn upload(&self, code: &[u8]) -> Result<()> {
        let mut last = None;
        for _attempt in 0..2 {
            let migrate = self.migration().await?;
            match self.put(code, migrate).await {
                Err(error) if error.kind() == ErrorKind::Conflict => last = Some(error),
                outcome => return outcome,
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn put(&self, code: &[u8], migrate: Option<Value>) -> Result<()> {
        let object =
            |name: &str, class: &str| json!({ "type": "durable_object_namespace", "name": name, "class_name": class });
        let mut metadata = json!({
            "main_module": "index.js", "compatibility_date": COMPATIBILITY_DATE, "compatibility_flags": [],
            "bindings": [
                object("MY_CONTAINER", CLASS), object("JOBS", "JobQueue"),
                { "type": "json", "name": "MAX_INSTANCES", "json": application::MAX_INSTANCES },
                { "type": "secret_text", "name": "CONTAINER_MANAGER_KEY", "text": self.plan.key.expose_secret() }
            ],
            "containers": [{ "name": APPLICATION, "class_name": CLASS }],
            "tags": [TAG], "observability": { "enabled": true }
        });
        if let Some(migrate) = migrate {
            metadata["migrations"] = migrate;
        }
        let parts = vec![
            FormPart { name: "metadata".to_owned(), file: None, content: metadata.to_string().into() },
            FormPart {
                name: "index.js".to_owned(),
                file: Some(("index.js".to_owned(), "application/javascript+module")),
                content: code.to_vec().into(),
            },
        ];
        self.client.execute(&Call::new(Method::PUT, script(), Repeat::Safe).with_form(parts)).await
    }

    /// What makes the classes, unless they are there; an error where the Worker is somebody else's.
    async fn migration(&self) -> Result<Option<Value>> {
        let first = json!({ "new_tag": MIGRATION, "steps": [{ "new_sqlite_classes": [CLASS, "JobQueue"] }] });
        let found = self.client.call::<Settings>(&Call::get(format!("{}/settings", script()))).await;
        let settings = match found {
            Ok(answer) => answer.result,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(first)),
            Err(error) => return Err(error),
        };
        // wrangler deploys it without a tag.
        let has = |class: &str| settings.bindings.iter().any(|binding| binding["class_name"] == class);
        let is_ours = settings.tags.iter().flatten().any(|tag| tag == TAG) || (has(CLASS) && has("JobQueue"));
        if !is_ours {
            let message = format!("the account has a Worker {NAME} that is no Container Manager");
            return Err(Error::new(ErrorKind::AlreadyExists, message).with_help("rename or delete that Worker first"));
        }
        Ok(self.scripts.migration_tag(NAME).await?.is_none().then_some(first))
    }

    async fn application(&self, image: &str) -> Result<String> {
        let namespace = self.namespace().await?;
        let change = application::apply(&self.client, APPLICATION, &namespace, image).await?;
        Ok(match change {
            Change::Made => format!("made the container application {APPLICATION} of {image}"),
            Change::RolledOut => format!("rolled {image} out to the container application {APPLICATION}"),
            Change::None => format!("the container application {APPLICATION} is of {image} already"),
        })
    }

    /// The id of the container class's Durable Object namespace.
    async fn namespace(&self) -> Result<String> {
        self.scripts.durable_object_classes(NAME).await?.remove(CLASS).ok_or_else(|| {
            let message = format!("the Worker {NAME} has no Durable Object class {CLASS}");
            Error::new(ErrorKind::NotFound, message).with_help("delete the Worker and deploy it again")
        })
    }

    async fn image_commands(&self, version: &str) -> Result<Vec<String>> {
        let folder = match &self.plan.folder {
            Some(folder) => folder.clone(),
            None => self.client.config().toolchain_folder()?.join(format!("{NAME}-{version}")),
        };
        project::write(&folder).await?;
        let folder = folder.display().to_string().replace('\'', "'\\''");
        Ok(vec![format!("npx --yes {WRANGLER} containers build --push --tag {NAME}:v{version} '{folder}'")])
    }
}

fn script() -> String {
    format!("workers/scripts/{}", segment(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_be_guessed_is_refused() {
        for key in ["short", &"two words ".repeat(5)] {
            assert_eq!(ContainerManagerPlan::new(key.into()).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        }
        let plan = ContainerManagerPlan::new("s3cret".repeat(6).into()).unwrap();
        assert!(!format!("{plan:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_uploaded_is_what_wrangler_deploys() {
        let config = include_str!("../../container-manager/wrangler.jsonc");
        let quoted = |text: &str| format!("\"{text}\"");
        for text in [NAME, MIGRATION, COMPATIBILITY_DATE, CLASS, "JobQueue", application::INSTANCE_TYPE] {
            assert!(config.contains(&quoted(text)), "{text}");
        }
        assert!(config.contains(&format!("\"max_instances\": {}", application::MAX_INSTANCES)));
    }
}
