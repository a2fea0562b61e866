//! `tools/call` on a deployed server beside a hand-written JSON-RPC Worker and a Worker on the plain official SDK.
//!
//! Every peer is a workerd of its own that the client reaches without a gateway. All of them are measured in turn,
//! several rounds in one run, by the same keep-alive client; a ratio is the median of the ratios of each round. At the
//! end come the size of what each one loads, and the time from starting its process to its first answer.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever runs it")]

mod direct;
mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use direct::{Direct, configurations};
use load::{Call, Failure, Target, load};
use metamcp_benches::{definition, median};
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{Builder, COMPATIBILITY_DATE, WorkerSettings, generate, validate};
use metamcp_local::LocalConfig;
use tokio::process::Command;

const CONNECTIONS: usize = 8;

/// How much is measured.
struct Extent {
    rounds: usize,
    calls: usize,
    starts: usize,
}

/// A Worker: how to start it, and what it loads.
struct Peer {
    name: &'static str,
    config: String,
    bundle_bytes: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Without `--bench` cargo only asks whether it works.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let extent = if measured {
        Extent { rounds: 11, calls: 2_000, starts: 11 }
    } else {
        Extent { rounds: 1, calls: 48, starts: 1 }
    };
    let folder = tempfile::tempdir()?;
    let toolchain = Toolchain::install(Path::new(env!("CARGO_TARGET_TMPDIR"))).await?;
    let peers = [
        hand_written(folder.path())?,
        plain_sdk(folder.path(), &toolchain, 1).await?,
        plain_sdk(folder.path(), &toolchain, 50).await?,
        ours(&toolchain, 1).await?,
        ours(&toolchain, 50).await?,
    ];
    let mut running = Vec::new();
    for peer in &peers {
        running.push(Direct::start(&toolchain.workerd(), &peer.config, folder.path(), peer.name).await?);
    }
    for (era, call) in [("2025-11-25", Call::of_2025()), ("2026-07-28", Call::of_2026())] {
        let targets: Vec<_> = running.iter().map(|direct| direct.target.clone()).collect();
        println!("tools/call in {era}, {CONNECTIONS} connections, {} rounds of {} calls:", extent.rounds, extent.calls);
        compare(&peers, &targets, &call, &extent).await?;
    }
    for (peer, direct) in peers.iter().zip(&running) {
        direct.resident_mb().inspect(|megabytes| println!("{}: {megabytes} MB resident after the load", peer.name));
    }
    drop(running);
    starts(&peers, &toolchain, folder.path(), &extent).await
}

/// Rounds over all peers in turn, then one row each.
async fn compare(peers: &[Peer], targets: &[Target], call: &Call, extent: &Extent) -> Result<(), Failure> {
    for target in targets {
        load(target, call, CONNECTIONS, extent.calls).await?;
    }
    let mut rates: Vec<Vec<f64>> = targets.iter().map(|_| Vec::new()).collect();
    for number in 0..extent.rounds {
        // Each peer is the first one as often as the others.
        for offset in 0..targets.len() {
            let index = (number + offset) % targets.len();
            rates[index].push(load(&targets[index], call, CONNECTIONS, extent.calls).await?.per_second);
        }
    }
    let ratio = |of: &[f64], to: &[f64]| median(of.iter().zip(to).map(|(of, to)| of / to));
    for (peer, rounds) in peers.iter().zip(&rates) {
        let (rate, beside) = (median(rounds.iter().copied()), ratio(rounds, &rates[0]));
        println!("  {:16} {rate:6.0} calls/s   {beside:.2} x hand-written", peer.name);
    }
    println!("  50 tools beside 1: {:.2} x", ratio(&rates[4], &rates[3]));
    Ok(())
}

/// From starting the process to the first answer, in turn.
async fn starts(peers: &[Peer], toolchain: &Toolchain, folder: &Path, extent: &Extent) -> Result<(), Failure> {
    let mut times: Vec<Vec<Duration>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..extent.starts {
        for (peer, times) in peers.iter().zip(&mut times) {
            let started = Instant::now();
            let direct = Direct::start(&toolchain.workerd(), &peer.config, folder, peer.name).await?;
            load(&direct.target, &Call::of_2025(), 1, 1).await?;
            times.push(started.elapsed());
        }
    }
    println!("what is loaded, and the time from starting the process to the first answer:");
    for (peer, times) in peers.iter().zip(times) {
        let milliseconds = median(times).as_secs_f64() * 1_000.0;
        println!("  {:16} {:7} bytes   {milliseconds:5.0} ms", peer.name, peer.bundle_bytes);
    }
    Ok(())
}

