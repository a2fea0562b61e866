//! The way out of a server that runs in a container without network: a process outside of it, with nothing but the gate
//! Worker in it.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metamcp_core::{Error, ErrorKind, Result};

use super::capnp::text;
use super::config::utf8;
use super::egress;
use super::files::storage_error;
use super::launch::{Launch, Launcher, write_config};
use super::log::Redactor;
use super::process::{Process, ProcessPlan};
use super::sandbox::Sandbox;

/// It only passes bytes on.
const MEMORY_MB: u64 = 128;

/// Where the gate whose own socket this is takes requests: alone in a folder, which is mounted into the container.
pub(super) fn way_in(socket: &Path) -> PathBuf {
    socket.with_file_name("way").join("in")
}

/// Starts the gate for what is to be launched.
pub(super) async fn start(launcher: &Launcher, sandbox: &Sandbox, launch: &Launch<'_>) -> Result<Arc<Process>> {
    let folder = launcher.new_folder(launch.server).await?;
    let socket = sandbox.socket(folder.path());
    let way_in = way_in(&socket);
    let parent = way_in.parent().unwrap_or(folder.path());
    // Another user is in the container; the folder above lets no other in.
    let made = std::fs::DirBuilder::new().mode(0o755).create(parent);
    made.map_err(|error| storage_error("make", parent, error))?;
    write_config(folder.path().join(Process::CONFIG), config(launcher, launch, &socket, &way_in)?).await?;
    let gate = Process::start(ProcessPlan {
        workerd: &launcher.workerd,
        sandbox,
        gate: None,
        folder,
        readable: Vec::new(),
        writable: None,
        environment: Vec::new(),
        redactor: Redactor::new([]),
        memory_mb: MEMORY_MB,
        silence: None,
        version: launch.version.clone(),
        log: Arc::clone(launch.log),
        start_timeout: launcher.config.start_timeout,
        interruption: launch.interruption.clone(),
    })
    .await?;
    std::fs::set_permissions(&way_in, std::fs::Permissions::from_mode(0o666))
        .map_err(|error| Error::new(ErrorKind::Unavailable, "the server's way out is not there").with_source(error))?;
    Ok(gate)
}

/// The socket for the health check comes last: once it answers, so does the other.
fn config(launcher: &Launcher, launch: &Launch<'_>, socket: &Path, way_in: &Path) -> Result<String> {
    let settings = &launch.bundle.artifact.settings;
    let overrides = &launcher.config.outbound_overrides;
    let services = egress::gate_services(settings.egress.as_deref(), overrides, &settings.compatibility_date);
    let address = |path: &Path| Ok::<_, Error>(text(&format!("unix:{}", utf8(path)?)));
    Ok(format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n  services = [\n    {}\n  \
         ],\n  sockets = [\n    (name = \"way-in\", address = {}, http = (style = proxy), service = \"egress\"),\n    \
         (name = \"health\", address = {}, http = (), service = \"health\")\n  ],\n);\n",
        services.join(",\n    "),
        address(way_in)?,
        address(socket)?
    ))
}
