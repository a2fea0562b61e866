//! Sandboxes as the Container Manager's bridge has them: environments of the local Docker engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use metamcp_core::{Builder, Command, Environment, Error, ErrorKind, ServerName, TemplateKind};
use metamcp_local::DockerBuilder;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::Containers;
use super::written;
use crate::State;

/// Lines on their way to a script.
const LINES: usize = 64;
/// Clears the workspace of the template's files: a sandbox begins empty.
const CLEAR: &str = "rm -rf -- * .[!.]* ..?*";
const CLEAR_LIMIT: Duration = Duration::from_secs(30);

/// The sandboxes that run, by the id that their script chose.
#[derive(Debug, Default)]
pub(super) struct Sandboxes(Mutex<HashMap<String, Arc<dyn Environment>>>);

/// A failure as the bridge tells it.
struct Refused(Error);

type Answer = Result<Response, Refused>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    line: String,
    cwd: String,
    timeout_ms: f64,
    env: BTreeMap<String, String>,
}

pub(super) fn routes() -> Router<Arc<State>> {
    let sandbox = Router::new()
        .route("/", put(start).delete(destroy))
        .route("/run", post(run))
        .route("/files/{*path}", get(read).put(write).delete(remove))
        .route("/list/", get(list_all))
        .route("/list/{*path}", get(list));
    Router::new().nest("/__emulator/containers/{token}/sandboxes/{id}", sandbox)
}

type At = Path<(String, String)>;
type AtPath = Path<(String, String, String)>;

impl Containers {
    /// The sandbox of an id, for who knows the token.
    fn sandbox(&self, token: &str, id: &str) -> Result<Arc<dyn Environment>, Refused> {
        self.check(token)?;
        self.sandboxes.with(|running| running.get(id).cloned()).ok_or_else(|| {
            Refused(Error::new(ErrorKind::Unavailable, format!("the container of sandbox {id} has ended")))
        })
    }

    fn check(&self, token: &str) -> Result<(), Refused> {
        if token == self.token {
            return Ok(());
        }
        Err(Refused(Error::new(ErrorKind::Unauthenticated, "this is the bridge of the emulator's own scripts")))
    }
}

impl Sandboxes {
    pub(super) fn count(&self) -> usize {
        self.with(|running| running.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Arc<dyn Environment>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn start(Shared(state): Shared<Arc<State>>, Path((token, id)): At) -> Answer {
    let containers = &state.containers;
    containers.check(&token)?;
    if containers.sandboxes.with(|running| running.contains_key(&id)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let made = new_environment(containers.docker().await?).await;
    let environment = made.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            let message = "Maximum number of running container instances exceeded";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        }
        _ => error,
    })?;
    environment.exec(&Command::new(CLEAR, CLEAR_LIMIT)).await?;
    containers.sandboxes.with(|running| running.insert(id, environment));
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn new_environment(docker: &DockerBuilder) -> metamcp_core::Result<Arc<dyn Environment>> {
    let name: ServerName =
        "sandbox".parse().map_err(|error| Error::new(ErrorKind::Unexpected, "a bad name").with_source(error))?;
    docker.create_environment(&name, TemplateKind::RemoteMcpAuthless).await
}

async fn destroy(Shared(state): Shared<Arc<State>>, Path((token, id)): At) -> Answer {
    state.containers.check(&token)?;
    let found = state.containers.sandboxes.with(|running| running.get(&id).cloned());
    if let Some(environment) = found {
        environment.destroy().await?;
        state.containers.sandboxes.with(|running| running.remove(&id));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What it writes line by line, and at last its output. When the connection ends, so does the command.
async fn run(Shared(state): Shared<Arc<State>>, Path((token, id)): At, body: Bytes) -> Answer {
    let environment = state.containers.sandbox(&token, &id)?;
    let run: Run = serde_json::from_slice(&body)
        .map_err(|error| Error::new(ErrorKind::ConfigInvalid, "the command has no form").with_source(error))?;
    let timeout = Duration::try_from_secs_f64(run.timeout_ms / 1000.0).unwrap_or(Command::MAX_TIMEOUT);
    let mut command = Command::new(run.line, timeout);
    command.working_directory = run.cwd;
    command.variables = run.env;
    let (sender, lines) = mpsc::channel(LINES);
    let running = tokio::spawn(async move { written::run(&*environment, &command, &sender).await });
    let running = AbortOnDrop(running);
    let stream = futures::stream::unfold((lines, running), async |(mut lines, running)| {
        let line: String = lines.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), (lines, running)))
    });
    Ok(Body::from_stream(stream).into_response())
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(Shared(state): Shared<Arc<State>>, Path((token, id, path)): AtPath) -> Answer {
    Ok(state.containers.sandbox(&token, &id)?.read_file(&path).await?.into_response())
}

async fn write(Shared(state): Shared<Arc<State>>, Path((token, id, path)): AtPath, content: Bytes) -> Answer {
    state.containers.sandbox(&token, &id)?.write_file(&path, content).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((token, id, path)): AtPath) -> Answer {
    state.containers.sandbox(&token, &id)?.delete_file(&path).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_all(state: Shared<Arc<State>>, Path((token, id)): At) -> Answer {
    list(state, Path((token, id, String::new()))).await
}

async fn list(Shared(state): Shared<Arc<State>>, Path((token, id, path)): AtPath) -> Answer {
    Ok(Json(state.containers.sandbox(&token, &id)?.list_files(&path).await?).into_response())
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": problem(&self.0) }))).into_response()
    }
}

/// An error in the Container Manager's words.
pub(super) fn problem(error: &Error) -> serde_json::Value {
    json!({ "kind": error.kind().as_str(), "message": error.message(), "help": error.help() })
}
