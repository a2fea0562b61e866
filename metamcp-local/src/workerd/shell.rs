//! Runs workerd on this machine, under a shell that kills it when its owner is gone.

use std::process::Stdio;

use metamcp_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio::process::Command;

use super::process::ProcessPlan;
use super::sandbox::HostSandbox;
use super::supervised::{End, Lifeline, Supervised};

/// Starts it, by itself or in bubblewrap's namespaces.
pub(super) fn start(plan: &ProcessPlan<'_>, sandbox: &HostSandbox) -> Result<Supervised> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::ConfigInvalid, format!("could not start {}", plan.workerd.display())).with_source(error)
    };
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(include_str!("supervise.sh")).arg("metamcp-supervisor");
    command.args(sandbox.wrap(plan)).args(plan.arguments());
    command.env_clear().envs(plan.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    command.current_dir(plan.folder.path()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
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
        lifeline: Lifeline::of(stdin.into_owned_fd().map_err(failed)?),
        end: Box::pin(end),
    })
}
