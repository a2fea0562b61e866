//! Runs esbuild in a folder of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use super::Toolchain;
use crate::{Error, ErrorKind, Result};

/// Scratch folders below the toolchain's; one that is older than this was left by a killed program.
const SCRATCH_PREFIX: &str = "bundle-";
const SCRATCH_AGE: Duration = Duration::from_secs(600);
/// esbuild needs 0.1 to 0.3 s for the whole SDK.
const BUNDLE_LIMIT: Duration = Duration::from_secs(60);
/// In the scratch folder.
const OUTPUT: &str = "bundled.js";

/// A folder for the files of one bundle, below the toolchain's, where its packages are found.
pub(super) struct Scratch<'a> {
    toolchain: &'a Toolchain,
    folder: TempDir,
}

impl<'a> Scratch<'a> {
    pub(super) async fn new(toolchain: &'a Toolchain) -> Result<Self> {
        remove_stale(toolchain.folder()).await;
        let folder = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(toolchain.folder())
            .map_err(|error| failed("cannot create a scratch folder", error))?;
        Ok(Self { toolchain, folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) async fn write<'f>(&self, files: impl IntoIterator<Item = (&'f str, &'f [u8])> + Send) -> Result<()> {
        // Before the first wait, since an iterator need not be `Send`.
        let files: Vec<_> = files.into_iter().collect();
        for (name, content) in files {
            let file = self.path().join(name);
            let folder = file.parent().unwrap_or(self.path());
            tokio::fs::create_dir_all(folder).await.map_err(|error| failed("cannot write the source", error))?;
            tokio::fs::write(&file, content).await.map_err(|error| failed("cannot write the source", error))?;
        }
        Ok(())
    }

    /// Bundles what `entry` imports and moves it to `path`: a reader sees a whole file or none.
    pub(super) async fn bundle(&self, entry: &str, options: &[&str], path: &Path) -> Result<Vec<u8>> {
        let output = self.path().join(OUTPUT);
        self.esbuild(&self.path().join(entry), options, &output).await?;
        let bytes = tokio::fs::read(&output).await.map_err(|error| failed("cannot read the bundle", error))?;
        tokio::fs::rename(&output, path).await.map_err(|error| failed("cannot keep the bundle", error))?;
        Ok(bytes)
    }

    async fn esbuild(&self, entry: &Path, options: &[&str], output: &Path) -> Result<()> {
        let esbuild = Command::new(self.toolchain.esbuild())
            .arg(entry)
            .arg(format!("--outfile={}", output.display()))
            .args(["--bundle", "--format=esm", "--target=es2024", "--log-level=error"])
            .args(["--external:cloudflare:*", "--external:node:*"])
            .args(options)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(BUNDLE_LIMIT, esbuild)
            .await
            .map_err(|_| Error::new(ErrorKind::TimedOut, "esbuild did not end within 60 s"))?
            .map_err(|error| failed("cannot run esbuild", error))?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        // One that was killed says nothing itself.
        let message = if message.trim().is_empty() { output.status.to_string() } else { message.trim().to_owned() };
        Err(Error::new(ErrorKind::BuildFailed, format!("esbuild: {message}")))
    }
}

/// Removes what killed programs left; whatever fails is tried again before the next bundling.
async fn remove_stale(folder: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let ours = entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
        let age = async { entry.metadata().await.ok()?.modified().ok()?.elapsed().ok() };
        if ours && age.await.is_some_and(|age| age > SCRATCH_AGE) {
            let removed = tokio::fs::remove_dir_all(entry.path()).await;
            tracing::debug!(folder = %entry.path().display(), ?removed, "removed a stale scratch folder");
        }
    }
}

fn failed(what: &str, source: std::io::Error) -> Error {
    Error::new(ErrorKind::BuildFailed, what).with_source(source)
}
