//! workerd, esbuild and the MCP TypeScript SDK, installed once per user by npm.

use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metamcp_templates::{TOOLCHAIN_LOCK, TOOLCHAIN_PACKAGE};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::{Digest, Error, ErrorKind, Result};

/// A cold install takes a few seconds; a slow mirror some minutes.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at the lock of another installer.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The installed toolchain. Everything after [`Toolchain::install`] works offline.
#[derive(Debug, Clone)]
pub struct Toolchain {
    folder: PathBuf,
    platform: Platform,
}

impl Toolchain {
    /// Finds the toolchain below `cache`, or installs it there: `npm install --ignore-scripts` of exact versions
    /// with a lock file, in a folder keyed by the pins, guarded against a second installer.
    ///
    /// [`ErrorKind::ConfigInvalid`] if npm is missing, [`ErrorKind::Unavailable`] with npm's own message if it fails,
    /// [`ErrorKind::TimedOut`] after five minutes, [`ErrorKind::Unsupported`] on a platform without workerd.
    pub async fn install(cache: &Path) -> Result<Self> {
        let platform = Platform::current()?;
        // Its programs are started in other folders than this one.
        let cache = &std::path::absolute(cache).map_err(|error| cannot("find", cache, error))?;
        let folder = cache.join(format!("toolchain-{}", Self::fingerprint()));
        let toolchain = Self { folder, platform };
        if toolchain.is_complete() {
            return Ok(toolchain);
        }
        tokio::fs::create_dir_all(cache).await.map_err(|error| cannot("create", cache, error))?;
        let _lock = lock(&cache.join("toolchain.lock")).await?;
        if !toolchain.is_complete() {
            toolchain.install_into_place(cache).await?;
        }
        Ok(toolchain)
    }

    /// Where a user's toolchain is kept unless said otherwise: `metamcp` below the cache folder of the platform, which
    /// is `XDG_CACHE_HOME` where that is set. [`ErrorKind::ConfigInvalid`] without a home directory.
    pub fn default_folder() -> Result<PathBuf> {
        if let Some(folder) = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
            return Ok(folder.join("metamcp"));
        }
        let below_home = if cfg!(target_os = "macos") { "Library/Caches/metamcp" } else { ".cache/metamcp" };
        env::home_dir().map(|home| home.join(below_home)).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "there is no home directory to keep the JavaScript toolchain in")
        })
    }

    /// Identifies the pinned versions.
    pub fn fingerprint() -> String {
        Digest::of_parts([TOOLCHAIN_PACKAGE.as_bytes(), TOOLCHAIN_LOCK.as_bytes()]).short(12)
    }

    /// The workerd program.
    pub fn workerd(&self) -> PathBuf {
        self.folder.join("node_modules/@cloudflare").join(self.platform.workerd_package()).join("bin/workerd")
    }

    /// The esbuild program.
    pub fn esbuild(&self) -> PathBuf {
        self.folder.join("node_modules/@esbuild").join(self.platform.esbuild_package()).join("bin/esbuild")
    }

    /// The folder that holds `node_modules`: modules in folders below it find the SDK.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder appears by a rename once npm is done, so that its existence means it is complete; the
    /// programs are looked at in case somebody cleaned up in it.
    fn is_complete(&self) -> bool {
        self.workerd().is_file() && self.esbuild().is_file()
    }

    async fn install_into_place(&self, cache: &Path) -> Result<()> {
        tracing::info!(folder = %self.folder.display(), "installing the JavaScript toolchain");
        let scratch = tempfile::Builder::new()
            .prefix("installing-")
            .tempdir_in(cache)
            .map_err(|error| cannot("create a folder in", cache, error))?;
        for (name, text) in [("package.json", TOOLCHAIN_PACKAGE), ("package-lock.json", TOOLCHAIN_LOCK)] {
            let path = scratch.path().join(name);
            tokio::fs::write(&path, text).await.map_err(|error| cannot("write", &path, error))?;
        }
        npm_install(scratch.path(), "--include=optional").await?;
        if self.folder.exists() {
            tokio::fs::remove_dir_all(&self.folder).await.map_err(|error| cannot("remove", &self.folder, error))?;
        }
        tokio::fs::rename(scratch.path(), &self.folder)
            .await
            .map_err(|error| cannot("move the installed toolchain to", &self.folder, error))?;
        if !self.is_complete() {
            let message = format!("npm left no workerd or esbuild in {}", self.folder.display());
            return Err(Error::new(ErrorKind::Unexpected, message)
                .with_help("check that npm is not told to omit optional dependencies (`npm config get omit`)"));
        }
        Ok(())
    }
}

