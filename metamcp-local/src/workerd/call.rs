//! A call that a process is working on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metamcp_core::{Error, ErrorKind};
use tokio::time::timeout;

use super::activity::CallNumber;
use super::launch::Running;

/// How long after its deadline a call is waited for whose process answers other calls.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a broken connection the end of its process is waited for.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// A call that a process is working on.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) running: Arc<Running>,
    number: CallNumber,
    answered: bool,
    is_preview: bool,
    give_up: Instant,
}

impl Call {
    /// Begins a call that should be answered by the deadline; `None` where the process takes no more.
    pub(super) fn begin(running: Arc<Running>, deadline: Instant) -> Option<Self> {
        let number = running.process.begin(deadline)?;
        Some(Self { running, number, answered: false, is_preview: false, give_up: deadline + PATIENCE })
    }

    /// The same call on a version that is not live: nobody starts it again.
    pub(super) fn of_preview(mut self) -> Self {
        self.is_preview = true;
        self
    }

    /// When its caller is told that no answer will come, though the process answers other calls.
    pub(crate) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// Why the call has no answer, once its connection broke. What is returned holds neither call nor process.
    pub(crate) fn failure(&self) -> impl Future<Output = Error> + Send + use<> {
        let (name, exited, is_preview) =
            (self.running.settings.name.clone(), self.running.process.exited(), self.is_preview);
        async move {
            let Ok(exit) = timeout(EXIT_WAIT, exited).await else {
                let problem = format!("server {name} closed the connection before it answered");
                return Error::new(ErrorKind::Unavailable, problem);
            };
            let error = Error::new(exit.kind, format!("server {name} {}", exit.text));
            if is_preview { error } else { error.with_help("the next call starts it again") }
        }
    }

    /// Whether the process ends within a moment.
    pub(crate) async fn ended_soon(&self) -> bool {
        timeout(EXIT_WAIT, self.running.process.exited()).await.is_ok()
    }

    /// The call ended with its answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.answered {
            self.running.process.answered(self.number);
        } else {
            self.running.process.abandoned(self.number);
        }
    }
}
