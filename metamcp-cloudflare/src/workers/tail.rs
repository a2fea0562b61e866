//! What a script logs while somebody listens.
//!
//! <https://developers.cloudflare.com/workers/observability/logs/real-time-logs/>

use std::collections::VecDeque;
use std::mem::take;
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::{Error, ErrorKind, LogLine, LogListener, LogOptions, Result, VersionId};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::account::Account;
use crate::client::Socket;

const PROTOCOL: &str = "trace-v1";
/// Longest line.
const LINE_BYTES: usize = 8 * 1024;
/// How long opening one's socket may take.
const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// How long after a call its own event may take; it comes once everything that the call began has ended.
const LAST_EVENT_LIMIT: Duration = Duration::from_secs(3);
/// Events that wait to be taken.
const EVENTS: usize = 1_000;

/// One event of a script: a request, and what it logged.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    script_version: Option<ScriptVersion>,
    #[serde(default, rename = "eventTimestamp")]
    timestamp: Option<i64>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    /// What the script was asked.
    #[serde(default, rename = "event")]
    trigger: Value,
}

#[derive(Debug, Deserialize)]
struct ScriptVersion {
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Log {
    #[serde(default)]
    message: Value,
    timestamp: i64,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
    timestamp: i64,
}

/// A tail of a script. Dropped by who waits no more, it is closed in the background: a script has ten at most.
#[derive(Debug)]
struct Tail {
    account: Account,
    script: String,
    id: String,
    is_open: bool,
}

impl Tail {
    /// Opens a tail and its socket, in a task of its own: of one that was made for who went away before the answer nobody
    /// would know.
    async fn open(account: &Account, script: &str) -> Result<(Self, Socket)> {
        let (account, script) = (account.clone(), script.to_owned());
        let opening = async move {
            let made = account.scripts.add_tail(&script).await?;
            let mut tail = Self { account, script, id: made.id, is_open: true };
            match open_socket(&tail.account, &made.url).await {
                Ok(socket) => Ok((tail, socket)),
                Err(error) => {
                    tail.close().await;
                    Err(error)
                }
            }
        };
        tokio::spawn(opening)
            .await
            .map_err(|error| Error::new(ErrorKind::Unexpected, "a tail was not opened to the end").with_source(error))?
    }

    async fn close(&mut self) {
        remove(&self.account, &self.script, &self.id).await;
        self.is_open = false;
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if self.is_open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (account, script, id) = (self.account.clone(), take(&mut self.script), take(&mut self.id));
            runtime.spawn(async move { remove(&account, &script, &id).await });
        }
    }
}

async fn remove(account: &Account, script: &str, id: &str) {
    if let Err(error) = account.scripts.remove_tail(script, id).await {
        tracing::warn!(%error, script, "a tail stays open until it expires");
    }
}

async fn open_socket(account: &Account, url: &str) -> Result<Socket> {
    let mut socket = account.client.open_socket(url, PROTOCOL, OPEN_LIMIT).await?;
    socket.send(r#"{"debug":false}"#).await?;
    Ok(socket)
}

/// The next event; `None` once there will be no more.
async fn next(socket: &mut Socket) -> Result<Option<Event>> {
    while let Some(message) = socket.next().await? {
        match serde_json::from_slice(&message) {
            Ok(event) => return Ok(Some(event)),
            Err(error) => tracing::debug!(%error, "a message of a tail is no event"),
        }
    }
    Ok(None)
}

/// The lines of a script from now on, until there are enough or the time is over. `version` names the version of an
/// upload; lines of unknown uploads are left out.
pub(super) async fn listen(
    account: &Account,
    script: &str,
    options: LogOptions,
    version: impl Fn(Option<&str>) -> Option<VersionId>,
) -> Result<Vec<LogLine>> {
    let mut lines = VecDeque::new();
    let (mut tail, mut socket) = Tail::open(account, script).await?;
    let listening = async {
        while lines.len() < options.limit
            && let Some(event) = next(&mut socket).await?
        {
            if let Some(version) = version(event.upload()) {
                lines.extend(event.lines(&version));
            }
        }
        Ok(())
    };
    // The end of the time is how listening ends.
    let listened: Result<()> = timeout(account.client.config().log_window(), listening).await.unwrap_or(Ok(()));
    tail.close().await;
    listened?;
    lines.drain(..lines.len().saturating_sub(options.limit));
    Ok(lines.into())
}

/// Listening to one upload of a script.
#[derive(Debug)]
pub(super) struct Listener {
    tail: Tail,
    /// What the upload's requests wrote. Who reads the socket goes on while the call is under way, for Cloudflare gives
    /// up a tail that nobody reads.
    events: Receiver<Event>,
    version: VersionId,
    /// Ends the reader.
    _reader: JoinSet<()>,
}

impl Listener {
    pub(super) async fn open(account: &Account, script: &str, upload: String, version: VersionId) -> Result<Self> {
        let (tail, mut socket) = Tail::open(account, script).await?;
        let (sender, events) = channel(EVENTS);
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            loop {
                match next(&mut socket).await {
                    Ok(Some(event)) if event.upload() != Some(&upload) => {}
                    Ok(Some(event)) => drop(sender.send(event).await),
                    Ok(None) => return,
                    Err(error) => return tracing::warn!(%error, "a tail broke off"),
                }
            }
        });
        Ok(Self { tail, events, version, _reader: reader })
    }
}

