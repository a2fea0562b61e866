//! The Docker engine: the connection, a limit on every call, one table of errors.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as EngineError;
use bollard::{API_DEFAULT_VERSION, Docker};
use metamcp_core::{Error, ErrorKind, Result};
use tokio::time::timeout;

use super::roster::Roster;

/// Every call but those that stream is answered within milliseconds by an engine that is well.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// For looking whether there is an engine.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A connection to an engine that answered. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    docker: Docker,
    roster: Arc<Roster>,
}

impl Engine {
    /// Connects to an engine, to that of `DOCKER_HOST`, or to the system's own.
    pub(super) async fn connect(host: Option<&str>) -> Result<Self> {
        let connected = match host {
            Some(host) => Docker::connect_with_host(host),
            None => Docker::connect_with_defaults(),
        };
        let docker = connected.map_err(unreachable)?;
        let negotiated = timeout(CONNECT_LIMIT, docker.negotiate_version());
        let docker = negotiated.await.map_err(|_| no_engine("it does not answer"))?.map_err(unreachable)?;
        tracing::debug!(version = %docker.client_version(), default = %API_DEFAULT_VERSION, "connected to Docker");
        Ok(Self { docker, roster: Arc::default() })
    }

    /// The client, for calls and streams.
    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The containers that somebody here has a handle on.
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A call with its limit; `what` says in an error what was tried.
    pub(super) async fn call<T>(&self, what: &str, call: impl Future<Output = Result<T, EngineError>>) -> Result<T> {
        let Ok(answer) = timeout(CALL_LIMIT, call).await else {
            let message = format!("could not {what}: Docker did not answer within {} s", CALL_LIMIT.as_secs());
            return Err(
                Error::new(ErrorKind::TimedOut, message).with_help("check that the engine is well: `docker ps`")
            );
        };
        answer.map_err(|error| engine_error(what, error))
    }
}

/// The engine's error in our terms.
pub(super) fn engine_error(what: &str, error: EngineError) -> Error {
    let kind = match &error {
        EngineError::DockerResponseServerError { status_code: 404, .. } => ErrorKind::NotFound,
        EngineError::DockerResponseServerError { status_code: 409, .. } => ErrorKind::Conflict,
        EngineError::DockerResponseServerError { status_code: 400, .. } => ErrorKind::ConfigInvalid,
        EngineError::DockerResponseServerError { status_code: 401 | 403, .. } => ErrorKind::PermissionDenied,
        EngineError::RequestTimeoutError => ErrorKind::TimedOut,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("could not {what}")).with_source(error)
}

fn unreachable(error: EngineError) -> Error {
    no_engine("it cannot be reached").with_source(error)
}

fn no_engine(why: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("a Docker engine is needed, and {why}")).with_help(
        "containers are where npm packages are installed, which are other people's code, and what `Isolation::Docker` \
         runs servers in: install Docker (https://docs.docker.com/engine/install/), start it, and let this user reach \
         its socket; DOCKER_HOST names another one",
    )
}
