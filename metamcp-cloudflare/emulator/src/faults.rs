//! Faults on request, and a record of what was asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::State;
use crate::answer::Refusal;

/// How the paths of requests for scripts begin.
const SCRIPTS: &str = "/workers.dev/";

/// Something that goes wrong with requests that match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Only requests of this method.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose path has this in it. Those of scripts are hit by paths that begin with `/workers.dev/` only.
    #[serde(default)]
    pub path: String,
    /// So many matching requests are let through first.
    #[serde(default)]
    pub skip: u32,
    /// So many matching requests are hit then.
    pub times: u32,
    /// What happens to them.
    pub effect: Effect,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It is carried out so many milliseconds later.
    Delay(u64),
    /// It is refused with a status, and a number of seconds for `Retry-After`.
    #[serde(rename_all = "camelCase")]
    Refuse {
        /// HTTP status.
        status: u16,
        /// `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The connection is closed before it is carried out.
    DropRequest,
    /// It is carried out, and the connection is closed without an answer.
    DropAnswer,
    /// It is carried out, and half of the answer arrives.
    TruncateAnswer,
}

/// A request that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path below `/client/v4`.
    pub path: String,
}

/// The faults of one emulator.
#[derive(Debug, Default)]
pub struct Faults {
    planned: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
    firsts: Mutex<Option<Firsts>>,
}

/// The first attempt of every request of a script goes wrong.
#[derive(Debug)]
struct Firsts {
    effect: Effect,
    /// Those that were hit: method and path.
    hit: BTreeSet<String>,
}

impl Faults {
    /// Plans a fault; faults planned earlier are tried first.
    pub fn add(&self, fault: Fault) {
        lock(&self.planned).push(fault);
    }

    /// Lets the first attempt of every request to a script go wrong from now on.
    pub fn hit_first_attempts(&self, effect: Effect) {
        *lock(&self.firsts) = Some(Firsts { effect, hit: BTreeSet::new() });
    }

    /// Forgets all faults; returns how many first attempts went wrong.
    pub fn clear(&self) -> usize {
        lock(&self.planned).clear();
        lock(&self.firsts).take().map_or(0, |firsts| firsts.hit.len())
    }

    /// The requests so far, those that were hit by a fault among them.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Takes note of a request and says what happens to it.
    fn hit(&self, method: &str, path: &str) -> Option<Effect> {
        lock(&self.seen).push(Seen { method: method.to_owned(), path: path.to_owned() });
        self.take(method, path)
    }

    /// The same for a request of a script, whose path begins with `/workers.dev/`; no note of it is taken.
    pub(crate) fn hit_script(&self, method: &str, path: &str) -> Option<Effect> {
        if let Some(Firsts { effect, hit }) = &mut *lock(&self.firsts)
            && hit.insert(format!("{method} {path}"))
        {
            return Some(effect.clone());
        }
        self.take(method, path)
    }

    fn take(&self, method: &str, path: &str) -> Option<Effect> {
        let mut planned = lock(&self.planned);
        let is_script = path.starts_with(SCRIPTS);
        let matches = |fault: &Fault| {
            let applies = fault.path.starts_with(SCRIPTS) == is_script && path.contains(&fault.path);
            fault.times > 0 && applies && fault.method.as_deref().is_none_or(|known| known == method)
        };
        let fault = planned.iter_mut().find(|fault| matches(fault))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.effect.clone())
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route(
            "/__emulator/faults",
            post(async |Shared(state): Shared<Arc<State>>, Json(fault): Json<Fault>| {
                state.faults.add(fault);
                StatusCode::NO_CONTENT
            })
            .delete(async |Shared(state): Shared<Arc<State>>| {
                state.faults.clear();
                StatusCode::NO_CONTENT
            }),
        )
        .route("/__emulator/requests", get(async |Shared(state): Shared<Arc<State>>| Json(state.faults.seen())))
}

pub(crate) async fn apply(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let effect = state.faults.hit(request.method().as_str(), request.uri().path());
    suffer(effect, next.run(request)).await
}

/// Carries a request out, with what happens to it.
pub(crate) async fn suffer(effect: Option<Effect>, answer: impl Future<Output = Response>) -> Response {
    match effect {
        None => answer.await,
        Some(Effect::Delay(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            answer.await
        }
        Some(Effect::Refuse { status, retry_after }) => refuse(status, retry_after),
        Some(Effect::DropRequest) => close_connection(),
        Some(Effect::DropAnswer) => {
            answer.await;
            close_connection()
        }
        Some(Effect::TruncateAnswer) => truncate(answer.await).await,
    }
}

fn refuse(status: u16, retry_after: Option<u64>) -> Response {
    let code = if status == 429 { 971 } else { 0 };
    let mut response = Refusal::new(status, code, "a fault of the emulator").into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Ends the connection's task, and with it the connection; a panic's message is not printed this way.
pub(crate) fn close_connection() -> ! {
    std::panic::resume_unwind(Box::new("a fault of the emulator"))
}

/// Half of the body under the length of the whole, then the end of the connection.
async fn truncate(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = futures::stream::iter([
        Ok(bytes.slice(..bytes.len() / 2)),
        Err::<Bytes, _>(std::io::ErrorKind::BrokenPipe.into()),
    ]);
    Response::from_parts(
        parts,
        Body::from_stream(half as futures::stream::Iter<std::array::IntoIter<std::io::Result<Bytes>, 2>>),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
