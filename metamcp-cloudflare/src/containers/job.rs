//! A job of the Container Manager: started under an id of ours, so that nothing is lost with an answer.

use std::time::{Duration, Instant};

use metamcp_core::{Error, ErrorKind, OutputStream, Result, report_queue_place};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::client::{ManagerClient, Problem};

/// How long one request waits for news, in seconds.
const POLL_SECONDS: u64 = 20;

/// How long is waited for a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// In line.
    pub(super) queue: Duration,
    /// While it runs.
    pub(super) work: Duration,
}

/// A job that was started. Dropped before it has ended, it is cancelled.
pub(super) struct Job<'a> {
    client: &'a ManagerClient,
    /// For errors: what waits for it.
    what: &'a str,
    patience: Patience,
    abandoned: Abandoned,
    /// Where it is in line, or that it runs, and since when.
    place: usize,
    since: Instant,
}

#[derive(Deserialize)]
struct Status {
    state: State,
    place: Option<usize>,
    #[serde(default)]
    result: Value,
    error: Option<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// What a job wrote.
#[derive(Deserialize)]
pub(super) struct Logs {
    pub(super) entries: Vec<LogEntry>,
    next: u64,
    state: State,
}

#[derive(Deserialize)]
pub(super) struct LogEntry {
    stream: Stream,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stream {
    Stdout,
    Stderr,
}

impl LogEntry {
    pub(super) fn stream(&self) -> OutputStream {
        match self.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        }
    }
}

impl<'a> Job<'a> {
    /// Starts a job. Its id is a new one.
    pub(super) async fn start(
        client: &'a ManagerClient,
        what: &'a str,
        input: &impl Serialize,
        patience: Patience,
    ) -> Result<Self> {
        let id = Uuid::new_v4().to_string();
        let abandoned = Abandoned::new(client, format!("jobs/{id}"));
        let mut job = Self { client, what, patience, abandoned, place: 0, since: Instant::now() };
        match client.put::<Status>(job.path(), input).await {
            Ok(status) => job.place = status.place.unwrap_or(0),
            Err(error) => return Err(job.failed(error).await),
        }
        Ok(job)
    }

    /// Its id, which is also that of the environment it makes.
    pub(super) fn id(&self) -> &str {
        self.abandoned.path.trim_start_matches("jobs/")
    }

    fn path(&self) -> &str {
        &self.abandoned.path
    }

    /// Waits for its end and returns its result. Its place in line is reported.
    pub(super) async fn ended(self) -> Result<Value> {
        self.end(report_queue_place).await
    }

    /// The same for a job that waits for another one of its environment, which is no line for containers.
    pub(super) async fn ended_silently(self) -> Result<Value> {
        self.end(|_| ()).await
    }

    async fn end(mut self, report: fn(usize)) -> Result<Value> {
        let mut told = 0;
        loop {
            if self.place > 0 && self.place != told {
                report(self.place);
                told = self.place;
            }
            let seconds = match self.time_left() {
                Ok(left) => left.as_secs().clamp(1, POLL_SECONDS),
                Err(overdue) => return Err(self.failed(overdue).await),
            };
            let path = format!("{}?wait={seconds}&place={}", self.path(), self.place);
            let status: Status = match self.client.get(&path).await {
                Ok(status) => status,
                Err(error) => return Err(self.failed(error).await),
            };
            match status.state {
                State::Queued | State::Running => self.moved_to(status.place.unwrap_or(0)),
                State::Done => {
                    self.abandoned.forget();
                    return Ok(status.result);
                }
                State::Failed | State::Cancelled => {
                    self.abandoned.forget();
                    return Err(status.error.map_or_else(|| cancelled(self.what), Error::from));
                }
            }
        }
    }

    /// What it wrote from an offset on, once there is something; `None` when it has ended and wrote no more. The offset
    /// moves on.
    pub(super) async fn logs(&mut self, offset: &mut u64) -> Result<Option<Vec<LogEntry>>> {
        let seconds = self.time_left()?.as_secs().clamp(1, POLL_SECONDS);
        let logs: Logs = self.client.get(&format!("{}/logs?offset={offset}&wait={seconds}", self.path())).await?;
        *offset = logs.next;
        if logs.state != State::Queued {
            self.moved_to(0);
        }
        let has_ended = !matches!(logs.state, State::Queued | State::Running);
        Ok(if has_ended && logs.entries.is_empty() { None } else { Some(logs.entries) })
    }

    /// What it made, of a job that ended.
    pub(super) async fn artifact<T: DeserializeOwned>(client: &ManagerClient, id: &str) -> Result<T> {
        client.get(&format!("jobs/{id}/artifact")).await
    }

    fn moved_to(&mut self, place: usize) {
        if self.place > 0 && place == 0 {
            self.since = Instant::now();
        }
        self.place = place;
    }

    fn time_left(&self) -> Result<Duration> {
        let (limit, doing) = if self.place > 0 {
            (self.patience.queue, "no container was free")
        } else {
            (self.patience.work, "it did not end")
        };
        limit.checked_sub(self.since.elapsed()).ok_or_else(|| {
            let message = format!("{}: {doing} within {} s", self.what, limit.as_secs());
            let error = Error::new(ErrorKind::TimedOut, message);
            if self.place == 0 {
                return error;
            }
            error.with_help(format!("it was number {} in line; destroy environments that are not used", self.place))
        })
    }

    /// Cancels what nobody waits for any more.
    async fn failed(mut self, error: Error) -> Error {
        self.abandoned.remove().await;
        error
    }
}

fn cancelled(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}: the Container Manager cancelled it"))
}

/// Something at the Container Manager that is removed unless somebody wants it.
pub(super) struct Abandoned {
    client: ManagerClient,
    path: String,
    armed: bool,
}

impl Abandoned {
    pub(super) fn new(client: &ManagerClient, path: String) -> Self {
        Self { client: client.clone(), path, armed: true }
    }

    /// It stays, or is gone already.
    pub(super) fn forget(&mut self) {
        self.armed = false;
    }

    /// Removes it now. If that fails, the Container Manager does it once nobody used it for a while.
    pub(super) async fn remove(&mut self) {
        self.armed = false;
        remove(&self.client, &self.path).await;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if self.armed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (client, path) = (self.client.clone(), std::mem::take(&mut self.path));
            runtime.spawn(async move { remove(&client, &path).await });
        }
    }
}

async fn remove(client: &ManagerClient, path: &str) {
    if let Err(error) = client.delete(path).await {
        tracing::warn!(path, %error, "the Container Manager was not told that nobody waits any more");
    }
}
