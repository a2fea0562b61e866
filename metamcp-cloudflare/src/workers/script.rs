//! The script of one server.

use std::collections::BTreeSet;

use metamcp_core::{
    Artifact, COMPATIBILITY_DATE, EnvName, Error, ErrorKind, LogLine, LogOptions, Result, ServerRef, VersionId,
};
use secrecy::SecretString;

use super::account::{Account, Callers};
use super::api::{Deployed, Exposure, Scripts, Version};
use super::memory::{Memory, StagedVersion};
use super::store::Store;
use super::tail::{self, Listener};
use super::upload::{
    CHECK_KEY, Migrations, PLACEHOLDER_VERSION, SECRETS_ANNOTATION, Target, Upload, VERSION_ANNOTATION, check_supported,
};
use super::{changed_outside, check_bearer_secret, definable, new_version, not_listed, warn_if_left};
use crate::error::KEEP_CLASSES;

/// A server's script, which may not exist yet.
#[derive(Debug)]
pub(super) struct OwnScript<'a> {
    pub(super) account: &'a Account,
    pub(super) store: &'a Store,
    pub(super) memory: &'a Memory,
    pub(super) server: &'a ServerRef,
}

/// What is under the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

/// What a script of ours answers with.
enum Live {
    /// The placeholder, or nothing.
    NoVersion,
    Ours(VersionId),
    /// What somebody uploaded by hand.
    Foreign,
}

/// A script that is ours.
struct Ensured {
    /// Whether it was made just now.
    made: bool,
    /// Its uploads, newest first.
    uploads: Vec<Version>,
}

