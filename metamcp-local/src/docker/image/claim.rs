//! Which images the programs of this user need, told by locks on files in a folder that they share.
//!
//! ```text
//! images/<tag>            held, shared, by everybody who uses the image; its time is that of the last use
//! images/<tag>.building   held by who builds it
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::owner::make_private_folder;
use crate::workerd::storage_error;

/// How often a lock is tried that somebody else has.
const TRY_INTERVAL: Duration = Duration::from_millis(200);

/// The folder of the claims.
#[derive(Debug)]
pub(super) struct Claims {
    folder: PathBuf,
}

impl Claims {
    /// Those of this user; if there is no home, those of the programs that share `otherwise`.
    pub(super) fn open(otherwise: &Path) -> Result<Self> {
        let folder = Toolchain::default_folder().unwrap_or_else(|_| otherwise.to_owned()).join("images");
        make_private_folder(&folder)?;
        Ok(Self { folder })
    }

    /// Says that an image is in use, as long as the value lives.
    pub(super) fn claim(&self, tag: &str) -> Result<File> {
        let (path, file) = self.file(tag)?;
        file.lock_shared()
            .and_then(|()| file.set_modified(SystemTime::now()))
            .map_err(|error| storage_error("lock", &path, error))?;
        Ok(file)
    }

    /// The right to build an image, once nobody else has it.
    pub(super) async fn building(&self, tag: &str, limit: Duration) -> Result<File> {
        let (path, file) = self.file(&format!("{tag}.building"))?;
        let end = Instant::now() + limit;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(storage_error("lock", &path, error)),
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(TRY_INTERVAL).await,
                Err(TryLockError::WouldBlock) => {
                    let message = format!("another program builds the image {tag} for too long");
                    return Err(Error::new(ErrorKind::TimedOut, message));
                }
            }
        }
    }

    /// Runs `remove` if nobody used the image for `age`, nor begins to while that runs; whether it did.
    pub(super) async fn unless_used<F: Future<Output = Result<()>>>(
        &self,
        tag: &str,
        age: Duration,
        remove: impl FnOnce() -> F,
    ) -> Result<bool> {
        let is_new = !self.path(tag).exists();
        let (path, file) = self.file(tag)?;
        if is_new {
            // Nothing is known about it yet: its time begins now.
            return Ok(false);
        }
        let used = file
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map_err(|error| storage_error("read", &path, error))?;
        if used.elapsed().unwrap_or_default() < age || file.try_lock().is_err() {
            return Ok(false);
        }
        remove().await?;
        Ok(true)
    }

    fn file(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path(name);
        let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let file = opened.map_err(|error| storage_error("open", &path, error))?;
        Ok((path, file))
    }

    /// A tag's `:` and `/` are no part of a file's name.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.replace(['/', ':'], "-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    async fn is_removed(claims: &Claims, age: Duration) -> bool {
        claims.unless_used("metamcp-build:1", age, || async { Ok(()) }).await.unwrap()
    }

    #[tokio::test]
    async fn an_image_is_spared_while_it_is_used_and_for_a_while_after() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims { folder: folder.path().to_owned() };
        assert!(!is_removed(&claims, NOW).await, "nothing is known about it yet");
        let claim = claims.claim("metamcp-build:1").unwrap();
        assert!(!is_removed(&claims, NOW).await, "it is used");
        drop(claim);
        assert!(!is_removed(&claims, Duration::from_secs(3600)).await, "it was used just now");
        assert!(is_removed(&claims, NOW).await);
    }

    #[tokio::test]
    async fn one_builds_and_the_others_wait_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims { folder: folder.path().to_owned() };
        let first = claims.building("metamcp-build:1", NOW).await.unwrap();
        assert_eq!(claims.building("metamcp-build:1", NOW).await.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(first);
        claims.building("metamcp-build:1", NOW).await.unwrap();
    }
}
