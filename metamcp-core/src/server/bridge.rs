//! The bridge of a process that does not own the data directory: passes messages on to the owner, and to the next owner
//! when that one ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use super::standard_streams;
use crate::{Error, ErrorKind, Result};

/// Size of a message.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Id of a handshake that the bridge repeats; no client counts like this.
const REPEATED: &str = "metamcp-bridge-handshake";

const OWNER_ENDED: &str = "the Meta-MCP process that did this ended before it answered: look what became of it \
    (get_mcp_server_details, list_audit_log), then call again";

/// Passes this process's standard input and output on to the process that serves a socket
/// ([`serve_socket`](super::serve_socket)): what a second stdio process on one data directory does.
///
/// `connect` gives the socket of the owner, at first and each time that an owner has ended; it may make this process
/// the owner. The client keeps its session: its handshake is repeated, and the requests that the old owner did not
/// answer fail, since nobody knows how far they came. Ends with standard input, or as `connect` fails. It may be dropped
/// at any time: nothing waits for the input to end.
pub async fn bridge_stdio(connect: impl AsyncFnMut() -> Result<UnixStream>) -> Result<()> {
    let (stream, written) = standard_streams::open()?;
    let (input, output) = stream.into_split();
    let ended = bridge(input, output, connect).await;
    written.wait().await;
    ended
}

async fn bridge<S: AsyncRead + AsyncWrite>(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    mut connect: impl AsyncFnMut() -> Result<S>,
) -> Result<()> {
    let mut input = FramedRead::new(input, lines());
    let mut output = FramedWrite::new(output, lines());
    let session = Mutex::new(Session::default());
    loop {
        let input_ended = pass_on(&session, connect().await?, &mut input, &mut output).await?;
        let failed = lock(&session).unanswered();
        for line in failed {
            output.send(line).await.map_err(ended_badly)?;
        }
        if input_ended {
            return Ok(());
        }
    }
}

/// Passes messages on until this owner ends; whether it did because the input has.
async fn pass_on<S: AsyncRead + AsyncWrite>(
    session: &Mutex<Session>,
    owner: S,
    input: &mut FramedRead<impl AsyncRead + Unpin, LinesCodec>,
    output: &mut FramedWrite<impl AsyncWrite + Unpin, LinesCodec>,
) -> Result<bool> {
    let (answers, requests) = tokio::io::split(owner);
    let mut answers = FramedRead::new(answers, lines());
    let mut requests = FramedWrite::new(requests, lines());
    let ask = async {
        let repeated = lock(session).handshake();
        for line in repeated {
            requests.send(line).await?;
        }
        while let Some(line) = input.next().await {
            let line = line.map_err(Broken::Input)?;
            lock(session).asked(&line);
            requests.send(line).await?;
        }
        // The owner answers what it was asked, then ends.
        SinkExt::<String>::close(&mut requests).await?;
        Ok::<_, Broken>(())
    };
    let answer = async {
        while let Some(Ok(line)) = answers.next().await {
            if lock(session).answered(&line) {
                output.send(line).await?;
            }
        }
        Ok::<_, LinesCodecError>(())
    };
    tokio::pin!(ask, answer);
    tokio::select! {
        ended = &mut answer => ended.map(|()| false),
        asked = &mut ask => match asked {
            Ok(()) => answer.await.map(|()| true),
            Err(Broken::Input(error)) => Err(error),
            // What it answered before it ended is still to be read.
            Err(Broken::Owner) => answer.await.map(|()| false),
        },
    }
    .map_err(ended_badly)
}

/// Why no more is asked.
enum Broken {
    Input(LinesCodecError),
    Owner,
}

impl From<LinesCodecError> for Broken {
    fn from(_: LinesCodecError) -> Self {
        Self::Owner
    }
}

/// What a new owner has to be told, and what the client waits for.
#[derive(Default)]
struct Session {
    /// The client's `initialize` and `notifications/initialized`, where it is one of the revisions that have them.
    handshake: Vec<Value>,
    pending: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
}

