//! Cloudflare's REST API as far as Meta-MCP uses it, on a port of this machine, for tests without an account.
//!
//! D1 is SQLite with D1's rules, Workers KV has its limits and on request its staleness, uploaded scripts run in
//! workerd with their bindings: texts, JSON, secrets, D1, Workers KV, other Workers, dispatch namespaces with their
//! outbound Worker, and Durable Objects, whose state a new version does not find. An upload that binds anything else is
//! refused. New host names and deployments take their time on request. The sandboxes of the Container Manager are
//! containers of the local Docker engine. Faults can be asked for: latency, refusals, dropped and truncated answers.
//! Cloudflare's own client, wrangler, works against it with `CLOUDFLARE_API_BASE_URL`; what only a real account can show
//! is not claimed here.

mod account;
mod answer;
mod bindings;
mod containers;
mod d1;
mod edge;
mod faults;
mod kv;
mod scripts;
mod workerd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// For tests that compare with the local target.
pub use metamcp_local::{DockerBuilder, DockerConfig};

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
    /// So many first requests of each host name fail, as they do until a new name is known everywhere.
    pub host_failures: u32,
    /// So many requests after a deployment are still answered by the version before.
    pub stale_answers: u32,
    /// Where the JavaScript toolchain with workerd is kept; by default below the user's cache folder.
    pub toolchain_dir: Option<PathBuf>,
    /// What containers are made of, and how many run at once.
    pub docker: DockerConfig,
    /// Hosts of the internet that scripts find at an address of this machine instead, in plain HTTP.
    pub outbound_overrides: BTreeMap<String, SocketAddr>,
}

/// Everything an emulated account holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) databases: d1::Databases,
    pub(crate) namespaces: kv::Namespaces,
    pub(crate) scripts: scripts::Scripts,
    pub(crate) edge: edge::Edge,
    pub(crate) containers: containers::Containers,
    pub(crate) dispatch: scripts::DispatchNamespaces,
    pub(crate) runner: workerd::Runner,
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
        let address = listener.local_addr()?;
        let containers = containers::Containers::new(options.docker, options.toolchain_dir.as_deref());
        let mut overrides = options.outbound_overrides;
        overrides.insert(containers::HOST.to_owned(), address);
        let state = Arc::new(State {
            address,
            token: options.token,
            databases: d1::Databases::default(),
            namespaces: kv::Namespaces::new(options.kv_staleness),
            scripts: scripts::Scripts::default(),
            edge: edge::Edge::new(options.host_failures, options.stale_answers),
            containers,
            dispatch: scripts::DispatchNamespaces::default(),
            runner: workerd::Runner::new(address, options.toolchain_dir, overrides),
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

    /// Makes the image that containers are made of, unless it is there: the first one would wait for it, too long for a
    /// script's request.
    pub async fn prepare_containers(&self) -> metamcp_core::Result<()> {
        self.state.containers.prepare().await
    }

    /// How many sandboxes of the Container Manager run.
    pub fn sandboxes(&self) -> usize {
        self.state.containers.running()
    }

    /// How many tails are open.
    pub fn tails(&self) -> usize {
        self.state.scripts.tails.count()
    }

    /// Changes [`Options::stale_answers`]: with [`u32::MAX`] no deployment arrives at the edge until there is another
    /// number.
    pub fn set_stale_answers(&self, count: u32) {
        self.state.edge.set_stale_answers(count);
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
    let account =
        Router::new().merge(d1::routes()).merge(kv::routes()).merge(scripts::routes()).merge(containers::routes());
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
        .merge(containers::bridge_routes())
        .merge(scripts::socket_routes())
        .fallback(answer::unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), scripts::serve_by_host))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(state)
}
