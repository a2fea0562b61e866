//! [`Callee`]: whom a request is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metamcp_core::{Error, Result, ServerName};

use super::call::Call;
use super::launch::Running;
use super::live::GRACE;
use super::server::Server;

/// What answers a request. Both are called in the same way, so that a preview that is caught in a loop or fills its
/// memory is stopped as the live version is, and its caller told the same.
#[derive(Debug)]
pub(crate) enum Callee {
    /// Whatever version of a server is live.
    Live(Arc<Server>),
    /// A staged version.
    Preview(Arc<Running>),
}

impl Callee {
    /// The server's name.
    pub(crate) fn name(&self) -> &ServerName {
        match self {
            Self::Live(server) => &server.reference().name,
            Self::Preview(running) => &running.settings.name,
        }
    }

    /// Begins a call. A live version is woken for it; a preview that ended stays so. `allowed` says how long the call
    /// may take.
    pub(crate) async fn call(&self, allowed: impl Fn(&Running) -> Duration) -> Result<Call> {
        match self {
            Self::Live(server) => server.call(allowed).await,
            Self::Preview(running) => {
                let deadline = Instant::now() + allowed(running) + GRACE;
                let call = running.process.is_running().then(|| Call::begin(Arc::clone(running), deadline)).flatten();
                match call {
                    Some(call) => Ok(call.of_preview()),
                    None => Err(ended(running).await),
                }
            }
        }
    }
}

/// Why a preview takes no call: it ended, or ends within a moment.
async fn ended(preview: &Running) -> Error {
    let exit = preview.process.exited().await;
    Error::new(exit.kind, format!("the preview of server {} {}", preview.settings.name, exit.text))
}
