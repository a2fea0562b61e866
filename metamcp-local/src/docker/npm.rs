//! npm's configuration on this machine: which registry packages come from.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use tokio::process::Command;
use tokio::time::timeout;
use url::Url;

/// npm answers within half a second.
const LIMIT: Duration = Duration::from_secs(30);

/// The registry of this user's npm. Tokens are left behind: nothing secret goes into a container.
#[derive(Debug, Clone)]
pub(super) struct NpmRegistry {
    pub(super) url: Url,
    /// Certificates that npm trusts.
    pub(super) cafile: Option<PathBuf>,
}

impl NpmRegistry {
    /// Asks npm; project settings do not count.
    pub(super) async fn of_this_user() -> Result<Self> {
        let npm = Command::new("npm")
            .args(["config", "get", "registry", "cafile"])
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, npm)
            .await
            .map_err(|_| Error::new(ErrorKind::TimedOut, "npm did not tell its configuration within 30 s"))?
            .map_err(|error| invalid("npm cannot be run").with_source(error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let url = value("registry").ok_or_else(|| invalid("npm does not tell its registry"))?;
        let url = Url::parse(url).map_err(|error| invalid("npm's registry is no URL").with_source(error))?;
        if url.scheme() != "https" || url.host_str().is_none() {
            return Err(invalid("npm's registry is not reached by https"));
        }
        let cafile = value("cafile").filter(|path| !matches!(*path, "" | "null" | "undefined")).map(PathBuf::from);
        Ok(Self { url, cafile })
    }

    /// What a CONNECT request for it names: `host:port`.
    pub(super) fn authority(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(443);
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, what).with_help("check `npm config get registry`")
}
