//! `tools/call` through the gateway, beside the same Worker hit directly.
//!
//! `gateway` is the way of every client: TCP to the gateway, a Unix socket from there. `direct` is a second workerd on
//! the same configuration that listens on TCP itself. Both are measured in turn, several rounds in one run, by the same
//! keep-alive client with the same body; the last rows are the ratio of the medians over all rounds.
//!
//! `METAMCP_BENCH_V8_FLAGS="--max-semi-space-size=64 …"` adds a third peer: `direct` with these flags.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever runs it")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use metamcp_benches::{definition, median};
use metamcp_core::MetaMcp;
use metamcp_core::bundle::Toolchain;
use metamcp_local::LocalConfig;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NAME: &str = "gateway-bench";
const BODY: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool_1","arguments":{"a":2,"b":3}}}"#;

/// How much is measured.
struct Extent {
    rounds: usize,
    calls: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Without `--bench` cargo only asks whether it works.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let extent = if measured { Extent { rounds: 9, calls: 3_000 } } else { Extent { rounds: 1, calls: 50 } };
    let folder = tempfile::tempdir()?;
    let cache = tempfile::tempdir()?;
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let meta = metamcp_local::open(LocalConfig::new(folder.path()).with_toolchain_dir(tools)).await?;
    let workerd = Toolchain::install(tools).await?.workerd();
    let gateway = deploy(&meta).await?;
    let config = configuration(folder.path())?;
    let direct = Direct::start(&workerd, &config, cache.path(), "direct").await?;
    let mut peers = vec![("gateway", gateway, format!("/{NAME}/mcp")), ("direct", direct.address, "/mcp".to_owned())];
    let flags = std::env::var("METAMCP_BENCH_V8_FLAGS").ok();
    let flagged = match &flags {
        Some(flags) => Some(Direct::start(&workerd, &with_v8_flags(&config, flags), cache.path(), "flags").await?),
        None => None,
    };
    peers.extend(flagged.iter().map(|flagged| ("direct+flags", flagged.address, "/mcp".to_owned())));

    for connections in [1, 8] {
        compare(&peers, connections, &extent).await?;
    }
    for (name, peer) in [("direct", Some(&direct)), ("direct+flags", flagged.as_ref())] {
        let memory = peer.and_then(Direct::resident_mb);
        memory.inspect(|megabytes| println!("{name}: {megabytes} MB resident after the load"));
    }
    meta.deployments().remove(&NAME.parse()?).await?;
    meta.close().await?;
    Ok(())
}

/// Rounds over all peers in turn, then one row each.
async fn compare(peers: &[(&str, SocketAddr, String)], connections: usize, extent: &Extent) -> Result<(), Failure> {
    for (_, address, path) in peers {
        load(*address, path, connections, extent.calls / 2).await?;
    }
    let mut rounds: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    for number in 0..extent.rounds {
        // Each peer is the first one as often as the others.
        for offset in 0..peers.len() {
            let index = (number + offset) % peers.len();
            let (_, address, path) = &peers[index];
            rounds[index].push(load(*address, path, connections, extent.calls).await?);
        }
    }
    println!("{connections} connections, median of {} rounds of {} calls:", extent.rounds, extent.calls);
    let rates: Vec<f64> = rounds.iter().map(|rounds| median(rounds.iter().map(|round| round.per_second))).collect();
    for (((name, ..), rounds), rate) in peers.iter().zip(&rounds).zip(&rates) {
        let p50 = median(rounds.iter().map(|round| round.p50)).as_secs_f64() * 1_000.0;
        let p99 = median(rounds.iter().map(|round| round.p99)).as_secs_f64() * 1_000.0;
        println!(
            "  {name:13} {rate:7.0} calls/s   p50 {p50:6.3} ms   p99 {p99:6.2} ms   {:.3} x direct",
            rate / rates[1]
        );
    }
    Ok(())
}

/// One round on one peer.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// `calls` calls over so many connections at once.
async fn load(address: SocketAddr, path: &str, connections: usize, calls: usize) -> Result<Round, Failure> {
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(address).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|sender| tokio::spawn(call_again_and_again(sender, address, path.to_owned(), calls / connections)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let elapsed = started.elapsed();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
    let per_second = times.len() as f64 / elapsed.as_secs_f64();
    Ok(Round { per_second, p50: at(50), p99: at(99) })
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call_again_and_again(
    mut sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    path: String,
    calls: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let request = Request::post(&path)
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
        let started = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        times.push(started.elapsed());
        if !body.windows(12).any(|part| part == b"the sum is 5") {
            return Err(format!("an unexpected answer: {}", String::from_utf8_lossy(&body)).into());
        }
    }
    Ok(times)
}

/// Where the gateway serves the benchmark's server.
async fn deploy(meta: &MetaMcp) -> Result<SocketAddr, Failure> {
    meta.servers().create(&definition(NAME, 2)).await?;
    let deployment = meta.deployments().deploy(&NAME.parse()?).await?;
    let (host, port) = (deployment.url.host_str().unwrap_or_default(), deployment.url.port().unwrap_or_default());
    Ok(format!("{host}:{port}").parse()?)
}

/// The configuration that the deployed server's own process runs on.
fn configuration(data_dir: &Path) -> Result<String, Failure> {
    for entry in std::fs::read_dir(data_dir.join("run"))? {
        let path = entry?.path().join("config.capnp");
        if path.exists() {
            return Ok(std::fs::read_to_string(path)?);
        }
    }
    Err("no server is running".into())
}

fn with_v8_flags(config: &str, flags: &str) -> String {
    let flags: Vec<_> = flags.split_whitespace().map(|flag| format!("\"{flag}\"")).collect();
    config.replace("v8Flags = [", &format!("v8Flags = [{}, ", flags.join(", ")))
}

/// A workerd that listens on TCP itself; killed when dropped.
struct Direct {
    address: SocketAddr,
    child: Child,
}

impl Direct {
    /// The deployed server's configuration with another address.
    async fn start(workerd: &Path, config: &str, folder: &Path, name: &str) -> Result<Self, Failure> {
        let (before, rest) = config.split_once("\"unix:").ok_or("the configuration has no socket")?;
        let (_, after) = rest.split_once('"').ok_or("the configuration is cut off")?;
        let path = folder.join(format!("{name}.capnp"));
        std::fs::write(&path, format!("{before}\"127.0.0.1:0\"{after}"))?;
        let mut child = Command::new(workerd)
            .args(["serve", "-I/", "--control-fd=1"])
            .arg(&path)
            .env("METAMCP_STATE_KEY", "YmVuY2htYXJrYmVuY2htYXJrYmVuY2htYXJrYmVuY2g=")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("workerd has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(port) = event["port"].as_u64() {
                let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
                return Ok(Self { address, child });
            }
        }
        Err("workerd did not start".into())
    }

    fn resident_mb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    }
}
