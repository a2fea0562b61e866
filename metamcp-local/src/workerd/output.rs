//! Reads what a process writes, line by line and bounded, into its server's log.

use std::sync::Arc;

use metamcp_core::VersionId;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::lines::BoundedLines;
use super::log::{Redactor, ServerLog};

/// How much of a line is read. A secret that begins within the 8 KiB that are kept ends within this, so that it
/// is found whole.
const MAX_READ_BYTES: usize = 8 * 1024 + 64 * 1024;

/// Where a process's output goes.
#[derive(Debug)]
pub(super) struct OutputLines {
    pub(super) redactor: Redactor,
    pub(super) log: Arc<ServerLog>,
    pub(super) version: VersionId,
}

impl OutputLines {
    /// Records everything up to the end; whether V8 said that its heap is exhausted.
    pub(super) async fn record(&self, output: impl AsyncRead + Unpin) -> bool {
        let mut reader = BufReader::with_capacity(64 * 1024, output);
        let mut bounded = BoundedLines::new(MAX_READ_BYTES);
        let mut exhausted = false;
        while let Ok(chunk) = reader.fill_buf().await {
            if chunk.is_empty() {
                break;
            }
            let mut lines = Vec::new();
            bounded.read(chunk, |line| lines.extend(self.finish(line)));
            let length = chunk.len();
            reader.consume(length);
            exhausted |= lines.iter().any(|line| line.contains("JavaScript heap out of memory"));
            self.append(lines).await;
        }
        let last = self.finish(bounded.rest());
        self.append(last.into_iter().collect()).await;
        exhausted
    }

    /// The line as it is kept; `None` for what only says where in workerd's binary something happened.
    fn finish(&self, line: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(line).into_owned();
        let noise = text.trim().is_empty() || text.starts_with("stack: ");
        (!noise).then(|| self.redactor.redact(text))
    }

    async fn append(&self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let (log, version) = (Arc::clone(&self.log), self.version.clone());
        let written = tokio::task::spawn_blocking(move || log.append(&version, lines)).await;
        if let Err(error) = written {
            tracing::warn!(%error, "lines of a server's log were lost");
        }
    }
}
