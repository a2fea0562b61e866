//! Uploaded code in workerd: each version a process of its own, whose bindings lead back to the emulator.

mod capnp;
mod config;
mod process;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use metamcp_core::bundle::Toolchain;
use metamcp_core::{Error, ErrorKind, Module};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

pub(crate) use process::Process;

/// Header of a request that a binding makes: the binding, as JSON.
pub(crate) const BINDING: &str = "x-emulator-binding";
/// Header of a request to a Worker of a dispatch namespace: its name and the parameters for the outbound Worker, as
/// percent-encoded JSON.
pub(crate) const DISPATCH: &str = "x-emulator-dispatch";
/// Header of the answer where there is no such Worker.
pub(crate) const MISSING: &str = "x-emulator-missing";

/// What was uploaded, apart from its bindings.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) main_module: String,
    pub(crate) modules: BTreeMap<String, Module>,
    pub(crate) compatibility_date: String,
    pub(crate) compatibility_flags: Vec<String>,
    /// Whether it starts containers.
    pub(crate) has_containers: bool,
}

/// A Worker to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker<'a> {
    pub(crate) code: &'a Code,
    pub(crate) bindings: &'a [Value],
}

/// What a process runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Name of the script and id of the version, for its tails.
    pub(crate) script: &'a str,
    pub(crate) version: Uuid,
    pub(crate) worker: Worker<'a>,
    /// The Worker that its requests go through.
    pub(crate) outbound: Option<Worker<'a>>,
}

/// Starts processes; workerd is looked for when the first one is needed.
#[derive(Debug)]
pub(crate) struct Runner {
    /// Where the emulator answers.
    emulator: SocketAddr,
    toolchain_dir: Option<PathBuf>,
    /// Outside hosts that lead to an address of this machine.
    overrides: BTreeMap<String, SocketAddr>,
    home: OnceCell<Home>,
}

#[derive(Debug)]
struct Home {
    workerd: PathBuf,
    folder: TempDir,
}

impl Runner {
    pub(crate) fn new(
        emulator: SocketAddr,
        toolchain_dir: Option<PathBuf>,
        overrides: BTreeMap<String, SocketAddr>,
    ) -> Self {
        Self { emulator, toolchain_dir, overrides, home: OnceCell::new() }
    }

    /// Starts a process; what does not start is an error with its log.
    pub(crate) async fn start(&self, plan: Plan<'_>) -> Result<Arc<Process>, Error> {
        let home = self.home.get_or_try_init(|| self.open()).await?;
        let folder = process::folder(home.folder.path())?;
        let text = config::render(
            &plan,
            &config::Place { folder: folder.path(), emulator: self.emulator, overrides: &self.overrides },
        )?;
        Process::start(&home.workerd, folder, &text).await.map(Arc::new)
    }

    async fn open(&self) -> Result<Home, Error> {
        let toolchain = match &self.toolchain_dir {
            Some(folder) => folder.clone(),
            None => Toolchain::default_folder()?,
        };
        let workerd = Toolchain::install(&toolchain).await?.workerd();
        let folder = tempfile::tempdir().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the emulator can make no folder").with_source(error)
        })?;
        Ok(Home { workerd, folder })
    }
}