/// A server that was defined and deployed, on the configuration of its own process.
async fn ours(toolchain: &Toolchain, tools: usize) -> Result<Peer, Failure> {
    let definition = definition("throughput-bench", tools);
    let valid = validate(&definition)?;
    let artifact = BundleBuilder::new(toolchain.clone()).build(&generate(&valid)?, &WorkerSettings::of(&valid)).await?;
    let bundle_bytes = artifact.modules.values().map(|module| module.content.len()).sum();
    // Kept: the configuration names files in it.
    let data_dir = tempfile::tempdir()?.keep();
    let config = LocalConfig::new(&data_dir).with_toolchain_dir(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let meta = metamcp_local::open(config).await?;
    let record = meta.servers().create(&definition).await?;
    meta.deployments().deploy(&record.id.into()).await?;
    let config = configurations(&data_dir)?.pop().ok_or("no server is running")?;
    meta.close().await?;
    Ok(Peer { name: if tools == 1 { "ours, 1 tool" } else { "ours, 50 tools" }, config, bundle_bytes })
}

/// The least that answers such calls: what a Worker costs before it has any of MCP's rules.
fn hand_written(folder: &Path) -> Result<Peer, Failure> {
    const SOURCE: &str = r#"
const tools = { tool_0: { required: ["a"], run: ({ a, b = 1 }) => `the sum is ${a + b}` } };
export default {
  async fetch(request) {
    if (request.method !== "POST") return new Response("not allowed", { status: 405 });
    const { id, method, params } = await request.json();
    const answer = (result) => Response.json({ jsonrpc: "2.0", id, result });
    const failure = (code, message) => Response.json({ jsonrpc: "2.0", id, error: { code, message } });
    if (method !== "tools/call") return failure(-32601, "Method not found");
    const tool = tools[params.name];
    if (tool === undefined) return failure(-32602, `Tool ${params.name} not found`);
    const given = params.arguments ?? {};
    const missing = tool.required.filter((name) => typeof given[name] !== "number");
    if (missing.length > 0) return answer({ content: [{ type: "text", text: `missing: ${missing}` }], isError: true });
    return answer({ content: [{ type: "text", text: tool.run(given) }] });
  },
};
"#;
    worker("hand-written", SOURCE.as_bytes(), folder)
}

/// The official SDK as its documentation shows it: a server for each request, which registers its tools.
async fn plain_sdk(folder: &Path, toolchain: &Toolchain, tools: usize) -> Result<Peer, Failure> {
    const SOURCE: &str = r#"
import { createMcpHandler, fromJsonSchema, McpServer } from "@modelcontextprotocol/server";
const inputSchema = fromJsonSchema({
  type: "object",
  properties: {
    a: { type: "number", description: "First number" },
    b: { type: "number", description: "Second number", default: 1 },
  },
  required: ["a"],
  additionalProperties: false,
});
const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "plain", version: "1.0.0" });
  for (let index = 0; index < TOOLS; index++) {
    const description = "Adds two numbers and says which of its siblings it is.";
    server.registerTool(`tool_${index}`, { description, inputSchema }, async ({ a, b = 1 }) => ({
      content: [{ type: "text", text: `the sum is ${a + b}` }],
    }));
  }
  return server;
});
export default { fetch: (request) => handler.fetch(request) };
"#;
    // Below the toolchain's folder, where the SDK is found.
    let scratch = tempfile::tempdir_in(toolchain.folder())?;
    let (entry, output) = (scratch.path().join("entry.js"), scratch.path().join("bundle.js"));
    std::fs::write(&entry, SOURCE.replace("TOOLS", &tools.to_string()))?;
    let bundled = Command::new(toolchain.esbuild())
        .arg(&entry)
        .arg(format!("--outfile={}", output.display()))
        .args(["--bundle", "--format=esm", "--target=es2024", "--minify", "--conditions=workerd,worker,browser"])
        .args(["--external:cloudflare:*", "--external:node:*", "--log-level=error"])
        .status()
        .await?;
    if !bundled.success() {
        return Err("esbuild could not bundle the plain server".into());
    }
    worker(if tools == 1 { "plain SDK, 1" } else { "plain SDK, 50" }, &std::fs::read(&output)?, folder)
}

/// A Worker of one module.
fn worker(name: &'static str, source: &[u8], folder: &Path) -> Result<Peer, Failure> {
    let module = format!("{}.js", name.replace([' ', ','], "-"));
    std::fs::write(folder.join(&module), source)?;
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
           services = [(name = \"main\", worker = (modules = [(name = \"main\", esModule = embed {module:?})],\n\
             compatibilityDate = {COMPATIBILITY_DATE:?}))],\n\
           sockets = [(name = \"http\", address = \"127.0.0.1:0\", http = (), service = \"main\")],\n\
         );\n"
    );
    Ok(Peer { name, config, bundle_bytes: source.len() })
}
