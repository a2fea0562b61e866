//! Cloudflare's REST API as far as Meta-MCP uses it, on a port of this machine, for tests without an account.
//!
//! D1 is SQLite with D1's rules, Workers KV has its limits and on request its staleness, uploaded scripts run in
//! workerd (with texts, JSON, secrets and Durable Objects, whose state a new version does not find). Faults can be asked for:
//! latency, refusals, dropped and truncated answers. Cloudflare's own client, wrangler, works against it with
//! `CLOUDFLARE_API_BASE_URL`; what only a real account can show is not claimed here.

mod account;
mod answer;
mod d1;
mod faults;
mod kv;
mod scripts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use faults::{Effect, Fault, Faults, Seen};
pub use scripts::SeenUpload;

/// How an emulator behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// The only token that is accepted; `None` accepts any.
    pub token: Option<String>,
    /// How long Workers KV may go on answering what was there before a write.
    pub kv_staleness: Duration,
    /// Where the JavaScript toolchain with workerd is kept; by default below the user's cache folder.
    pub toolchain_dir: Option<PathBuf>,
}

/// Everything an emulated account holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) databases: d1::Databases,
    pub(crate) namespaces: kv::Namespaces,
    pub(crate) scripts: scripts::Scripts,
    pub(crate) toolchain_dir: Option<PathBuf>,
    pub(crate) faults: Faults,
}

/// A running emulator; dropping it stops it and forgets everything.
#[derive(Debug)]
pub struct Emulator {
    state: Arc<State>,
    server: JoinHandle<()>,
}

/// Largest request: a KV value of 25 MiB in a form, or a bulk write.
const REQUEST_BYTES: usize = 110 * 1024 * 1024;

impl Emulator {
    /// Starts one on the loopback interface.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let state = Arc::new(State {
            address: listener.local_addr()?,
            token: options.token,
            databases: d1::Databases::default(),
            namespaces: kv::Namespaces::new(options.kv_staleness),
            scripts: scripts::Scripts::default(),
            toolchain_dir: options.toolchain_dir,
            faults: Faults::default(),
        });
        let router = router(Arc::clone(&state));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the emulator stopped");
            }
        });
        Ok(Self { state, server })
    }

    /// What to put into `CLOUDFLARE_API_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.state.address)
    }

    /// Where the host names below `workers.dev` answer: the host name comes first in the path.
    pub fn workers_dev_url(&self) -> String {
        format!("http://{}/workers.dev/", self.state.address)
    }

    /// The forms of all uploads of scripts and versions so far.
    pub fn uploads(&self) -> Vec<SeenUpload> {
        self.state.scripts.seen()
    }

    /// Faults to come, and the requests that were seen.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn router(state: Arc<State>) -> Router {
    let account = Router::new().merge(d1::routes()).merge(kv::routes()).merge(scripts::routes());
    let api = Router::new()
        .merge(account::routes())
        .nest("/accounts/{account}", account)
        .fallback(answer::unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), account::authenticate))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), faults::apply));
    Router::new()
        .nest("/client/v4", api)
        .merge(d1::transfer_routes())
        .merge(faults::routes())
        .fallback(answer::unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), scripts::serve_by_host))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(state)
}
