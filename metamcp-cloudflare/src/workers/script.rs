//! The script of one server.

use std::collections::BTreeSet;

use metamcp_core::{Artifact, COMPATIBILITY_DATE, EnvName, Error, ErrorKind, Result, ServerRef, VersionId};
use secrecy::SecretString;
use uuid::Uuid;

use super::api::{Exposure, Scripts, Version};
use super::store::Store;
use super::upload::{
    Migrations, PLACEHOLDER_VERSION, SECRETS_ANNOTATION, STATE_KEY, Upload, VERSION_ANNOTATION, check_supported,
};

/// A server's script, which may not exist yet.
#[derive(Debug)]
pub(super) struct OwnScript<'a> {
    pub(super) scripts: &'a Scripts,
    pub(super) store: &'a Store,
    pub(super) server: &'a ServerRef,
    /// What makes it ours.
    pub(super) tag: String,
}

/// What is under the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

impl OwnScript<'_> {
    fn name(&self) -> &str {
        self.server.name.as_str()
    }

    async fn find(&self) -> Result<Found> {
        Ok(match self.scripts.tags(self.name()).await? {
            None => Found::Nothing,
            Some(tags) if tags.contains(&self.tag) => Found::Ours,
            Some(_) => Found::Foreign,
        })
    }

    pub(super) async fn exists(&self) -> Result<bool> {
        Ok(self.find().await? == Found::Ours)
    }

    /// Makes the script with a placeholder where there is none; refuses a foreign one. Says whether it was made.
    async fn ensure(&self) -> Result<bool> {
        match self.find().await? {
            Found::Ours => Ok(false),
            Found::Foreign => {
                let message = format!("the account has a Worker {:?} that is not one of these servers", self.name());
                Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_help("choose another name, or remove the Worker"))
            }
            Found::Nothing => {
                let upload = Upload::placeholder(COMPATIBILITY_DATE, 0).with_tag(self.tag.clone()).with_new_state_key();
                self.scripts.put(self.name(), &upload).await?;
                self.scripts.expose(self.name(), Exposure { enabled: false, previews: true }).await?;
                Ok(true)
            }
        }
    }

    /// The live upload's id and its version; `None` while none of ours is live.
    pub(super) async fn live(&self) -> Result<Option<(String, VersionId)>> {
        if !self.exists().await? {
            return Ok(None);
        }
        self.deployed().await
    }

    async fn deployed(&self) -> Result<Option<(String, VersionId)>> {
        let Some(id) = self.scripts.live(self.name()).await? else { return Ok(None) };
        let upload = self.scripts.version(self.name(), &id).await?;
        Ok(version_of(&upload).map(|version| (id, version)))
    }

    /// Keeps a version and uploads it. There is no upload yet of one that brings new Durable Object classes: these
    /// come with an upload that is live at once.
    pub(super) async fn stage(&self, artifact: &Artifact) -> Result<(VersionId, Option<String>)> {
        check_supported(artifact)?;
        let made = self.ensure().await?;
        let staged = self.keep_and_upload(artifact).await;
        if staged.is_err() && made {
            // A script that never had a version is nothing anybody asked for.
            if let Err(error) = self.scripts.remove(self.name()).await {
                tracing::warn!(%error, script = self.name(), "a script without versions could not be removed");
            }
        }
        staged
    }

    async fn keep_and_upload(&self, artifact: &Artifact) -> Result<(VersionId, Option<String>)> {
        let version = VersionId::try_from(Uuid::new_v4().to_string())
            .map_err(|error| Error::new(ErrorKind::Unexpected, "a UUID is no version id").with_source(error))?;
        self.store.put(self.server.id, &version, artifact).await?;
        let uploaded = async {
            if self.new_classes(artifact).await?.is_empty() {
                self.upload(artifact, &version).await.map(Some)
            } else {
                Ok(None)
            }
        };
        match uploaded.await {
            Ok(upload) => Ok((version, upload)),
            Err(error) => {
                if let Err(error) = self.store.remove(self.server.id, &version).await {
                    tracing::warn!(%error, %version, "a version that was not uploaded could not be forgotten");
                }
                Err(error)
            }
        }
    }

    /// Makes a version the live one. Idempotent.
    pub(super) async fn activate(&self, version: &VersionId) -> Result<()> {
        let artifact = self.store.artifact(self.server.id, version).await?;
        let artifact = artifact.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("version {version} of server {} is not listed", self.server.name))
                .with_help("list the versions to see those that are kept")
        })?;
        // It is gone if somebody removed it by hand.
        self.ensure().await?;
        let classes = self.new_classes(&artifact).await?;
        if !classes.is_empty() {
            self.replace(&artifact, version, &classes).await?;
        } else if !self.deployed_with_present_secrets(version).await? {
            self.deploy(&artifact, version).await?;
        }
        let crons = &artifact.settings.crons;
        if !crons.is_empty() {
            self.scripts.schedule(self.name(), crons).await?;
        }
        let previews = !artifact.settings.has_durable_state();
        self.scripts.expose(self.name(), Exposure { enabled: true, previews }).await
    }

    async fn deployed_with_present_secrets(&self, version: &VersionId) -> Result<bool> {
        let Some((id, live)) = self.deployed().await? else { return Ok(false) };
        if live != *version {
            return Ok(false);
        }
        let uploads = self.scripts.versions(self.name()).await?;
        let present = secrets_changes(&uploads);
        Ok(uploads.iter().any(|upload| upload.id == id && changes_before(upload) == Some(present)))
    }

    /// Deploys the upload of a version that has the present secrets; it is uploaded anew if there is none, or if
    /// Cloudflare refuses the old one: it was made before a Durable Object migration.
    async fn deploy(&self, artifact: &Artifact, version: &VersionId) -> Result<()> {
        let uploads = self.scripts.versions(self.name()).await?;
        let present = secrets_changes(&uploads);
        let mut of_version = uploads.into_iter().filter(|upload| version_of(upload).as_ref() == Some(version));
        if let Some(upload) = of_version.find(|upload| changes_before(upload) == Some(present)) {
            match self.scripts.deploy(self.name(), &upload.id).await {
                Err(error) if error.kind() == ErrorKind::Unexpected => {
                    tracing::debug!(%error, %version, "uploading a version again that cannot be deployed as it is");
                }
                outcome => return outcome,
            }
        }
        let upload = self.upload(artifact, version).await?;
        self.scripts.deploy(self.name(), &upload).await
    }

    /// Uploads a version with the secrets of the newest upload and returns the upload's id.
    async fn upload(&self, artifact: &Artifact, version: &VersionId) -> Result<String> {
        let uploads = self.scripts.versions(self.name()).await?;
        self.add(&Upload::of(artifact, version, secrets_changes(&uploads)), &uploads).await
    }

    /// Uploads once, also if the answer is lost: then the upload is looked for.
    async fn add(&self, upload: &Upload, before: &[Version]) -> Result<String> {
        match self.scripts.add_version(self.name(), upload).await {
            Ok(added) => Ok(added.id),
            Err(error)
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Unexpected) =>
            {
                let now = self.scripts.versions(self.name()).await?;
                let new = now.into_iter().find(|new| before.iter().all(|known| known.id != new.id));
                match new {
                    Some(new) => Ok(new.id),
                    None if error.kind() == ErrorKind::Unexpected => Err(error),
                    // It never arrived.
                    None => self.scripts.add_version(self.name(), upload).await.map(|added| added.id),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Classes of a version that the script lacks.
    async fn new_classes<'a>(&self, artifact: &'a Artifact) -> Result<BTreeSet<&'a str>> {
        let mut classes: BTreeSet<_> =
            artifact.settings.durable_objects.iter().map(|object| object.class_name.as_str()).collect();
        if !classes.is_empty() {
            for known in self.scripts.durable_object_classes(self.name()).await? {
                classes.remove(known.as_str());
            }
        }
        Ok(classes)
    }

    /// Uploads a version as the whole script, with new Durable Object classes; it is live at once.
    async fn replace(&self, artifact: &Artifact, version: &VersionId, classes: &BTreeSet<&str>) -> Result<()> {
        let uploads = self.scripts.versions(self.name()).await?;
        let old_tag = match uploads.first() {
            Some(newest) => self.scripts.version(self.name(), &newest.id).await?.resources.script_runtime.migration_tag,
            None => None,
        };
        let upload = Upload::of(artifact, version, secrets_changes(&uploads))
            .with_tag(self.tag.clone())
            .with_migrations(Migrations::adding(classes, old_tag));
        match self.scripts.put(self.name(), &upload).await {
            // A repetition of a call whose answer was lost finds the tag moved on.
            Err(error) if error.kind() == ErrorKind::Conflict && self.is_live(version).await? => Ok(()),
            outcome => outcome,
        }
    }

    async fn is_live(&self, version: &VersionId) -> Result<bool> {
        Ok(self.deployed().await?.is_some_and(|(_, live)| live == *version))
    }

    /// Sets or removes a secret: an upload of the live version, or of the placeholder, with the change, which is
    /// deployed if a version is live.
    pub(super) async fn change_secret(&self, name: &EnvName, value: Option<&SecretString>) -> Result<()> {
        if value.is_none() && !self.secret_names().await?.contains(name) {
            return Ok(());
        }
        self.ensure().await?;
        let uploads = self.scripts.versions(self.name()).await?;
        let changes = secrets_changes(&uploads) + 1;
        let live = self.deployed().await?;
        let upload = match &live {
            Some((_, version)) => {
                let artifact = self.store.artifact(self.server.id, version).await?;
                let artifact = artifact.ok_or_else(|| {
                    let message = format!("version {version}, which is live, is not listed any more");
                    Error::new(ErrorKind::Unexpected, message).with_help("deploy the server again")
                })?;
                Upload::of(&artifact, version, changes)
            }
            None => Upload::placeholder(COMPATIBILITY_DATE, changes),
        };
        let upload = if let Some(value) = value {
            upload.with_secret(name.as_str(), value)
        } else {
            let kept = self.bound_secrets().await?;
            upload.keeping_only(kept.iter().map(String::as_str).filter(|kept| *kept != name.as_str()))
        };
        let id = self.add(&upload, &uploads).await?;
        if live.is_some() { self.scripts.deploy(self.name(), &id).await } else { Ok(()) }
    }

    /// Names of the secrets that have a value, sorted.
    pub(super) async fn secret_names(&self) -> Result<Vec<EnvName>> {
        if !self.exists().await? {
            return Ok(Vec::new());
        }
        let bound = self.bound_secrets().await?;
        let mut names: Vec<EnvName> =
            bound.into_iter().filter(|name| name != STATE_KEY).filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// The secrets of the newest upload, our own key among them.
    async fn bound_secrets(&self) -> Result<Vec<String>> {
        let uploads = self.scripts.versions(self.name()).await?;
        let Some(newest) = uploads.first() else { return Ok(Vec::new()) };
        let bindings = self.scripts.version(self.name(), &newest.id).await?.resources.bindings;
        Ok(bindings.into_iter().filter(|bound| bound.kind == "secret_text").map(|bound| bound.name).collect())
    }

    /// Removes the script, if it is ours, and what is kept of the server.
    pub(super) async fn remove(&self) -> Result<()> {
        if self.exists().await? {
            self.scripts.remove(self.name()).await?;
        }
        self.store.remove_all(self.server.id).await
    }
}

/// The version of ours that an upload belongs to.
fn version_of(upload: &Version) -> Option<VersionId> {
    let version = upload.annotations.get(VERSION_ANNOTATION)?;
    (version != PLACEHOLDER_VERSION).then(|| version.parse().ok())?
}

/// How often secrets had been changed before an upload.
fn changes_before(upload: &Version) -> Option<u64> {
    let text = upload.annotations.get(SECRETS_ANNOTATION)?;
    text.split_whitespace().find_map(|word| word.parse().ok())
}

/// How often secrets have been changed.
fn secrets_changes(uploads: &[Version]) -> u64 {
    uploads.iter().filter_map(changes_before).max().unwrap_or_default()
}
