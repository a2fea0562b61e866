//! Ends processes that an owner or a supervisor who was killed left behind.
//!
//! Their supervisors end them within milliseconds, unless those were killed too. Whoever opens the data directory
//! owns it, so nothing that runs on one of its configurations belongs to a living owner.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Kills every process that runs on a configuration in `folder` or in a folder directly below it.
pub(super) fn end_processes(folder: &Path) {
    for (pid, arguments) in command_lines() {
        let ours = arguments.iter().any(|argument| is_configuration(argument, folder));
        let Some(pid) = Pid::from_raw(pid).filter(|_| ours) else { continue };
        if let Err(error) = kill_process(pid, Signal::KILL) {
            tracing::debug!(%error, ?pid, "a process that was left over ended by itself");
        }
    }
}

fn is_configuration(argument: &Path, folder: &Path) -> bool {
    argument.ends_with(super::process::Process::CONFIG)
        && argument.ancestors().skip(1).take(2).any(|ancestor| ancestor == folder)
}

/// Ids and arguments of this machine's processes.
#[cfg(target_os = "linux")]
fn command_lines() -> Vec<(i32, Vec<PathBuf>)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let process = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let arguments = line.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec()).into());
        Some((pid, arguments.collect()))
    };
    entries.flatten().filter_map(process).collect()
}

/// Ids and arguments of this user's processes, as `ps` tells them: paths with spaces stay unrecognised.
#[cfg(not(target_os = "linux"))]
fn command_lines() -> Vec<(i32, Vec<PathBuf>)> {
    let Ok(output) = std::process::Command::new("/bin/ps").args(["-axww", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    let process = |line: &[u8]| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let pid = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some((pid, words.map(|word| OsString::from_vec(word.to_vec()).into()).collect()))
    };
    output.stdout.split(|byte| *byte == b'\n').filter_map(process).collect()
}