#[async_trait]
impl LogListener for Listener {
    async fn finish(mut self: Box<Self>) -> Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        let listening = async {
            while let Some(event) = self.events.recv().await {
                lines.extend(event.lines(&self.version));
                if event.is_tool_call() {
                    return;
                }
            }
        };
        drop(timeout(LAST_EVENT_LIMIT, listening).await);
        self.tail.close().await;
        Ok(lines)
    }
}

impl Event {
    /// The upload that took the request.
    fn upload(&self) -> Option<&str> {
        self.script_version.as_ref()?.id.as_deref()
    }

    /// Whether it was a request of MCP 2026-07-28 that calls a tool, as is said by a header there.
    fn is_tool_call(&self) -> bool {
        let headers = self.trigger.pointer("/request/headers");
        headers.and_then(|headers| headers.get("mcp-method")).is_some_and(|method| method == "tools/call")
    }

    fn lines(&self, version: &VersionId) -> Vec<LogLine> {
        let logged = self.logs.iter().map(|log| (log.timestamp, written(&log.message)));
        let thrown =
            self.exceptions.iter().map(|thrown| (thrown.timestamp, format!("{}: {}", thrown.name, thrown.message)));
        let failed = (!matches!(self.outcome.as_str(), "" | "ok" | "exception" | "canceled"))
            .then(|| (self.timestamp.unwrap_or_default(), format!("metamcp: a request ended with {}", self.outcome)));
        let mut lines: Vec<_> = logged.chain(thrown).chain(failed).collect();
        lines.sort_by_key(|(at, _)| *at);
        let line = |(at, text): (i64, String)| LogLine { at: moment(at), version: version.clone(), text: cut(text) };
        lines.into_iter().map(line).collect()
    }
}

/// The arguments of a `console.log` as a line.
fn written(message: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match message {
        Value::Array(words) => words.iter().map(word).collect::<Vec<_>>().join(" "),
        value => word(value),
    }
}

fn moment(milliseconds: i64) -> OffsetDateTime {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or_else(|_| OffsetDateTime::now_utc())
}

fn cut(mut text: String) -> String {
    let end = (0..=LINE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(event: &str) -> Vec<String> {
        let version = "one".parse().unwrap();
        let event: Event = serde_json::from_str(event).unwrap();
        event.lines(&version).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn an_event_has_a_line_for_whatever_went_on() {
        let event = r#"{ "outcome": "exceededCpu", "scriptName": "x", "eventTimestamp": 1, "event": {},
            "exceptions": [{ "name": "TypeError", "message": "no", "timestamp": 3 }],
            "logs": [{ "message": ["a", 1, { "b": 2 }], "level": "log", "timestamp": 2 }] }"#;
        assert_eq!(lines(event), ["metamcp: a request ended with exceededCpu", "a 1 {\"b\":2}", "TypeError: no"]);
        assert!(lines("{}").is_empty());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = cut("é".repeat(LINE_BYTES));
        assert!(text.len() <= LINE_BYTES && text.chars().all(|character| character == 'é'));
    }
}
