//! The images: built on first use, tagged by what is in them, never rebuilt when nothing changed.

mod claim;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use bollard::body_full;
use bollard::query_parameters::{BuildImageOptions, ListImagesOptions, RemoveImageOptions};
use futures::StreamExt;
use metamcp_core::{Digest, Error, ErrorKind, Result, TemplateKind};
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::claim::Claims;
use super::engine::{Engine, engine_error};

/// The whole list of packages takes a minute on a good line.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// Lines of the image's build shown in an error.
const ERROR_LINES: usize = 12;

macro_rules! context {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../docker/", $path)))),*]
    };
}

/// The build context, but for `templates.json`.
const CONTEXT: [(&str, &str); 9] = context!(
    "Dockerfile",
    "globals/package.json",
    "globals/package-lock.json",
    "scripts/bundle.mjs",
    "scripts/forward.mjs",
    "scripts/init.sh",
    "scripts/manifest.mjs",
    "tools/package.json",
    "tools/package-lock.json",
);

/// What an image is for: a target of the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageKind {
    /// Bundling a server's packages; small.
    Build,
    /// Environments: all templates' packages are installed.
    Production,
}

impl ImageKind {
    fn target(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Production => "production",
        }
    }
}

/// The images of a builder.
#[derive(Debug)]
pub(super) struct Images {
    base: String,
    registry: String,
    /// Held while an image is built, so that a burst of first builds makes it once.
    building: Mutex<()>,
    claims: Claims,
    /// Held for the images that were asked for.
    claimed: SyncMutex<HashMap<String, File>>,
}

impl Images {
    /// Images on a base, with packages from a registry. Programs of a user without a home share what is built only if
    /// they share `folder`.
    pub(super) fn new(base: String, registry: String, folder: &Path) -> Result<Self> {
        let claims = Claims::open(folder)?;
        Ok(Self { base, registry, building: Mutex::default(), claims, claimed: SyncMutex::default() })
    }

    /// Identifies what is in the images.
    pub(super) fn fingerprint(&self) -> Digest {
        let templates = templates();
        let files = CONTEXT.iter().flat_map(|(path, content)| [path.as_bytes(), content.as_bytes()]);
        Digest::of_parts(files.chain([templates.as_bytes(), self.base.as_bytes()]))
    }

    /// The tag of an image that is there; it is built if it is not.
    pub(super) async fn ensure(&self, engine: &Engine, kind: ImageKind) -> Result<String> {
        let tag = format!("metamcp-{}:{}", kind.target(), self.fingerprint().short(12));
        self.claim(&tag)?;
        if self.exists(engine, &tag).await? {
            return Ok(tag);
        }
        let _guard = self.building.lock().await;
        // Another program may be at it too.
        let _building = self.claims.building(&tag, BUILD_LIMIT).await?;
        if !self.exists(engine, &tag).await? {
            tracing::info!(%tag, base = %self.base, "building the image; this happens once");
            let built = timeout(BUILD_LIMIT, self.build(engine, kind, &tag)).await;
            built.map_err(|_| Error::new(ErrorKind::TimedOut, "the image was not built within 20 minutes"))??;
        }
        Ok(tag)
    }

    /// Removes our images that nobody of this user's programs used for `age`.
    pub(super) async fn remove_unused(&self, engine: &Engine, age: Duration) -> Result<()> {
        let options = ListImagesOptions {
            filters: Some(HashMap::from([("label".to_owned(), vec![super::LABEL_IMAGE.to_owned()])])),
            ..ListImagesOptions::default()
        };
        let found = engine.call("list images", engine.docker().list_images(Some(options))).await?;
        for tag in found.into_iter().flat_map(|image| image.repo_tags).filter(|tag| tag.starts_with("metamcp-")) {
            let removing = || async {
                let removed = engine.docker().remove_image(&tag, None::<RemoveImageOptions>, None);
                match engine.call("remove an image", removed).await {
                    // A container is made of it.
                    Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
                    _ => Ok(()),
                }
            };
            if self.claims.unless_used(&tag, age, removing).await? {
                tracing::info!(%tag, "removed an image that nobody used for long");
            }
        }
        Ok(())
    }

    fn claim(&self, tag: &str) -> Result<()> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if !claimed.contains_key(tag) {
            claimed.insert(tag.to_owned(), self.claims.claim(tag)?);
        }
        Ok(())
    }

    async fn exists(&self, engine: &Engine, tag: &str) -> Result<bool> {
        match engine.call("look for the image", engine.docker().inspect_image(tag)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn build(&self, engine: &Engine, kind: ImageKind, tag: &str) -> Result<()> {
        let arguments = [("BASE_IMAGE", &self.base), ("NPM_REGISTRY", &self.registry)];
        let options = BuildImageOptions {
            t: Some(tag.to_owned()),
            target: kind.target().to_owned(),
            buildargs: Some(arguments.map(|(name, value)| (name.to_owned(), value.clone())).into()),
            labels: Some(HashMap::from([(super::LABEL_IMAGE.to_owned(), kind.target().to_owned())])),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let mut steps = engine.docker().build_image(options, None, Some(body_full(context()?.into())));
        let mut lines: Vec<String> = Vec::new();
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| self.failed(&lines, engine_error("build the image", error)))?;
            if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
                let error = Error::new(ErrorKind::BuildFailed, format!("could not build the image: {message}"));
                return Err(self.failed(&lines, error));
            }
            for line in step.stream.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()) {
                tracing::info!(%tag, "{line}");
                lines.push(line.to_owned());
            }
        }
        Ok(())
    }

    fn failed(&self, lines: &[String], error: Error) -> Error {
        let tail = lines[lines.len().saturating_sub(ERROR_LINES)..].join(" | ");
        error.with_help(format!(
            "check that the engine can get the base image {:?} and reach npm's registry; it said: {tail}",
            self.base
        ))
    }
}

/// `templates.json`: the templates whose dependencies the image has.
fn templates() -> String {
    let names: Vec<_> = TemplateKind::ALL.iter().map(|template| format!("{:?}", template.as_str())).collect();
    format!("[{}]", names.join(","))
}

fn context() -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let templates = templates();
    for (path, content) in CONTEXT.iter().copied().chain([("templates.json", templates.as_str())]) {
        super::archive::append(&mut archive, path, content.as_bytes())?;
    }
    archive.into_inner().map_err(super::archive::unwritable)
}
