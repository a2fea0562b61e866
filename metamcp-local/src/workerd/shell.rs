//! Runs workerd on this machine, under a shell that kills it when its owner is gone.

use std::io;
use std::process::Stdio;

use metamcp_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio::process::Command;

use super::process::ProcessPlan;
use super::sandbox::HostSandbox;
use super::supervised::{End, Lifeline, Supervised};

const SHELL: &str = "/bin/sh";

/// Starts it, by itself or in bubblewrap's namespaces.
pub(super) fn start(plan: &ProcessPlan<'_>, sandbox: &HostSandbox) -> Result<Supervised> {
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(include_str!("supervise.sh")).arg("metamcp-supervisor");
    command.args(sandbox.wrap(plan)).args(plan.arguments());
    command.env_clear().envs(plan.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command.current_dir(plan.folder.path()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_started)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(not_started(io::ErrorKind::BrokenPipe.into()));
    };
    let end = async move {
        match child.wait().await.map(|status| status.code()) {
            Ok(Some(code)) => End::Code(code),
            _ => End::Lost("was killed together with its supervisor".to_owned()),
        }
    };
    Ok(Supervised {
        control: Box::new(stdout),
        output: Box::new(stderr),
        lifeline: Lifeline::of(stdin.into_owned_fd().map_err(not_started)?),
        end: Box::pin(end),
    })
}

/// The shell itself was not started; that workerd was not is seen by its end.
fn not_started(error: io::Error) -> Error {
    use io::ErrorKind::{ArgumentListTooLong, NotFound, PermissionDenied};
    let (kind, help) = match error.kind() {
        NotFound | PermissionDenied => (ErrorKind::ConfigInvalid, "this user must be able to run a POSIX shell there"),
        ArgumentListTooLong => (ErrorKind::LimitExceeded, "the server's secrets are too long together; remove some"),
        _ => (ErrorKind::Unavailable, "the machine is short of processes, open files or memory; try again"),
    };
    Error::new(kind, format!("could not start {SHELL}, which supervises workerd")).with_source(error).with_help(help)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use rustix::io::Errno;

    use super::*;
    use crate::workerd::sandbox::NAMESPACES;

    const STARTS: u32 = 60;
    /// Long past the end of anything that was killed.
    const LIMIT: Duration = Duration::from_secs(20);

    fn start(seconds: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(include_str!("supervise.sh")).args(["metamcp-supervisor", "bwrap"]);
        command.args(NAMESPACES).args(["--ro-bind", "/", "/", "--dev", "/dev", "--", "sleep", seconds]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a shell starts")
    }

    /// Processes with this argument.
    fn running(argument: &str) -> usize {
        let entries = std::fs::read_dir("/proc").expect("processes are listed").flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes())).count()
    }

    #[test]
    fn what_is_short_for_now_is_tried_again_and_what_is_missing_is_not() {
        for (number, kind) in [
            (Errno::AGAIN, ErrorKind::Unavailable),
            (Errno::MFILE, ErrorKind::Unavailable),
            (Errno::NOMEM, ErrorKind::Unavailable),
            (Errno::NOENT, ErrorKind::ConfigInvalid),
            (Errno::ACCESS, ErrorKind::ConfigInvalid),
            (Errno::TOOBIG, ErrorKind::LimitExceeded),
        ] {
            let error = not_started(number.into());
            assert_eq!((error.kind(), error.is_retryable()), (kind, kind == ErrorKind::Unavailable), "{error}");
            assert!(error.message().contains("/bin/sh"), "{error}");
        }
    }

    #[test]
    #[ignore = "needs bubblewrap"]
    fn nothing_is_left_of_what_is_killed_as_it_starts() {
        // An argument that no other process has.
        let seconds = format!("1000.{}", std::process::id());
        let mut supervisors = Vec::new();
        for number in 0..STARTS {
            let mut supervisor = start(&seconds);
            // Each is killed a little later in its start than the one before.
            std::thread::sleep(Duration::from_micros(100) * number);
            drop(supervisor.stdin.take());
            supervisors.push(supervisor);
        }
        for mut supervisor in supervisors {
            supervisor.wait().unwrap();
        }
        let begin = Instant::now();
        while running(&seconds) > 0 && begin.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(running(&seconds), 0);
    }
}