impl Session {
    fn asked(&mut self, line: &str) {
        let Ok(Message { id, method: Some(method) }) = serde_json::from_str(line) else { return };
        if let Some(id) = id {
            self.pending.insert(id.to_string(), id);
        }
        if method == "initialize" {
            self.handshake.clear();
        }
        if method == "initialize" || method == "notifications/initialized" {
            self.handshake.extend(serde_json::from_str::<Value>(line));
        }
    }

    /// Whether the client waits for this, or it is news.
    fn answered(&mut self, line: &str) -> bool {
        let Ok(Message { id: Some(id), method: None }) = serde_json::from_str(line) else { return true };
        self.pending.remove(&id.to_string());
        id != REPEATED
    }

    /// The handshake as a new owner is told it.
    fn handshake(&self) -> Vec<String> {
        let repeated = self.handshake.iter().cloned().map(|mut message| {
            if let Some(id) = message.get_mut("id") {
                *id = REPEATED.into();
            }
            message.to_string()
        });
        repeated.collect()
    }

    /// Answers to what the old owner left open.
    fn unanswered(&mut self) -> Vec<String> {
        let pending = std::mem::take(&mut self.pending).into_values();
        let failed = |id| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": OWNER_ENDED } });
        pending.map(|id| failed(id).to_string()).collect()
    }
}

fn lines() -> LinesCodec {
    LinesCodec::new_with_max_length(MAX_MESSAGE)
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended_badly(error: LinesCodecError) -> Error {
    Error::new(ErrorKind::Unexpected, "the bridge ended badly").with_source(error)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex, split};
    use tokio::sync::mpsc;

    use super::*;

    async fn line(from: &mut (impl AsyncBufReadExt + Unpin)) -> Value {
        let mut line = String::new();
        from.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn say(to: &mut (impl AsyncWriteExt + Unpin), message: Value) {
        to.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_keeps_its_session_when_the_owner_ends() {
        let ((host, ours), (give, mut owners)) = (duplex(4096), mpsc::channel::<DuplexStream>(2));
        let (input, output) = split(ours);
        let bridged = bridge(input, output, async move || {
            owners.recv().await.ok_or_else(|| Error::new(ErrorKind::Unavailable, "no owner"))
        });
        let (ended, ()) = tokio::join!(bridged, one_owner_after_the_other(host, give));
        ended.unwrap();
    }

    async fn one_owner_after_the_other(host: DuplexStream, give: mpsc::Sender<DuplexStream>) {
        let (from_bridge, mut host) = split(host);
        let mut from_bridge = BufReader::new(from_bridge);
        let ((first, theirs), (second, others)) = (duplex(4096), duplex(4096));
        give.send(theirs).await.unwrap();
        give.send(others).await.unwrap();

        let mut first = BufReader::new(first);
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "a": 1 } });
        say(&mut host, initialize.clone()).await;
        assert_eq!(line(&mut first).await, initialize);
        let welcome = json!({ "jsonrpc": "2.0", "id": 0, "result": { "b": 2 } });
        say(&mut first, welcome.clone()).await;
        assert_eq!(line(&mut from_bridge).await, welcome);
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        say(&mut host, initialized.clone()).await;
        assert_eq!(line(&mut first).await, initialized);
        say(&mut host, json!({ "jsonrpc": "2.0", "id": "x", "method": "tools/call" })).await;
        assert_eq!(line(&mut first).await["id"], "x");
        drop(first);

        let failed = line(&mut from_bridge).await;
        assert_eq!((&failed["id"], &failed["error"]["code"]), (&json!("x"), &json!(-32603)));
        let mut second = BufReader::new(second);
        let again = line(&mut second).await;
        assert_eq!((&again["method"], &again["params"]), (&json!("initialize"), &initialize["params"]));
        assert_eq!(line(&mut second).await, initialized);
        // The client has its answer since long.
        say(&mut second, json!({ "jsonrpc": "2.0", "id": again["id"], "result": {} })).await;
        say(&mut host, json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await;
        assert_eq!(line(&mut second).await["id"], 2);
        let answer = json!({ "jsonrpc": "2.0", "id": 2, "result": { "tools": [] } });
        say(&mut second, answer.clone()).await;
        assert_eq!(line(&mut from_bridge).await, answer);
        host.shutdown().await.unwrap();
        assert_eq!(second.read_line(&mut String::new()).await.unwrap(), 0);
    }
}
