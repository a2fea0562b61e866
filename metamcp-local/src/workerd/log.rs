//! A server's log: the newest lines in memory and in a bounded file, without the values of secrets.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use metamcp_core::{LogLine, VersionId};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

/// Longest line kept.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Lines kept in memory.
const MAX_LINES: usize = 1_000;
/// The file is put aside at this size, and the one put aside before is lost.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The log of one server, over all of its versions.
#[derive(Debug)]
pub(super) struct ServerLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<LogLine>,
    file_bytes: u64,
}

impl ServerLog {
    /// The log kept in a file, with the lines that are there already.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut lines: VecDeque<LogLine> = VecDeque::new();
        for file in [aside(&path), path.clone()] {
            let text = fs::read_to_string(file).unwrap_or_default();
            lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        lines.drain(..lines.len().saturating_sub(MAX_LINES));
        let file_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, state: Mutex::new(State { lines, file_bytes }) }
    }

    /// Appends lines. A full disk costs the file, not the server.
    pub(super) fn append(&self, version: &VersionId, texts: Vec<String>) {
        let at = OffsetDateTime::now_utc();
        let lines = texts.into_iter().map(|text| LogLine { at, version: version.clone(), text: cut(text) });
        let lines: Vec<_> = lines.collect();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.write(&mut state, &lines) {
            tracing::warn!(path = %self.path.display(), %error, "a server's log could not be written");
        }
        state.lines.extend(lines);
        let surplus = state.lines.len().saturating_sub(MAX_LINES);
        state.lines.drain(..surplus);
    }

    /// The newest lines, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<LogLine> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().skip(state.lines.len().saturating_sub(limit)).cloned().collect()
    }

    fn write(&self, state: &mut State, lines: &[LogLine]) -> std::io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        if state.file_bytes + text.len() as u64 > MAX_FILE_BYTES && state.file_bytes > 0 {
            fs::rename(&self.path, aside(&self.path))?;
            state.file_bytes = 0;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?.write_all(&text)?;
        state.file_bytes += text.len() as u64;
        Ok(())
    }
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("1.jsonl")
}

fn cut(mut text: String) -> String {
    let end = (0..=MAX_LINE_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

/// Replaces the values of secrets in text that leaves a process.
#[derive(Clone, Default)]
pub(super) struct Redactor {
    /// Values with what stands for them, longest first, so that a value within another does not spoil it.
    values: Vec<(SecretString, String)>,
}

impl Redactor {
    /// A redactor of these secrets. Of a value with several lines each line counts by itself, since a log is
    /// read line by line.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Self {
        let mut values: Vec<(SecretString, String)> = Vec::new();
        for (name, secret) in secrets {
            let lines = secret.expose_secret().lines().filter(|line| !line.trim().is_empty());
            values.extend(lines.map(|line| (SecretString::from(line), format!("[secret {name}]"))));
        }
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.expose_secret().len()));
        Self { values }
    }

    /// The text without secrets.
    pub(super) fn redact(&self, mut text: String) -> String {
        for (value, replacement) in &self.values {
            if text.contains(value.expose_secret()) {
                text = text.replace(value.expose_secret(), replacement);
            }
        }
        text
    }
}

impl Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("values", &self.values.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> VersionId {
        "v1".parse().unwrap()
    }

    #[test]
    fn every_line_of_a_secret_is_replaced() {
        let key = SecretString::from("-----BEGIN\nabcdef\n");
        let short = SecretString::from("abc");
        let redactor = Redactor::new([("KEY", &key), ("SHORT", &short)]);
        assert_eq!(redactor.redact("x abcdef y abc".to_owned()), "x [secret KEY] y [secret SHORT]");
    }

    #[test]
    fn a_log_is_bounded_and_read_again_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let log = ServerLog::open(path.clone());
        for number in 0..400 {
            log.append(&version(), vec![format!("{number} {}", "é".repeat(MAX_LINE_BYTES))]);
        }
        assert!(fs::metadata(&path).unwrap().len() <= MAX_FILE_BYTES);
        let reopened = ServerLog::open(path).newest(2);
        assert!(reopened[1].text.starts_with("399 ") && reopened[1].text.len() <= MAX_LINE_BYTES);
    }
}
