//! The only way out of a container: a CONNECT proxy on a Unix socket that leads to npm's registry and nowhere else.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Digest, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::npm::NpmRegistry;
use crate::owner::make_private_folder;
use crate::workerd::storage_error;

/// Longest path of the folder: below it stands `/mount/proxy.sock`, and a socket's path may have 103 bytes.
const MAX_PATH_BYTES: usize = 80;
/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const HEAD_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// A tarball takes seconds; nothing keeps a tunnel for longer than a build.
const TUNNEL_LIMIT: Duration = Duration::from_secs(1800);
/// npm opens 15 at once in each container.
const MAX_TUNNELS: usize = 128;

/// A running proxy. Dropping it ends the proxy and removes its folder.
#[derive(Debug)]
pub(super) struct RegistryProxy {
    folder: PathBuf,
    has_certificates: bool,
    task: JoinHandle<()>,
}

impl RegistryProxy {
    /// Listens in a folder of its own near `folder`, which only this user can enter.
    pub(super) async fn start(folder: &Path, registry: &NpmRegistry) -> Result<Self> {
        let folder = short_path(folder);
        make_private_folder(&folder)?;
        let mount = mount(&folder);
        let failed = |error| storage_error("prepare", &mount, error);
        let has_certificates = prepare(&mount, registry.cafile.as_deref()).await.map_err(failed)?;
        let socket = mount.join("proxy.sock");
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        // The folder above lets nobody else in; in the container it is another user who connects.
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).map_err(failed)?;
        let task = tokio::spawn(serve(listener, registry.authority()));
        Ok(Self { folder, has_certificates, task })
    }

    /// The folder that is mounted into containers.
    pub(super) fn mount(&self) -> PathBuf {
        mount(&self.folder)
    }

    /// Whether certificates lie beside the socket, as `ca.pem`.
    pub(super) fn has_certificates(&self) -> bool {
        self.has_certificates
    }
}

impl Drop for RegistryProxy {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, "the folder of the registry proxy could not be removed");
        }
    }
}

fn mount(folder: &Path) -> PathBuf {
    folder.join("mount")
}

fn short_path(folder: &Path) -> PathBuf {
    let inside = folder.join("npm");
    if inside.as_os_str().len() <= MAX_PATH_BYTES {
        return inside;
    }
    Path::new("/tmp").join(format!("metamcp-npm-{}", Digest::of(folder.as_os_str().as_encoded_bytes()).short(16)))
}

async fn prepare(mount: &Path, cafile: Option<&Path>) -> io::Result<bool> {
    match tokio::fs::remove_dir_all(mount).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::DirBuilder::new().mode(0o755).create(mount)?,
    }
    // Whatever the umask is.
    fs::set_permissions(mount, Permissions::from_mode(0o755))?;
    let Some(cafile) = cafile else { return Ok(false) };
    let certificates = mount.join("ca.pem");
    tokio::fs::copy(cafile, &certificates).await?;
    fs::set_permissions(&certificates, Permissions::from_mode(0o644))?;
    Ok(true)
}

async fn serve(listener: UnixListener, registry: String) {
    let registry: Arc<str> = registry.into();
    let tunnels = Arc::new(Semaphore::new(MAX_TUNNELS));
    while let Ok(permit) = Arc::clone(&tunnels).acquire_owned().await {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "the registry proxy could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let ended = timeout(TUNNEL_LIMIT, tunnel(client, &registry)).await;
            tracing::trace!(?ended, "a tunnel of the registry proxy ended");
            drop(permit);
        });
    }
}

async fn tunnel(mut client: UnixStream, registry: &str) -> io::Result<()> {
    let head = timeout(HEAD_LIMIT, read_head(&mut client)).await.map_err(io::Error::other)??;
    let Some((target, early)) = connect_target(&head) else {
        return answer(&mut client, "405 Method Not Allowed").await;
    };
    if !target.eq_ignore_ascii_case(registry) {
        tracing::warn!(target, "a container asked for a host that is not npm's registry");
        return answer(&mut client, "403 Forbidden").await;
    }
    let mut server = match timeout(CONNECT_LIMIT, TcpStream::connect(registry)).await {
        Ok(Ok(server)) => server,
        Ok(Err(_)) => return answer(&mut client, "502 Bad Gateway").await,
        Err(_) => return answer(&mut client, "504 Gateway Timeout").await,
    };
    client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    server.write_all(early).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Reads to the end of a request's head, and what came with it.
async fn read_head(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while end_of_head(&head).is_none() {
        if head.len() > MAX_HEAD_BYTES || client.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The target of a CONNECT request and the bytes behind its head; `None` for any other request.
fn connect_target(head: &[u8]) -> Option<(&str, &[u8])> {
    let (head, early) = head.split_at(end_of_head(head)?);
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("CONNECT"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) => Some((target, early)),
        _ => None,
    }
}

async fn answer(client: &mut UnixStream, status: &str) -> io::Result<()> {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}
