//! `cargo run -p metamcp-cloudflare-emulator -- --port 0`: prints `listening on URL` and where uploaded
//! scripts answer, and runs until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use metamcp_cloudflare_emulator::{Emulator, Options};

/// Cloudflare's API on this machine, as far as Meta-MCP uses it
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; 0 takes a free port
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How long Workers KV goes on answering what was there before a write
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    kv_staleness: u64,
    /// So many first requests of each host name below workers.dev fail
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    host_failures: u32,
    /// So many requests after a deployment are answered by the version before
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    stale_answers: u32,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the URL is this program's output")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { port, kv_staleness, host_failures, stale_answers } = Arguments::parse();
    let mut options = Options {
        port,
        kv_staleness: Duration::from_secs(kv_staleness),
        host_failures,
        stale_answers,
        toolchain_dir: std::env::var_os("METAMCP_TOOLCHAIN_DIR").map(PathBuf::from),
        ..Options::default()
    };
    if let Ok(image) = std::env::var("METAMCP_DOCKER_BASE_IMAGE") {
        options.docker = options.docker.with_base_image(image);
    }
    let emulator = Emulator::start(options).await?;
    println!("listening on {}", emulator.base_url());
    println!("workers.dev at {}", emulator.workers_dev_url());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
