//! What a command writes, as lines of JSON.

use std::time::Instant;

use metamcp_core::{Command, Environment, ErrorKind, OutputChunk, OutputStream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::bridge::problem;

/// What is kept of a command that was killed.
const KEPT_BYTES: usize = 1 << 20;
/// Chunks on their way from the engine.
const CHUNKS: usize = 16;

/// Runs a command; each piece of its output, and at last its outcome, is a line. Nobody may listen any more.
pub(super) async fn run(environment: &dyn Environment, command: &Command, lines: &mpsc::Sender<String>) {
    let started = Instant::now();
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let (ran, written) = tokio::join!(environment.exec_streaming(command, sender), pass_on(chunks, lines));
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let outcome = match ran {
        Ok(output) => json!({ "output": {
            "stdout": output.stdout, "stderr": output.stderr, "exitCode": output.exit_code, "ms": ms, "timedOut": false
        } }),
        Err(error) if error.kind() == ErrorKind::TimedOut && started.elapsed() >= command.timeout => {
            let [stdout, stderr] = written;
            json!({ "output": { "stdout": stdout, "stderr": stderr, "exitCode": 137, "ms": ms, "timedOut": true } })
        }
        Err(error) => json!({ "error": problem(&error) }),
    };
    send(lines, &outcome).await;
}

/// Sends what comes, and keeps it: standard output, and standard error.
async fn pass_on(mut chunks: mpsc::Receiver<OutputChunk>, lines: &mpsc::Sender<String>) -> [String; 2] {
    let (mut kept, mut begun) = ([String::new(), String::new()], [Vec::new(), Vec::new()]);
    while let Some(OutputChunk { stream, content }) = chunks.recv().await {
        let (index, name) = match stream {
            OutputStream::Stdout => (0, "stdout"),
            OutputStream::Stderr => (1, "stderr"),
        };
        begun[index].extend_from_slice(&content);
        let text = take_text(&mut begun[index]);
        if kept[index].len() + text.len() <= KEPT_BYTES {
            kept[index].push_str(&text);
        }
        send(lines, &json!({ "stream": name, "text": text })).await;
    }
    kept
}

async fn send(lines: &mpsc::Sender<String>, line: &Value) {
    if lines.send(format!("{line}\n")).await.is_err() {
        tracing::debug!("nobody listens to a command any more");
    }
}

/// The whole characters at the beginning of what came; the rest stays.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        // What ends within a character goes on with the next chunk.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let rest = bytes.split_off(whole);
    String::from_utf8_lossy(&std::mem::replace(bytes, rest)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::take_text;

    #[test]
    fn a_character_in_two_chunks_stays_one() {
        let mut bytes = "gr".as_bytes().to_vec();
        bytes.push(0xc3);
        assert_eq!(take_text(&mut bytes), "gr");
        bytes.push(0xbc);
        assert_eq!((take_text(&mut bytes).as_str(), bytes.len()), ("ü", 0));
    }
}
