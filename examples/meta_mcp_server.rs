//! The reference server: Meta-MCP on this machine as an MCP server, for hosts that start it (`--stdio`) and for
//! clients that connect to it (`--http`).
//!
//! ```sh
//! cargo run -p metamcp-examples --example meta_mcp_server -- --stdio --data-dir ~/.metamcp
//! cargo run -p metamcp-examples --example meta_mcp_server -- --http 127.0.0.1:0 --data-dir ~/.metamcp
//! ```
//!
//! The second prints `listening on URL` and, once for each data directory, `admin key: KEY`. A data directory has one
//! owner; a second `--stdio` process on it becomes a bridge to the first, and when that ends, the owner. With
//! `--backend cloudflare` servers run on the account that `CLOUDFLARE_ACCOUNT_ID` and `CLOUDFLARE_API_TOKEN` name.
#![expect(clippy::print_stdout, reason = "without --stdio, standard output is for whoever runs it")]

use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metamcp_cloudflare::CloudflareConfig;
use metamcp_core::server::{
    Authentication, HttpConfig, HttpServer, bridge_stdio, serve_http, serve_socket, serve_stdio,
};
use metamcp_core::{EnvName, ErrorKind, MetaMcp, NewApiKey, Scope};
use metamcp_examples::telemetry;
use metamcp_local::{LocalConfig, control_socket};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: meta_mcp_server (--stdio | --http ADDRESS:PORT [--no-key] [--allow-host HOST]… \
     [--allow-origin ORIGIN]… [--requests-per-minute N]) [--secret-env VARIABLE]… \
     [--data-dir DIR | --backend cloudflare]";

/// How long a bridge waits for its owner to come back before it takes its place: a service that restarts comes first.
const GRACE: Duration = Duration::from_secs(2);
/// How long it waits in all, such as for an owner that is closing.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let _telemetry = telemetry::start()?;
    let options = Options::parse(std::env::args().skip(1))?;
    if options.backend == Backend::Cloudflare {
        return on_cloudflare(&options).await;
    }
    let target = Target { config: options.config()?, secrets: options.secrets()? };
    match target.open().await {
        Ok(meta) => {
            let served = serve(&meta, Some(&target.config.data_dir), options.http()).await;
            meta.close().await?;
            served
        }
        Err(error) if options.http.is_none() && error.kind() == ErrorKind::Conflict => {
            eprintln!("{error}: passing everything on to it");
            bridge(&target).await
        }
        Err(error) => Err(error.into()),
    }
}

/// On an account, as the environment says. Any number of processes may serve the same one, so nothing is passed on.
async fn on_cloudflare(options: &Options) -> Result<(), Box<dyn Error>> {
    let meta = metamcp_cloudflare::open(CloudflareConfig::from_env()?).await?.with_host_secrets(options.secrets()?);
    let served = serve(&meta, None, options.http()).await;
    meta.close().await?;
    served
}

/// What is opened, by whoever is the owner.
#[derive(Debug)]
struct Target {
    config: LocalConfig,
    secrets: Vec<(EnvName, SecretString)>,
}

impl Target {
    async fn open(&self) -> metamcp_core::Result<MetaMcp> {
        let meta = metamcp_local::open(self.config.clone()).await?;
        Ok(meta.with_host_secrets(self.secrets.iter().cloned()))
    }
}

/// Passes standard input and output on to the owner, until the input ends or a signal comes.
async fn bridge(target: &Target) -> Result<(), Box<dyn Error>> {
    let mut own = None;
    let mut terminated = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        ended = bridge_stdio(async || owner(target, &mut own).await) => ended,
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        _ = terminated.recv() => Ok(()),
    };
    if let Some(meta) = own {
        meta.close().await?;
    }
    Ok(ended?)
}