/// `npm ci` would refuse a registry mirror that lacks another platform's package; `npm install` keeps to the
/// lock file all the same.
pub(super) async fn npm_install(folder: &Path, choice: &str) -> Result<()> {
    let npm = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", choice])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(INSTALL_LIMIT, npm).await {
        Err(_) => {
            let message = format!("npm install did not end within {} s", INSTALL_LIMIT.as_secs());
            return Err(Error::new(ErrorKind::TimedOut, message).with_help("check the network and npm's registry"));
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::ConfigInvalid, "npm was not found on PATH")
                .with_help("install Node.js 20 or newer with npm: it is needed once, to install workerd and esbuild"));
        }
        Ok(Err(error)) => return Err(cannot("run npm in", folder, error)),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<_> = stderr.lines().rev().take(8).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    Err(Error::new(ErrorKind::Unavailable, format!("npm install failed: {}", tail.join(" | ")))
        .with_help("check the network and npm's registry, then try again"))
}

/// An exclusive lock on a file, waited for; it ends with the returned handle or with this process.
async fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|error| cannot("create", path, error))?;
    let deadline = Instant::now() + INSTALL_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                let message = format!("another program holds {} for too long", path.display());
                return Err(Error::new(ErrorKind::TimedOut, message));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", path, error)),
        }
    }
}

fn cannot(action: &str, path: &Path, source: std::io::Error) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("cannot {action} {}", path.display())).with_source(source)
}

/// The platforms workerd and esbuild are published for.
#[derive(Debug, Clone, Copy)]
struct Platform {
    os: &'static str,
    x86: bool,
}

impl Platform {
    fn current() -> Result<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            (os @ "linux", arch @ ("x86_64" | "aarch64")) => Ok(Self { os, x86: arch == "x86_64" }),
            ("macos", arch @ ("x86_64" | "aarch64")) => Ok(Self { os: "darwin", x86: arch == "x86_64" }),
            (os, arch) => Err(Error::new(ErrorKind::Unsupported, format!("workerd is not published for {os}-{arch}"))
                .with_help("use Linux or macOS on x86-64 or ARM64")),
        }
    }

    fn workerd_package(self) -> String {
        format!("workerd-{}-{}", self.os, if self.x86 { "64" } else { "arm64" })
    }

    fn esbuild_package(self) -> String {
        format!("{}-{}", self.os, if self.x86 { "x64" } else { "arm64" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_toolchain_in_a_relative_folder_is_found_from_everywhere() {
        let root = tempfile::tempdir().unwrap();
        let kept = Toolchain {
            folder: root.path().join(format!("toolchain-{}", Toolchain::fingerprint())),
            platform: Platform::current().unwrap(),
        };
        for program in [kept.workerd(), kept.esbuild()] {
            std::fs::create_dir_all(program.parent().unwrap()).unwrap();
            std::fs::write(program, "").unwrap();
        }
        let to_root = "../".repeat(env::current_dir().unwrap().components().count() - 1);
        let relative = Path::new(&to_root).join(root.path().strip_prefix("/").unwrap());
        let found = Toolchain::install(&relative).await.unwrap();
        assert!(found.workerd().is_absolute() && found.workerd().is_file(), "{}", found.workerd().display());
    }
}
