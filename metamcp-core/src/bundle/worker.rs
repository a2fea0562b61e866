//! Bundles a Worker that is a project of its own, with npm packages of its own.

use bytes::Bytes;

use super::Toolchain;
use super::esbuild::Scratch;
use super::toolchain::npm_install;
use crate::{Digest, Result};

/// As wrangler resolves packages.
const CONDITIONS: &str = "--conditions=workerd,worker,browser";

impl Toolchain {
    /// Bundles the Worker at `entry` among a project's files, `package.json` and `package-lock.json` among them: its
    /// packages are installed without their scripts. What was bundled is kept beside the toolchain.
    ///
    /// Errors are those of [`Toolchain::install`], and [`ErrorKind::BuildFailed`](crate::ErrorKind::BuildFailed) with
    /// esbuild's message.
    pub async fn bundle_worker(&self, files: &[(&str, &str)], entry: &str) -> Result<Bytes> {
        let parts = files.iter().flat_map(|(path, text)| [path.as_bytes(), text.as_bytes()]);
        let digest = Digest::of_parts(parts.chain([entry.as_bytes(), CONDITIONS.as_bytes()]));
        let kept = self.folder().join(format!("worker-{}.js", digest.short(16)));
        if let Ok(bytes) = tokio::fs::read(&kept).await {
            return Ok(bytes.into());
        }
        let scratch = Scratch::new(self).await?;
        scratch.write(files.iter().map(|(path, text)| (*path, text.as_bytes()))).await?;
        npm_install(scratch.path(), "--omit=dev").await?;
        Ok(scratch.bundle(entry, &[CONDITIONS], &kept).await?.into())
    }
}
