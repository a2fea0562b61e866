//! A workerd process, which ends with its handle and with the emulator.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metamcp_core::{Error, ErrorKind};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

/// How long a process may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// Lines of its output that are kept for an error.
const LINES: usize = 20;
/// The shell holds the pipe to its owner: workerd ends when that closes, also if the owner was killed.
const LIFELINE: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & child=$!; \
     { read -r _ <&3; kill \"$child\" 2>/dev/null; } >/dev/null 2>&1 & exec 3<&-; wait \"$child\"";

/// A running process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    socket: PathBuf,
    _lifeline: Option<ChildStdin>,
    child: Child,
    _folder: TempDir,
}

/// A folder for a process.
pub(super) fn folder(parent: &Path) -> Result<TempDir, Error> {
    let made = tempfile::Builder::new().prefix("w").tempdir_in(parent);
    made.and_then(|folder| std::fs::create_dir(folder.path().join("state")).map(|()| folder)).map_err(unavailable)
}

impl Process {
    /// Starts workerd and waits until it listens.
    pub(super) async fn start(workerd: &Path, folder: TempDir, config: &str) -> Result<Self, Error> {
        let file = folder.path().join("config.capnp");
        std::fs::write(&file, config).map_err(unavailable)?;
        let mut child = Command::new("sh")
            .args(["-c", LIFELINE, "sh"])
            .arg(workerd)
            .args(["serve", "-I/"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let reading = child.stderr.take().map(|stderr| tokio::spawn(keep(stderr, Arc::clone(&output))));
        let mut process =
            Self { socket: folder.path().join("s"), _lifeline: child.stdin.take(), child, _folder: folder };
        match timeout(START_LIMIT, process.listening()).await {
            Ok(Ok(())) => Ok(process),
            outcome => {
                let problem = if outcome.is_err() { "does not start in time" } else { "does not start" };
                if let Some(reading) = reading {
                    // What it said last is on its way.
                    drop(timeout(Duration::from_secs(1), reading).await);
                }
                let said = output.lock().unwrap_or_else(PoisonError::into_inner).join(" | ");
                Err(Error::new(ErrorKind::BuildFailed, format!("the script {problem}: {said}")))
            }
        }
    }

    /// Where it answers.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    async fn listening(&mut self) -> Result<(), Error> {
        loop {
            if let Some(status) = self.child.try_wait().map_err(unavailable)? {
                return Err(Error::new(ErrorKind::BuildFailed, format!("workerd ended with {status}")));
            }
            if UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
}

async fn keep(output: impl AsyncRead + Unpin, kept: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < LINES {
            kept.push(line);
        }
    }
}

fn unavailable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the emulator cannot run workerd").with_source(error)
}