/// The socket of the directory's owner; where there is none, this process becomes that.
async fn owner(target: &Target, own: &mut Option<MetaMcp>) -> metamcp_core::Result<UnixStream> {
    let path = control_socket(&target.config.data_dir)?;
    let begin = Instant::now();
    loop {
        if let Ok(owner) = UnixStream::connect(&path).await {
            return Ok(owner);
        }
        if begin.elapsed() > GRACE {
            match target.open().await {
                Ok(meta) => {
                    eprintln!(
                        "the owner of {} has ended: this process takes its place",
                        target.config.data_dir.display()
                    );
                    tokio::spawn(serve_socket(own.insert(meta).clone(), bind(&path).map_err(unusable)?));
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Conflict && begin.elapsed() < TAKE_OVER_LIMIT => {}
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn unusable(error: std::io::Error) -> metamcp_core::Error {
    metamcp_core::Error::new(ErrorKind::Unavailable, "the socket for other programs cannot be listened at")
        .with_source(error)
}

/// Serves HTTP until a signal comes, or standard input until it ends; beside them the socket of a data directory, for
/// other programs.
async fn serve(meta: &MetaMcp, data_dir: Option<&Path>, http: Option<HttpConfig>) -> Result<(), Box<dyn Error>> {
    let socket = match data_dir {
        Some(data_dir) => Some(bind(&control_socket(data_dir)?)?),
        None => None,
    };
    let http = match http {
        Some(config) => Some(listen(meta, config).await?),
        None => None,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve_stdio(meta.clone()), if http.is_none() => ended?,
        ended = serve_others(meta, socket) => ended?,
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    if let Some(http) = http {
        http.close().await;
    }
    Ok(())
}

/// Serves other programs on the socket, where there is one.
async fn serve_others(meta: &MetaMcp, socket: Option<UnixListener>) -> metamcp_core::Result<()> {
    match socket {
        Some(socket) => serve_socket(meta.clone(), socket).await,
        None => std::future::pending().await,
    }
}

/// Listens, with a key for whoever starts the first server on this data directory, or one where no key of an admin is
/// valid any more.
async fn listen(meta: &MetaMcp, config: HttpConfig) -> Result<HttpServer, Box<dyn Error>> {
    if config.authentication == Authentication::ApiKeys && !meta.api_keys().has_admin().await? {
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

/// Where servers run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Backend {
    #[default]
    Local,
    Cloudflare,
}

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    backend: Backend,
    data_dir: Option<PathBuf>,
    stdio: bool,
    http: Option<SocketAddr>,
    no_key: bool,
    /// `Host` names that a proxy passes on.
    allowed_hosts: Vec<String>,
    /// Origins of web pages.
    allowed_origins: Vec<String>,
    requests_per_minute: Option<NonZeroU32>,
    /// Variables of the environment that `set_secret` may name.
    secret_env: Vec<String>,
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
                "--requests-per-minute" => {
                    let number = arguments.next().ok_or(USAGE)?;
                    let wrong = |_| format!("{number:?} is no number of requests above 0; {USAGE}");
                    options.requests_per_minute = Some(number.parse().map_err(wrong)?);
                }
                "--backend" => {
                    options.backend = match arguments.next().ok_or(USAGE)?.as_str() {
                        "local" => Backend::Local,
                        "cloudflare" => Backend::Cloudflare,
                        other => return Err(format!("{other:?} is no backend; {USAGE}")),
                    }
                }
                "--secret-env" => options.secret_env.push(arguments.next().ok_or(USAGE)?),
                "--data-dir" => options.data_dir = Some(arguments.next().ok_or(USAGE)?.into()),
                other => return Err(format!("{other:?} is no option; {USAGE}")),
            }
        }
        let misplaced = options.backend == Backend::Cloudflare && options.data_dir.is_some();
        if misplaced || options.stdio == options.http.is_some() { Err(USAGE.to_owned()) } else { Ok(options) }
    }

    fn http(&self) -> Option<HttpConfig> {
        let authentication = if self.no_key { Authentication::None } else { Authentication::ApiKeys };
        let config = HttpConfig::new().with_listen(self.http?).with_authentication(authentication);
        let config = match self.requests_per_minute {
            Some(requests) => config.with_requests_per_minute(requests),
            None => config,
        };
        let config = self.allowed_hosts.iter().fold(config, HttpConfig::with_allowed_host);
        Some(self.allowed_origins.iter().fold(config, HttpConfig::with_allowed_origin))
    }

    /// What `set_secret` may take from the environment.
    fn secrets(&self) -> Result<Vec<(EnvName, SecretString)>, String> {
        let read = |name: &String| {
            let parsed = name.parse::<EnvName>().map_err(|error| format!("--secret-env {name:?}: {error}"))?;
            let value = std::env::var(name).map_err(|_| format!("--secret-env {name}: it is not set, or no text"))?;
            Ok((parsed, value.into()))
        };
        self.secret_env.iter().map(read).collect()
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
