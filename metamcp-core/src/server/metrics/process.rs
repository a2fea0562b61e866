//! The process, under the names that Prometheus' own libraries use. Where there is no `/proc`, nothing is said of it.

use std::fs;

use super::exposition::{Exposition, Kind};

pub(super) fn render(text: &mut Exposition) {
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes()),
        ("process_open_fds", "Number of open file descriptors.", open_files()),
    ] {
        if let Some(value) = value {
            text.family(name, Kind::Gauge, help);
            text.sample(name, &[], value);
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn open_files() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
