//! `tools/call` through the gateway, beside the same Worker hit directly.
//!
//! `gateway` is the way of every client: TCP to the gateway, a Unix socket from there. `direct` is a second workerd on
//! the same configuration that listens on TCP itself. Both are measured in turn, several rounds in one run, by the same
//! keep-alive client with the same body; the last rows are the ratio of the medians over all rounds.
//!
//! `METAMCP_BENCH_V8_FLAGS="--max-semi-space-size=64 …"` adds a third peer: `direct` with these flags.
//!
//! The p99 is workerd's own, the same without the gateway. V8's young-generation collections seem to be where it comes
//! from: `--min-semi-space-size=32 --max-semi-space-size=64` took it from 20 to 8 ms in one run, for 140 MB more memory,
//! so it is not the default.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever runs it")]

mod direct;
mod load;

use std::net::SocketAddr;
use std::path::Path;

use direct::{Direct, configurations};
use load::{Call, Failure, Round, Target, load};
use metamcp_benches::{definition, median};
use metamcp_core::MetaMcp;
use metamcp_core::bundle::Toolchain;
use metamcp_local::LocalConfig;

const NAME: &str = "gateway-bench";

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
    let config = configurations(folder.path())?.pop().ok_or("no server is running")?;
    let direct = Direct::start(&workerd, &config, cache.path(), "direct").await?;
    let gateway = Target { address: gateway, path: format!("/{NAME}/mcp") };
    let mut peers = vec![("gateway", gateway), ("direct", direct.target.clone())];
    let flags = std::env::var("METAMCP_BENCH_V8_FLAGS").ok();
    let flagged = match &flags {
        Some(flags) => Some(Direct::start(&workerd, &with_v8_flags(&config, flags), cache.path(), "flags").await?),
        None => None,
    };
    peers.extend(flagged.iter().map(|flagged| ("direct+flags", flagged.target.clone())));

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
async fn compare(peers: &[(&str, Target)], connections: usize, extent: &Extent) -> Result<(), Failure> {
    let call = Call::of_2025();
    for (_, target) in peers {
        load(target, &call, connections, extent.calls / 2).await?;
    }
    let mut rounds: Vec<Vec<Round>> = peers.iter().map(|_| Vec::new()).collect();
    for number in 0..extent.rounds {
        // Each peer is the first one as often as the others.
        for offset in 0..peers.len() {
            let index = (number + offset) % peers.len();
            rounds[index].push(load(&peers[index].1, &call, connections, extent.calls).await?);
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

/// Where the gateway serves the benchmark's server.
async fn deploy(meta: &MetaMcp) -> Result<SocketAddr, Failure> {
    meta.servers().create(&definition(NAME, 2)).await?;
    let deployment = meta.deployments().deploy(&NAME.parse()?).await?;
    let (host, port) = (deployment.url.host_str().unwrap_or_default(), deployment.url.port().unwrap_or_default());
    Ok(format!("{host}:{port}").parse()?)
}

fn with_v8_flags(config: &str, flags: &str) -> String {
    let flags: Vec<_> = flags.split_whitespace().map(|flag| format!("\"{flag}\"")).collect();
    config.replace("v8Flags = [", &format!("v8Flags = [{}, ", flags.join(", ")))
}
