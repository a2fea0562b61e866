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
//! With `--oauth-issuer URL` access tokens of that issuer are taken beside API keys, for the audience `--public-url` (the
//! URL of `/mcp` as clients know it) or `--oauth-audience`; `/metrics` is for Prometheus, with a key or token that reads.
#![expect(clippy::print_stdout, reason = "without --stdio, standard output is for whoever runs it")]

mod options;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use metamcp_cloudflare::CloudflareConfig;
use metamcp_core::server::{
    Authentication, HttpConfig, HttpServer, bridge_stdio, serve_http, serve_socket, serve_stdio,
};
use metamcp_core::{
    EnvName, ErrorKind, ExposeSecret, MetaMcp, NewApiKey, PrivateEgress, Scope, SecretString, TrustedHosts,
};
use metamcp_examples::telemetry;
use metamcp_local::{LocalConfig, control_socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use options::{Backend, Options};

/// How long a bridge waits for its owner to come back before it takes its place: a service that restarts comes first.
const GRACE: Duration = Duration::from_secs(2);
/// How long it waits in all, such as for an owner that is closing.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);
/// More are not asked for, however many are allowed.
const DESCRIPTORS: u64 = 65_536;
/// How long threads that still work are waited for in the end.
const WIND_UP: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(run());
    // What cannot be interrupted, such as a read of standard input or a long check, must not keep the process.
    runtime.shutdown_timeout(WIND_UP);
    ended
}

async fn run() -> Result<(), Box<dyn Error>> {
    let _telemetry = telemetry::start()?;
    let options = Options::read();
    raise_descriptor_limit();
    if options.backend == Backend::Cloudflare {
        return on_cloudflare(&options).await;
    }
    let target = Target { config: options.config()?, permitted: Permitted::by(&options)? };
    match target.open().await {
        Ok(meta) => {
            let served = serve(&meta, Some(&target.config.data_dir), options.http()).await;
            meta.close().await?;
            served
        }
        Err(error) if options.http().is_none() && error.kind() == ErrorKind::Conflict => {
            eprintln!("{error}: passing everything on to it");
            bridge(&target).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets this process have as many connections and servers as it serves: the usual 1,024 descriptors are fewer than those.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// On an account, as the environment says. Any number of processes may serve the same one, so nothing is passed on.
async fn on_cloudflare(options: &Options) -> Result<(), Box<dyn Error>> {
    let permitted = Permitted::by(options)?;
    let meta = permitted.to(metamcp_cloudflare::open(CloudflareConfig::from_env()?).await?);
    let served = serve(&meta, None, options.http()).await;
    meta.close().await?;
    served
}

/// What is opened, by whoever is the owner.
#[derive(Debug)]
struct Target {
    config: LocalConfig,
    permitted: Permitted,
}

impl Target {
    async fn open(&self) -> metamcp_core::Result<MetaMcp> {
        Ok(self.permitted.to(metamcp_local::open(self.config.clone()).await?))
    }
}

/// What the one who runs this permits to callers.
#[derive(Debug)]
struct Permitted {
    secrets: Vec<(EnvName, SecretString)>,
    trusted: TrustedHosts,
    private: PrivateEgress,
}

impl Permitted {
    fn by(options: &Options) -> Result<Self, Box<dyn Error>> {
        Ok(Self { secrets: options.secrets()?, trusted: options.trusted_hosts()?, private: options.private_egress()? })
    }

    fn to(&self, meta: MetaMcp) -> MetaMcp {
        meta.with_host_secrets(self.secrets.iter().cloned())
            .with_trusted_hosts(self.trusted.clone())
            .with_private_egress(self.private.clone())
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
    let keys = meta.api_keys();
    let made = if config.authentication == Authentication::ApiKeys && !keys.has_admin().await? {
        Some(keys.create(NewApiKey::new("admin", [Scope::Admin])).await?)
    } else {
        None
    };
    match (serve_http(meta.clone(), config).await, made) {
        (Ok(server), made) => {
            if let Some((_, key)) = made {
                println!("admin key: {}", key.expose_secret());
            }
            println!("listening on {}", server.url());
            Ok(server)
        }
        // It was shown to nobody, and would keep the next start from making one that is.
        (Err(error), Some((record, _))) => {
            keys.revoke(record.id).await?;
            Err(error.into())
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// Binds the socket for other programs; this process owns the directory, so one that is there was left by a crash.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}