impl OwnScript<'_> {
    fn name(&self) -> &str {
        self.server.name.as_str()
    }

    fn scripts(&self) -> &Scripts {
        &self.account.scripts
    }

    /// What makes it ours.
    fn tag(&self) -> String {
        self.account.tag(self.server.id)
    }

    async fn find(&self) -> Result<Found> {
        Ok(match self.scripts().tags(self.name()).await? {
            None => Found::Nothing,
            Some(tags) if tags.contains(&self.tag()) => Found::Ours,
            Some(_) => Found::Foreign,
        })
    }

    pub(super) async fn exists(&self) -> Result<bool> {
        Ok(self.find().await? == Found::Ours)
    }

    /// Makes the script with a placeholder where there is none; refuses a foreign one.
    async fn ensure(&self) -> Result<Ensured> {
        let uploads = self.scripts().versions(self.name()).await?;
        if self.memory.recognizes(self.server.id, &uploads) {
            return Ok(Ensured { made: false, uploads });
        }
        let ensured = match self.find().await? {
            Found::Ours => Ensured { made: false, uploads },
            Found::Foreign => {
                let message = format!("the account has a Worker {:?} that is not one of these servers", self.name());
                return Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_help("choose another name, or remove the Worker"));
            }
            Found::Nothing => {
                self.store.check_placement().await?;
                let upload = Upload::placeholder(COMPATIBILITY_DATE, &secrets_note(0, None))
                    .with_tag(self.tag())
                    .with_new_state_key();
                self.scripts().put(self.name(), &upload).await?;
                Ensured { made: true, uploads: self.scripts().versions(self.name()).await? }
            }
        };
        if let Some(newest) = ensured.uploads.first() {
            self.memory.owns(self.server.id, newest.id.clone());
        }
        if ensured.made {
            self.memory.has_classes(self.server.id, BTreeSet::new());
        }
        Ok(ensured)
    }

    /// Which of our versions is live.
    pub(super) async fn active(&self) -> Result<Option<VersionId>> {
        if self.exists().await? { self.live_version().await } else { Ok(None) }
    }

    /// Which version is live of a script that is ours: one request where it was deployed from here, two for one that
    /// came with new Durable Object classes or was deployed by another hand.
    pub(super) async fn live_version(&self) -> Result<Option<VersionId>> {
        let deployed = self.scripts().live(self.name()).await?;
        match self.live_of(deployed.filter(Deployed::prevails)).await? {
            Live::Ours(version) => Ok(Some(version)),
            Live::NoVersion | Live::Foreign => Ok(None),
        }
    }

    async fn live_of(&self, deployed: Option<Deployed>) -> Result<Live> {
        match deployed {
            None => Ok(Live::NoVersion),
            Some(Deployed { version: Some(version), .. }) => Ok(Live::Ours(version)),
            Some(Deployed { upload, .. }) => Ok(live_as(&self.scripts().version(self.name(), &upload).await?)),
        }
    }

    /// What is live, for who puts something in its place: divided traffic is not ours to unite.
    async fn live_alone(&self) -> Result<Live> {
        match self.scripts().live(self.name()).await? {
            Some(deployed) if !deployed.is_alone() => Ok(Live::Foreign),
            deployed => self.live_of(deployed).await,
        }
    }

    /// Who may call the version that is live; `None` while there is none. [`ErrorKind::Conflict`] for one that is not
    /// ours.
    pub(super) async fn live_callers(&self) -> Result<Option<Callers>> {
        if !self.exists().await? {
            return Ok(None);
        }
        let Some(deployed) = self.scripts().live(self.name()).await? else { return Ok(None) };
        let upload = self.scripts().version(self.name(), &deployed.upload).await?;
        let needs_token = upload.resources.bindings.iter().any(|bound| bound.name == CHECK_KEY);
        match live_as(&upload) {
            Live::NoVersion => Ok(None),
            Live::Ours(_) if deployed.prevails() => Ok(Some(Callers::with_token(needs_token))),
            Live::Ours(_) | Live::Foreign => Err(changed_outside(self.server)),
        }
    }

    /// Keeps a version and uploads it. There is no upload yet of one that brings new Durable Object classes: these
    /// come with an upload that is live at once.
    pub(super) async fn stage(&self, artifact: &Artifact) -> Result<(VersionId, Option<String>)> {
        check_supported(artifact, Target::AccountScript, self.account.private())?;
        let Ensured { made, uploads } = self.ensure().await?;
        let staged = async {
            let new_classes = self.new_classes(artifact).await?;
            if !artifact.settings.has_durable_state() {
                self.open_previews(made).await?;
            }
            self.keep_and_upload(artifact, &uploads, &new_classes).await
        };
        let staged = staged.await;
        if staged.is_err() && made {
            warn_if_left(self.server, self.scripts().remove(self.name()).await);
        }
        staged
    }

    /// Versions answer at host names of their own from now on. Whoever made the script may not have come so far.
    async fn open_previews(&self, made: bool) -> Result<()> {
        let known = match self.memory.exposure(self.server.id) {
            Some(known) => known,
            None if made => Exposure::default(),
            None => self.scripts().exposure(self.name()).await?,
        };
        let wanted = Exposure { previews: true, ..known };
        if wanted != known {
            self.scripts().expose(self.name(), wanted).await?;
        }
        self.memory.exposed(self.server.id, wanted);
        Ok(())
    }

    async fn keep_and_upload(
        &self,
        artifact: &Artifact,
        uploads: &[Version],
        new_classes: &BTreeSet<&str>,
    ) -> Result<(VersionId, Option<String>)> {
        if artifact.settings.bearer_secret.is_some() {
            let set = self.bound_secrets(uploads).await?;
            check_bearer_secret(artifact, |name| set.iter().any(|set| set == name))?;
        }
        let version = new_version()?;
        self.store.put(self.server.id, &version, artifact).await?;
        let uploaded = async {
            if new_classes.is_empty() { self.upload(artifact, &version, uploads).await.map(Some) } else { Ok(None) }
        };
        match uploaded.await {
            Ok(upload) => {
                self.memory
                    .staged(version.clone(), StagedVersion { artifact: artifact.clone(), upload: upload.clone() });
                Ok((version, upload))
            }
            Err(error) => {
                if let Err(error) = self.store.remove(self.server.id, &version).await {
                    tracing::warn!(%error, %version, "a version that was not uploaded could not be forgotten");
                }
                Err(error)
            }
        }
    }

    /// Makes a version the live one, waits until it answers, and says who may call it. Idempotent.
    pub(super) async fn activate(&self, version: &VersionId) -> Result<Callers> {
        let (artifact, upload) = if let Some(staged) = self.memory.take_staged(version) {
            (staged.artifact, staged.upload)
        } else {
            let stored = self.store.artifact(self.server.id, version).await?;
            (stored.ok_or_else(|| not_listed(self.server, version))?, None)
        };
        check_supported(&artifact, Target::AccountScript, self.account.private())?;
        match upload {
            Some(upload) if self.deploy_staged(&upload, version).await? => {}
            _ => self.look_and_deploy(&artifact, version).await?,
        }
        let exposure = Exposure { enabled: true, previews: !artifact.settings.has_durable_state() };
        if self.memory.exposure(self.server.id) != Some(exposure) {
            self.scripts().expose(self.name(), exposure).await?;
            self.memory.exposed(self.server.id, exposure);
        }
        let health = self.scripts().url(self.name(), "health").await?;
        self.account.arrived(&artifact.settings, version, &health).await?;
        Ok(Callers::with_token(artifact.settings.bearer_secret.is_some()))
    }

    /// Deploys an upload of just now. Cloudflare refuses it if secrets or Durable Object classes were changed since, or if
    /// its script is gone; says whether it is live.
    async fn deploy_staged(&self, upload: &str, version: &VersionId) -> Result<bool> {
        match self.scripts().deploy(self.name(), upload, version).await {
            Ok(()) => Ok(true),
            Err(error) if is_outdated(&error) || error.kind() == ErrorKind::NotFound => {
                tracing::debug!(%error, "looking anew at a script whose newest upload cannot be deployed");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn look_and_deploy(&self, artifact: &Artifact, version: &VersionId) -> Result<()> {
        // It is gone if somebody removed it by hand.
        let Ensured { uploads, .. } = self.ensure().await?;
        let classes = self.new_classes(artifact).await?;
        if classes.is_empty() {
            self.deploy(artifact, version, &uploads).await
        } else {
            self.replace(artifact, version, &classes, &uploads).await
        }
    }

    /// Deploys the upload of a version that has the present secrets; it is uploaded anew if there is none, or if
    /// Cloudflare refuses the old one: it was made before a Durable Object migration. Deploying what is live already
    /// adds a line to its history and changes nothing.
    async fn deploy(&self, artifact: &Artifact, version: &VersionId, uploads: &[Version]) -> Result<()> {
        let present = self.secrets_note_of(artifact, secrets_changes(uploads));
        let mut of_version = uploads.iter().filter(|upload| version_of(upload).as_ref() == Some(version));
        if let Some(upload) = of_version.find(|upload| upload.annotations.get(SECRETS_ANNOTATION) == Some(&present)) {
            match self.scripts().deploy(self.name(), &upload.id, version).await {
                Err(error) if is_outdated(&error) => {
                    tracing::debug!(%error, %version, "uploading a version again that cannot be deployed as it is");
                }
                outcome => return outcome,
            }
        }
        let upload = self.upload(artifact, version, uploads).await?;
        self.scripts().deploy(self.name(), &upload, version).await
    }

    /// Uploads a version with the secrets of the newest upload and returns the upload's id.
    async fn upload(&self, artifact: &Artifact, version: &VersionId, uploads: &[Version]) -> Result<String> {
        self.add(&self.upload_of(artifact, version, secrets_changes(uploads)), uploads).await
    }

    fn secrets_note_of(&self, artifact: &Artifact, changes: u64) -> String {
        let needs_token = artifact.settings.bearer_secret.is_some();
        secrets_note(changes, needs_token.then(|| self.account.check_key_id(self.server.id)).as_deref())
    }

    fn upload_of(&self, artifact: &Artifact, version: &VersionId, secrets_changes: u64) -> Upload {
        let upload = Upload::of(artifact, version, &self.secrets_note_of(artifact, secrets_changes));
        self.account.with_check_key(upload, artifact, self.server.id)
    }

    /// Uploads once, also if the answer is lost: then the upload is looked for.
    async fn add(&self, upload: &Upload, before: &[Version]) -> Result<String> {
        match self.scripts().add_version(self.name(), upload).await {
            Ok(added) => Ok(added.id),
            Err(error)
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Unexpected) =>
            {
                let now = self.scripts().versions(self.name()).await?;
                let is_new = |upload: &Version| before.iter().all(|known| known.id != upload.id);
                // Somebody may have uploaded another one by hand meanwhile.
                let new = now.into_iter().find(|new| is_new(new) && upload.carries(&new.annotations));
                match new {
                    Some(new) => Ok(new.id),
                    None if error.kind() == ErrorKind::Unexpected => Err(error),
                    // It never arrived.
                    None => self.scripts().add_version(self.name(), upload).await.map(|added| added.id),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Classes of a version that the script lacks. [`ErrorKind::Unsupported`] for a version that lacks one of the script's,
    /// whose objects would be left without code.
    async fn new_classes<'a>(&self, artifact: &'a Artifact) -> Result<BTreeSet<&'a str>> {
        let settings = &artifact.settings;
        // Another program may have added one; then Cloudflare refuses what lacks it.
        let remembered = self.memory.classes(self.server.id).filter(|_| !settings.has_durable_state());
        let present = match remembered {
            Some(remembered) => remembered,
            None => self.scripts().durable_object_classes(self.name()).await?.into_keys().collect(),
        };
        let lost: Vec<_> = present.iter().map(String::as_str).filter(|class| !settings.exports_class(class)).collect();
        if !lost.is_empty() {
            let (server, lost) = (&self.server.name, lost.join(", "));
            let message =
                format!("server {server} keeps state in the Durable Object class {lost}, which a version lacks");
            return Err(Error::new(ErrorKind::Unsupported, message).with_help(KEEP_CLASSES));
        }
        let own = settings.durable_objects.iter().map(|object| object.class_name.as_str());
        let new = own.filter(|class| !present.contains(*class)).collect();
        self.memory.has_classes(self.server.id, present);
        Ok(new)
    }

    /// Uploads a version as the whole script, with new Durable Object classes; it is live at once.
    async fn replace(
        &self,
        artifact: &Artifact,
        version: &VersionId,
        classes: &BTreeSet<&str>,
        uploads: &[Version],
    ) -> Result<()> {
        let old_tag = self.scripts().migration_tag_of(self.name(), uploads.first()).await?;
        let upload = self
            .upload_of(artifact, version, secrets_changes(uploads))
            .with_tag(self.tag())
            .with_migrations(Migrations::adding(classes, old_tag));
        match self.scripts().put(self.name(), &upload).await {
            // A repetition of a call whose answer was lost finds the tag moved on.
            Err(error) if error.kind() == ErrorKind::Conflict && self.is_live(version).await? => {}
            outcome => outcome?,
        }
        self.memory.got_classes(self.server.id, classes);
        Ok(())
    }

    async fn is_live(&self, version: &VersionId) -> Result<bool> {
        Ok(self.live_version().await?.as_ref() == Some(version))
    }

    /// Sets or removes a secret: an upload of the live version, or of the placeholder, with the change, which is
    /// deployed if a version is live. [`ErrorKind::Conflict`] while something answers that is not ours: it would go on
    /// with the old value.
    pub(super) async fn change_secret(&self, name: &EnvName, value: Option<&SecretString>) -> Result<()> {
        if value.is_none() && !self.secret_names().await?.contains(name) {
            return Ok(());
        }
        let Ensured { uploads, .. } = self.ensure().await?;
        let changes = secrets_changes(&uploads) + 1;
        let live = match self.live_alone().await? {
            Live::Ours(version) => Some(version),
            Live::NoVersion => None,
            Live::Foreign => {
                let help = "deploy the server, then set the secret again";
                return Err(changed_outside(self.server).with_help(help));
            }
        };
        let upload = match &live {
            Some(version) => {
                let artifact = self.store.artifact(self.server.id, version).await?;
                let artifact = artifact.ok_or_else(|| {
                    let message = format!("version {version}, which is live, is not listed any more");
                    Error::new(ErrorKind::Unexpected, message).with_help("deploy the server again")
                })?;
                self.upload_of(&artifact, version, changes)
            }
            None => Upload::placeholder(COMPATIBILITY_DATE, &secrets_note(changes, None)),
        };
        let upload = if let Some(value) = value {
            upload.with_secret(name.as_str(), value)
        } else {
            let kept = self.bound_secrets(&uploads).await?;
            upload.keeping_only(kept.iter().map(String::as_str).filter(|kept| *kept != name.as_str()))
        };
        let id = self.add(&upload, &uploads).await?;
        match &live {
            Some(version) => self.scripts().deploy(self.name(), &id, version).await,
            None => Ok(()),
        }
    }

    /// What its versions log while they are listened to.
    pub(super) async fn listen(&self, options: LogOptions) -> Result<Vec<LogLine>> {
        if !self.exists().await? {
            return Ok(Vec::new());
        }
        let uploads = self.scripts().versions(self.name()).await?;
        let live = self.live_version().await?;
        let version = |id: Option<&str>| match id {
            Some(id) => uploads.iter().find(|upload| upload.id == id).and_then(version_of),
            None => live.clone(),
        };
        tail::listen(self.account, self.name(), options, version).await
    }

    /// Listening to one of its versions.
    pub(super) async fn listen_to(&self, version: &VersionId) -> Result<Listener> {
        let uploads = self.scripts().versions(self.name()).await?;
        let upload = uploads.into_iter().find(|upload| version_of(upload).as_ref() == Some(version));
        let upload = upload.ok_or_else(|| not_listed(self.server, version))?;
        Listener::open(self.account, self.name(), upload.id, version.clone()).await
    }

    /// Names of the secrets that have a value, sorted.
    pub(super) async fn secret_names(&self) -> Result<Vec<EnvName>> {
        if !self.exists().await? {
            return Ok(Vec::new());
        }
        let uploads = self.scripts().versions(self.name()).await?;
        let bound = self.bound_secrets(&uploads).await?;
        Ok(definable(bound))
    }

    /// The secrets of the newest upload, our own keys among them.
    async fn bound_secrets(&self, uploads: &[Version]) -> Result<Vec<String>> {
        let Some(newest) = uploads.first() else { return Ok(Vec::new()) };
        let bindings = self.scripts().version(self.name(), &newest.id).await?.resources.bindings;
        Ok(bindings.into_iter().filter(|bound| bound.kind == "secret_text").map(|bound| bound.name).collect())
    }

    /// Removes the script, if it is ours, and what is kept of the server.
    pub(super) async fn remove(&self) -> Result<()> {
        self.memory.forget(self.server.id);
        self.store.check_placement().await?;
        if self.exists().await? {
            self.scripts().remove(self.name()).await?;
        }
        self.store.remove_all(self.server.id).await
    }
}

/// Whether a version cannot be deployed as it was uploaded, and may be once it is uploaded anew.
fn is_outdated(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unexpected)
}

/// What an upload is, once it is live.
fn live_as(upload: &Version) -> Live {
    match (version_of(upload), upload.annotations.get(VERSION_ANNOTATION)) {
        (Some(version), _) => Live::Ours(version),
        (None, Some(tag)) if tag == PLACEHOLDER_VERSION => Live::NoVersion,
        (None, _) => Live::Foreign,
    }
}

/// The version of ours that an upload belongs to.
fn version_of(upload: &Version) -> Option<VersionId> {
    let version = upload.annotations.get(VERSION_ANNOTATION)?;
    (version != PLACEHOLDER_VERSION).then(|| version.parse().ok())?
}

/// Which secrets an upload has: those after so many changes, and which key of ours.
fn secrets_note(changes: u64, check_key: Option<&str>) -> String {
    let key = check_key.map(|id| format!(", check key {id}")).unwrap_or_default();
    format!("secrets changed {changes} times{key}")
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
