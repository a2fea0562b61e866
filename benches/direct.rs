//! workerd by itself: what a client gets without anything of ours in between.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::load::{Failure, Target};

/// A workerd that listens on TCP itself; killed when dropped.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) target: Target,
    child: Child,
}

impl Direct {
    /// Starts workerd on a configuration whose socket is `127.0.0.1:0`. Its modules are found from `folder`.
    pub(crate) async fn start(workerd: &Path, config: &str, folder: &Path, name: &str) -> Result<Self, Failure> {
        let path = folder.join(format!("{name}.capnp"));
        std::fs::write(&path, config)?;
        let mut child = Command::new(workerd)
            .args(["serve", "-I/", "--control-fd=1"])
            .arg(&path)
            .env("METAMCP_STATE_KEY", "YmVuY2htYXJrYmVuY2htYXJrYmVuY2htYXJrYmVuY2g=")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("workerd has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(port) = event["port"].as_u64() {
                let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
                return Ok(Self { target: Target { address, path: "/mcp".to_owned() }, child });
            }
        }
        Err("workerd did not start".into())
    }

    pub(crate) fn resident_mb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    }
}

/// The configurations that deployed servers' own processes run on, each with a socket on TCP instead of its own.
pub(crate) fn configurations(data_dir: &Path) -> Result<Vec<String>, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(data_dir.join("run"))? {
        paths.extend(Some(entry?.path().join("config.capnp")).filter(|path| path.exists()));
    }
    paths.into_iter().map(|path| on_tcp(&std::fs::read_to_string(path)?)).collect()
}

fn on_tcp(config: &str) -> Result<String, Failure> {
    let (before, rest) = config.split_once("\"unix:").ok_or("the configuration has no socket")?;
    let (_, after) = rest.split_once('"').ok_or("the configuration is cut off")?;
    Ok(format!("{before}\"127.0.0.1:0\"{after}"))
}
