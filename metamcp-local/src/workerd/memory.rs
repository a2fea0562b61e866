//! How much memory a process uses for itself.

/// Private memory of a process and its descendants in MiB; `None` if it cannot be read (any more). Pages of
/// the binary, which all workerd processes share, do not count.
#[cfg(target_os = "linux")]
#[expect(clippy::unused_async, reason = "other systems have to ask a program")]
pub(super) async fn private_mb(pid: u32) -> Option<u64> {
    let kilobytes = private_kb(pid)?;
    Some(kilobytes / 1024)
}

#[cfg(target_os = "linux")]
fn private_kb(pid: u32) -> Option<u64> {
    if pid == 0 {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let own: u64 = ["RssAnon:", "RssShmem:"].iter().filter_map(|field| kilobytes_of(&status, field)).sum();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: u64 = children.split_whitespace().filter_map(|child| private_kb(child.parse().ok()?)).sum();
    Some(own + below)
}

#[cfg(target_os = "linux")]
fn kilobytes_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process in MiB, as `ps` tells it.
#[cfg(not(target_os = "linux"))]
pub(super) async fn private_mb(pid: u32) -> Option<u64> {
    if pid == 0 {
        return None;
    }
    let pid = pid.to_string();
    let output = tokio::process::Command::new("/bin/ps").args(["-o", "rss=", "-p", &pid]).output().await.ok()?;
    let kilobytes: u64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    Some(kilobytes / 1024)
}
