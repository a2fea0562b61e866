//! Ends processes that an owner or a supervisor who was killed left behind.
//!
//! Their supervisors end them within milliseconds, unless those were killed too. Whoever opens the data directory
//! owns it, so nothing that runs on one of its configurations belongs to a living owner.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::process::Process;

/// Kills every process that runs on a configuration in `folder` or in a folder directly below it.
pub(super) fn end_processes(folder: &Path) {
    for pid in processes_on(folder).into_iter().filter_map(Pid::from_raw) {
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!(%error, ?pid, "a process that was left over ended by itself");
        }
    }
}

/// Those of this machine.
#[cfg(target_os = "linux")]
fn processes_on(folder: &Path) -> Vec<i32> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let is_configuration = |argument: &[u8]| {
        let path = Path::new(OsStr::from_bytes(argument));
        path.ends_with(Process::CONFIG) && path.ancestors().skip(1).take(2).any(|ancestor| ancestor == folder)
    };
    let process = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        line.split(|byte| *byte == 0).any(is_configuration).then_some(pid)
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(process).collect()
}

/// Those of this user, as `ps` tells them.
#[cfg(not(target_os = "linux"))]
fn processes_on(folder: &Path) -> Vec<i32> {
    let Ok(output) = std::process::Command::new("/bin/ps").args(["-axww", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    let folder = folder.to_string_lossy();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| process_on(&folder, line)).collect()
}

/// The process of a line of `ps`, if it is one of those. The folder's path may hold blanks; what is below it does not.
#[cfg(any(test, not(target_os = "linux")))]
fn process_on(folder: &str, line: &str) -> Option<i32> {
    let (pid, command) = line.trim_start().split_once(' ')?;
    let is_configuration = |(at, _): (usize, &str)| {
        let below = command[at..].strip_prefix(folder)?.strip_prefix('/')?.split(' ').next()?;
        Some(below.strip_suffix(Process::CONFIG)?.matches('/').count() <= 1)
    };
    command.match_indices(folder).any(|found| is_configuration(found) == Some(true)).then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ps_tells_a_process_though_paths_hold_blanks() {
        let folder = "/Users/me/Library/Application Support/metamcp/run";
        let workerd = "workerd serve -I/";
        let line = |path: &str| format!("  812 /Users/me/Library/Caches/metamcp/{workerd} {path} --control-fd=3");
        for below in ["config.capnp", "1a2b3c/config.capnp"] {
            assert_eq!(process_on(folder, &line(&format!("{folder}/{below}"))), Some(812), "{below}");
        }
        let beside = [format!("{folder}/a/b/config.capnp"), format!("{folder}-2/config.capnp")];
        for other in beside.iter().map(String::as_str).chain([folder, "config.capnp"]) {
            assert_eq!(process_on(folder, &line(other)), None, "{other}");
        }
    }
}
