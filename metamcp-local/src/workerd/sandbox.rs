//! What stands between workerd and the machine: nothing more than its process, bubblewrap's namespaces, or a
//! container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metamcp_core::{Error, ErrorKind, Result};
use tokio::process::Command;
use tokio::time::timeout;

#[cfg(feature = "docker")]
use super::gate;
#[cfg(feature = "docker")]
use super::process::MEMORY_HEADROOM_MB;
use super::process::ProcessPlan;
use super::shell;
use super::supervised::Supervised;
use crate::config::{Isolation, LocalConfig};
#[cfg(feature = "docker")]
use crate::docker::{ServerContainers, ServerPlan};
use crate::owner::DataDirectory;

/// Name of a process's socket.
const SOCKET: &str = "s";
/// The part of a process's folder that it may write to in a container.
const IO: &str = "io";
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
pub(super) const NAMESPACES: [&str; 5] =
    ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"];

/// How processes are started.
#[derive(Debug)]
pub(super) enum Sandbox {
    /// On this machine.
    Host(HostSandbox),
    /// In containers without network; what leads out of them runs on this machine.
    #[cfg(feature = "docker")]
    Docker { containers: Box<ServerContainers>, outside: HostSandbox },
}

/// How processes are started on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostSandbox {
    /// As they are.
    Process,
    /// By this bubblewrap.
    Bubblewrap(PathBuf),
}

impl Sandbox {
    /// The sandbox a configuration asks for, once it is known to work here.
    #[cfg_attr(not(feature = "docker"), expect(unused_variables, reason = "only containers need them"))]
    pub(super) async fn choose(local: &LocalConfig, directory: &DataDirectory, workerd: &Path) -> Result<Self> {
        match local.isolation {
            Isolation::Process => Ok(Self::Host(HostSandbox::Process)),
            Isolation::Auto => Ok(Self::Host(HostSandbox::strongest().await)),
            Isolation::Bubblewrap => working_bubblewrap()
                .await
                .map(|program| Self::Host(HostSandbox::Bubblewrap(program)))
                .ok_or_else(|| {
                    Error::new(ErrorKind::ConfigInvalid, "bubblewrap is not installed or may not make namespaces here")
                        .with_help("install the bubblewrap package, or choose Isolation::Process")
                }),
            #[cfg(feature = "docker")]
            Isolation::Docker => {
                let folder = directory.path().join("isolation");
                let containers = Box::new(
                    Box::pin(ServerContainers::open(&folder, &local.docker, directory.user(), workerd)).await?,
                );
                Ok(Self::Docker { containers, outside: HostSandbox::strongest().await })
            }
            #[cfg(not(feature = "docker"))]
            Isolation::Docker => {
                Err(Error::new(ErrorKind::Unsupported, "this program was built without the feature `docker`")
                    .with_help("choose Isolation::Auto, Isolation::Bubblewrap or Isolation::Process"))
            }
        }
    }

    /// Starts the program of a plan.
    pub(super) async fn start(&self, plan: &ProcessPlan<'_>) -> Result<Supervised> {
        match self {
            Self::Host(sandbox) => shell::start(plan, sandbox),
            #[cfg(feature = "docker")]
            Self::Docker { containers, .. } => {
                let gate = plan.gate.iter().filter_map(|gate| Some(gate::way_in(gate.socket()).parent()?.to_owned()));
                let own = [plan.workerd.to_owned(), plan.folder.path().to_owned()];
                let plan = ServerPlan {
                    line: [plan.workerd.as_os_str().to_owned()].into_iter().chain(plan.arguments()).collect(),
                    environment: &plan.environment,
                    readable: own.into_iter().chain(plan.readable.iter().cloned()).chain(gate).collect(),
                    writable: [plan.folder.path().join(IO)].into_iter().chain(plan.writable.clone()).collect(),
                    memory_mb: plan.memory_mb + MEMORY_HEADROOM_MB,
                };
                // Far larger than the future of a process here.
                Box::pin(containers.start(plan)).await
            }
        }
    }

    /// Whether processes are in containers.
    pub(super) fn is_container(&self) -> bool {
        self.outside().is_some()
    }

    /// Where a process with this folder listens: what it may write is apart from its configuration in a container.
    pub(super) fn socket(&self, folder: &Path) -> PathBuf {
        if self.is_container() { folder.join(IO).join(SOCKET) } else { folder.join(SOCKET) }
    }

    /// How what leads out of a container is started; `None` where processes need no such thing.
    pub(super) fn outside(&self) -> Option<Self> {
        match self {
            Self::Host(_) => None,
            #[cfg(feature = "docker")]
            Self::Docker { outside, .. } => Some(Self::Host(outside.clone())),
        }
    }
}

impl HostSandbox {
    async fn strongest() -> Self {
        working_bubblewrap().await.map_or(Self::Process, Self::Bubblewrap)
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
        bind(&mut line, "--bind", plan.folder.path());
        plan.writable.iter().for_each(|path| bind(&mut line, "--bind", path));
        line.extend([OsString::from("--chdir"), plan.folder.path().into(), OsString::from("--"), workerd]);
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
