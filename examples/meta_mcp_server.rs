//! The reference server: Meta-MCP on this machine as an MCP server, for hosts that start it (`--stdio`) and for
//! clients that connect to it (`--http`).
//!
//! ```sh
//! cargo run -p metamcp-examples --example meta_mcp_server -- --stdio --data-dir ~/.metamcp
//! cargo run -p metamcp-examples --example meta_mcp_server -- --http 127.0.0.1:0 --data-dir ~/.metamcp
//! ```
//!
//! The second prints `listening on URL` and, once for each data directory, `admin key: KEY`. A data directory has one
//! owner; a second `--stdio` process on it becomes a bridge to the first.
#![expect(clippy::print_stdout, reason = "without --stdio, standard output is for whoever runs it")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use metamcp_core::server::{
    Authentication, HttpConfig, HttpServer, bridge_stdio, serve_http, serve_socket, serve_stdio,
};
use metamcp_core::{ErrorKind, MetaMcp, NewApiKey, Scope};
use metamcp_local::{LocalConfig, control_socket};
use secrecy::ExposeSecret;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer};

const USAGE: &str = "usage: meta_mcp_server (--stdio | --http ADDRESS:PORT [--no-key] [--allow-host HOST]… \
     [--allow-origin ORIGIN]…) [--data-dir DIR]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,rmcp=error"));
    // Below that rmcp writes whole messages, the secrets in them too.
    let without_messages = filter_fn(|event| !event.target().starts_with("rmcp") || *event.level() <= Level::INFO);
    // Standard output belongs to the protocol.
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(without_messages);
    tracing_subscriber::registry().with(filter).with(layer).init();
    let options = Options::parse(std::env::args().skip(1))?;
    let config = options.config()?;
    let data_dir = config.data_dir.clone();
    match metamcp_local::open(config).await {
        Ok(meta) => {
            let served = serve(&meta, &data_dir, options.http()).await;
            meta.close().await?;
            served
        }
        Err(error) if options.http.is_none() && error.kind() == ErrorKind::Conflict => {
            let Ok(owner) = UnixStream::connect(control_socket(&data_dir)?).await else { return Err(error.into()) };
            eprintln!("{error}: passing everything on to it");
            Ok(bridge_stdio(owner).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Serves HTTP until a signal comes, or standard input until it ends; beside them the socket for other programs.
async fn serve(meta: &MetaMcp, data_dir: &Path, http: Option<HttpConfig>) -> Result<(), Box<dyn Error>> {
    let socket = bind(&control_socket(data_dir)?)?;
    let http = match http {
        Some(config) => Some(listen(meta, config).await?),
        None => None,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve_stdio(meta.clone()), if http.is_none() => ended?,
        ended = serve_socket(meta.clone(), socket) => ended?,
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    if let Some(http) = http {
        http.close().await;
    }
    Ok(())
}

/// Listens, with a key for whoever starts the first server on this data directory.
async fn listen(meta: &MetaMcp, config: HttpConfig) -> Result<HttpServer, Box<dyn Error>> {
    if config.authentication == Authentication::ApiKeys && meta.api_keys().list().await?.is_empty() {
        let admin =
            NewApiKey { name: "admin".to_owned(), scopes: vec![Scope::Admin], servers: Vec::new(), expires_at: None };
        let (_, key) = meta.api_keys().create(admin).await?;
        println!("admin key: {}", key.expose_secret());
    }
    let server = serve_http(meta.clone(), config).await?;
    println!("listening on {}", server.url());
    Ok(server)
}

/// Binds the socket for other programs; this process owns the directory, so one that is there was left by a crash.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    data_dir: Option<PathBuf>,
    stdio: bool,
    http: Option<SocketAddr>,
    no_key: bool,
    /// `Host` names that a proxy passes on.
    allowed_hosts: Vec<String>,
    /// Origins of web pages.
    allowed_origins: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--stdio" => options.stdio = true,
                "--no-key" => options.no_key = true,
                "--http" => {
                    let address = arguments.next().ok_or(USAGE)?;
                    let wrong = |_| format!("{address:?} is no address such as 127.0.0.1:8080; {USAGE}");
                    options.http = Some(address.parse().map_err(wrong)?);
                }
                "--allow-host" => options.allowed_hosts.push(arguments.next().ok_or(USAGE)?),
                "--allow-origin" => options.allowed_origins.push(arguments.next().ok_or(USAGE)?),
                "--data-dir" => options.data_dir = Some(arguments.next().ok_or(USAGE)?.into()),
                other => return Err(format!("{other:?} is no option; {USAGE}")),
            }
        }
        if options.stdio == options.http.is_some() { Err(USAGE.to_owned()) } else { Ok(options) }
    }

    fn http(&self) -> Option<HttpConfig> {
        let authentication = if self.no_key { Authentication::None } else { Authentication::ApiKeys };
        let config = HttpConfig::new().with_listen(self.http?).with_authentication(authentication);
        let config = self.allowed_hosts.iter().fold(config, HttpConfig::with_allowed_host);
        Some(self.allowed_origins.iter().fold(config, HttpConfig::with_allowed_origin))
    }

    /// The environment's configuration, with the command line's before it.
    fn config(&self) -> metamcp_core::Result<LocalConfig> {
        let mut config = LocalConfig::from_env()?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }
}
