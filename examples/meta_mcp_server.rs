//! The reference server: Meta-MCP on this machine as an MCP server, for hosts that start it (`--stdio`) and for
//! clients that connect to it (`--http`).
//!
//! ```sh
//! cargo run -p metamcp-examples --example meta_mcp_server -- --stdio --data-dir ~/.metamcp
//! ```
//!
//! A data directory has one owner. A second `--stdio` process on it becomes a bridge to the first.

use std::error::Error;
use std::path::{Path, PathBuf};

use metamcp_core::server::{bridge_stdio, serve_socket, serve_stdio};
use metamcp_core::{ErrorKind, MetaMcp};
use metamcp_local::{LocalConfig, control_socket};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: meta_mcp_server --stdio [--data-dir DIR]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Standard output belongs to the protocol.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let options = Options::parse(std::env::args().skip(1))?;
    let config = options.config()?;
    let data_dir = config.data_dir.clone();
    match metamcp_local::open(config).await {
        Ok(meta) => {
            let served = serve(&meta, &data_dir).await;
            meta.close().await?;
            served
        }
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let Ok(owner) = UnixStream::connect(control_socket(&data_dir)?).await else { return Err(error.into()) };
            eprintln!("{error}: passing everything on to it");
            Ok(bridge_stdio(owner).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Serves until the input ends or a signal comes.
async fn serve(meta: &MetaMcp, data_dir: &Path) -> Result<(), Box<dyn Error>> {
    let socket = bind(&control_socket(data_dir)?)?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve_stdio(meta.clone()) => ended?,
        ended = serve_socket(meta.clone(), socket) => ended?,
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    Ok(())
}

/// Binds the socket for other programs; this process owns the directory, so one that is there was left by a crash.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    data_dir: Option<PathBuf>,
    stdio: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--stdio" => options.stdio = true,
                "--data-dir" => options.data_dir = Some(arguments.next().ok_or(USAGE)?.into()),
                other => return Err(format!("{other:?} is no option; {USAGE}")),
            }
        }
        if options.stdio { Ok(options) } else { Err(USAGE.to_owned()) }
    }

    /// The environment's configuration, with the command line's before it.
    fn config(&self) -> metamcp_core::Result<LocalConfig> {
        let mut config = LocalConfig::from_env()?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }
}
