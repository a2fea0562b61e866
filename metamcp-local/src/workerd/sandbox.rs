//! What stands between workerd and the machine: nothing more than its process, or bubblewrap's namespaces.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use tokio::process::Command;
use tokio::time::timeout;

use super::process::ProcessPlan;
use crate::config::Isolation;

/// Where bubblewrap is looked for.
const BUBBLEWRAP: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];
/// What workerd reads of the system, where it is there: its libraries, name resolution, certificates.
const SYSTEM: [&str; 10] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/usr/share/zoneinfo",
];
/// Namespaces of its own; the network is shared, since the egress gate decides about it.
const NAMESPACES: [&str; 5] = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"];

/// How processes are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// As they are.
    Process,
    /// By this bubblewrap.
    Bubblewrap(PathBuf),
}

impl Sandbox {
    /// The sandbox a configuration asks for, once it is known to work here.
    pub(super) async fn choose(isolation: Isolation) -> Result<Self> {
        match isolation {
            Isolation::Process => Ok(Self::Process),
            Isolation::Auto => Ok(working_bubblewrap().await.map_or(Self::Process, Self::Bubblewrap)),
            Isolation::Bubblewrap => working_bubblewrap().await.map(Self::Bubblewrap).ok_or_else(|| {
                Error::new(ErrorKind::ConfigInvalid, "bubblewrap is not installed or may not make namespaces here")
                    .with_help("install the bubblewrap package, or choose Isolation::Process")
            }),
            Isolation::Docker => {
                Err(Error::new(ErrorKind::Unsupported, "isolation by Docker is not available in this version")
                    .with_help("choose Isolation::Auto, Isolation::Bubblewrap or Isolation::Process"))
            }
        }
    }

    /// The command line that runs workerd, up to workerd's own arguments.
    pub(super) fn wrap(&self, plan: &ProcessPlan<'_>) -> Vec<OsString> {
        let workerd = plan.workerd.as_os_str().to_owned();
        let Self::Bubblewrap(program) = self else { return vec![workerd] };
        let mut line = vec![program.clone().into_os_string()];
        line.extend(NAMESPACES.map(OsString::from));
        line.extend(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"].map(OsString::from));
        let system = SYSTEM.iter().map(Path::new);
        system.for_each(|path| bind(&mut line, "--ro-bind-try", path));
        bind(&mut line, "--ro-bind", plan.workerd);
        plan.readable.iter().for_each(|path| bind(&mut line, "--ro-bind", path));
        bind(&mut line, "--bind", &plan.folder);
        plan.writable.iter().for_each(|path| bind(&mut line, "--bind", path));
        line.extend([OsString::from("--chdir"), plan.folder.clone().into_os_string(), OsString::from("--"), workerd]);
        line
    }
}

fn bind(line: &mut Vec<OsString>, option: &str, path: &Path) {
    line.extend([OsString::from(option), path.as_os_str().to_owned(), path.as_os_str().to_owned()]);
}

/// bubblewrap, if it can make the namespaces: many containers and some systems forbid it.
async fn working_bubblewrap() -> Option<PathBuf> {
    let program = BUBBLEWRAP.map(PathBuf::from).into_iter().find(|path| path.is_file())?;
    let mut probe = Command::new(&program);
    probe.args(NAMESPACES).args([
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--",
        "/bin/sh",
        "-c",
        ":",
    ]);
    probe.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = timeout(Duration::from_secs(5), probe.status()).await.ok()?.ok()?;
    status.success().then_some(program)
}
