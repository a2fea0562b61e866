//! The gateway's port: chosen once for a data directory, then kept, since URLs hold it.

use std::net::SocketAddr;
use std::path::Path;

use metamcp_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::workerd::{read_json_if_whole, write_json};

/// Binds the address. Port 0 stands for the port kept in the data directory; where there is none yet, the system
/// chooses one and it is kept.
pub(super) async fn bind(directory: &Path, listen: SocketAddr) -> Result<TcpListener> {
    let path = directory.join("gateway-port.json");
    let kept: Option<u16> = if listen.port() == 0 { read_json_if_whole(&path)? } else { None };
    let address = SocketAddr::new(listen.ip(), kept.unwrap_or(listen.port()));
    let listener = TcpListener::bind(address).await.map_err(|error| bind_error(address, kept.is_some(), error))?;
    if address.port() == 0 {
        let chosen = listener.local_addr().map_err(|error| bind_error(address, false, error))?.port();
        write_json(&path, &chosen)?;
    }
    Ok(listener)
}

fn bind_error(address: SocketAddr, is_kept: bool, error: std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Error::new(ErrorKind::ConfigInvalid, format!("the gateway cannot listen on {address}"))
            .with_source(error);
    }
    let who = holder(address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
    let help = if is_kept {
        "the URLs of this data directory hold that port: stop the other program, or choose a port with \
         METAMCP_LISTEN or LocalConfig::with_listen"
    } else {
        "choose another port with METAMCP_LISTEN or LocalConfig::with_listen"
    };
    Error::new(ErrorKind::Conflict, format!("the gateway's port {} is taken{who}", address.port())).with_help(help)
}

/// The process that listens on a port, as far as this user may see it.
#[cfg(target_os = "linux")]
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| listening_inode(line, port))
    })?;
    let socket = format!("socket:[{inode}]");
    let holds = |process: &std::fs::DirEntry| {
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == socket.as_str())
    };
    let is_process =
        |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let process = std::fs::read_dir("/proc").ok()?.flatten().find(|entry| is_process(entry) && holds(entry))?;
    let program = std::fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("{} (process {})", program.trim(), process.file_name().to_string_lossy()))
}

/// The socket of a line of `/proc/net/tcp` that listens (state 0A) on the port.
#[cfg(target_os = "linux")]
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, own_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(own_port, 16).ok()? == port;
    listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// The process that listens on a port, as `lsof` tells it.
#[cfg(not(target_os = "linux"))]
fn holder(port: u16) -> Option<String> {
    let filter = format!("-iTCP:{port}");
    let output = std::process::Command::new("lsof").args(["-nP", &filter, "-sTCP:LISTEN", "-Fpc"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let field = |letter: char| text.lines().find_map(|line| line.strip_prefix(letter)).map(str::to_owned);
    Some(format!("{} (process {})", field('c')?, field('p')?))
}
