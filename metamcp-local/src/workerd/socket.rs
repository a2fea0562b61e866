//! The socket a process listens on.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where a process is reached.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    pinned: OnceLock<Pinned>,
}

/// A path that leads to one socket, whatever becomes of its name, as long as the handle is kept.
#[derive(Debug)]
struct Pinned {
    path: PathBuf,
    #[cfg(target_os = "linux")]
    _handle: std::os::fd::OwnedFd,
}

impl Socket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, pinned: OnceLock::new() }
    }

    /// What to connect to, in this process.
    pub(super) fn path(&self) -> &Path {
        self.pinned.get().map_or(&self.path, |pinned| &pinned.path)
    }

    /// From now on the path leads to the socket that is there. Who is confined to a container may put a symbolic link
    /// in its place, which would lead this process to any socket of the machine.
    #[cfg(target_os = "linux")]
    pub(super) fn pin(&self) -> std::io::Result<()> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{FileType, Mode, OFlags, fstat, open};

        let handle = open(&self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::Socket {
            return Err(std::io::Error::other("it is no socket"));
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        self.pinned.get_or_init(|| Pinned { path, _handle: handle });
        Ok(())
    }

    /// Containers are for Linux.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn pin(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_pinned_socket_is_reached_although_its_name_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("s"), folder.path().join("other"));
        let (listener, foreign) = (UnixListener::bind(&path).unwrap(), UnixListener::bind(&other).unwrap());
        let socket = Socket::new(path.clone());
        socket.pin().unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        UnixStream::connect(socket.path()).unwrap();
        listener.accept().unwrap();
        foreign.set_nonblocking(true).unwrap();
        assert!(foreign.accept().is_err());
    }

    #[test]
    fn a_link_in_a_sockets_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("s"), folder.path().join("other"));
        let _listener = UnixListener::bind(&other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(Socket::new(path).pin().is_err());
    }
}
