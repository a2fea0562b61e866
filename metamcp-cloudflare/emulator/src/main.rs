//! `cargo run -p metamcp-cloudflare-emulator -- --port 0`: prints `listening on URL` and where uploaded
//! scripts answer, and runs until Ctrl-C.

use metamcp_cloudflare_emulator::{Emulator, Options};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the URL is this program's output")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emulator = Emulator::start(Options { port: port(std::env::args().skip(1))?, ..Options::default() }).await?;
    println!("listening on {}", emulator.base_url());
    println!("workers.dev at {}", emulator.workers_dev_url());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn port(mut arguments: impl Iterator<Item = String>) -> Result<u16, String> {
    let usage = "usage: metamcp-cloudflare-emulator [--port PORT]";
    let Some(name) = arguments.next() else { return Ok(0) };
    let value = arguments.next().filter(|_| name == "--port").ok_or(usage)?;
    if arguments.next().is_some() {
        return Err(usage.to_owned());
    }
    value.parse().map_err(|error| format!("port {value:?}: {error}"))
}
