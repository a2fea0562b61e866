//! Requests for host names below `workers.dev`: by their `Host`, or with the host name first in a path below
//! `/workers.dev/`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{SUBDOMAIN, Script, Scripts, Version};
use crate::edge::Edge;
use crate::faults::suffer;
use crate::workerd::{BINDING, Process};
use crate::{State, bindings};

pub(crate) async fn serve_by_host(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(BINDING) {
        return bindings::serve(&state, request).await;
    }
    let Some((host, path)) = target(&request) else { return next.run(request).await };
    let effect = state.faults.hit_script(request.method().as_str(), &format!("/workers.dev/{host}{path}"));
    suffer(effect, answer(&state, request, &host, &path)).await
}

async fn answer(state: &State, mut request: Request, host: &str, path: &str) -> Response {
    let Some(process) = state.scripts.at_host(host, &state.edge) else {
        return (StatusCode::NOT_FOUND, "There is nothing here yet").into_response();
    };
    if let Some(failure) = state.edge.unknown_host(host) {
        return failure;
    }
    let (Ok(uri), Ok(host)) = (path.parse(), HeaderValue::from_str(host)) else {
        return (StatusCode::BAD_REQUEST, "the address cannot be forwarded").into_response();
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(header::HOST, host);
    forward(request, &process).await
}

/// Host name, and path with query.
fn target(request: &Request) -> Option<(String, String)> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Some(rest) = path.strip_prefix("/workers.dev/") {
        let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
        return Some((host.to_owned(), format!("/{rest}")));
    }
    let host = request.headers().get(header::HOST)?.to_str().ok()?.split(':').next()?;
    host.ends_with(".workers.dev").then(|| (host.to_owned(), path.to_owned()))
}

impl Scripts {
    /// The process behind a host name.
    fn at_host(&self, host: &str, edge: &Edge) -> Option<Arc<Process>> {
        let name = host.strip_suffix(&format!(".{SUBDOMAIN}.workers.dev"))?;
        self.with(|scripts| {
            if let Some(script) = scripts.get_mut(name) {
                return script.subdomain.enabled.then(|| script.served(edge)).flatten()?.process.clone();
            }
            let (version, name) = name.split_once('-')?;
            scripts.get(name).and_then(|script| script.preview(version))
        })
    }
}

impl Script {
    /// The version that answers the next request: the live one, or for a while the one that answered before.
    pub(super) fn served(&mut self, edge: &Edge) -> Option<&Version> {
        if !edge.is_behind(&mut self.requests) {
            self.arrived = self.deployments.len().checked_sub(1)?;
        }
        self.arrived()
    }

    /// The version that the edge knows of.
    pub(super) fn arrived(&self) -> Option<&Version> {
        let (id, _) = self.deployments.get(self.arrived)?.versions.first()?;
        self.version(*id).ok()
    }

    /// Scripts with Durable Objects have no previews.
    fn preview(&self, version: &str) -> Option<Arc<Process>> {
        let previews = self.versions.iter().filter(|_| self.subdomain.previews_enabled);
        let mut found = previews.filter(|known| known.id.to_string().starts_with(version));
        found.find(|known| version.len() == 8 && !known.has_durable_objects())?.process.clone()
    }
}

/// A process's answer to a request for its path and host.
pub(crate) async fn forward(request: Request, process: &Process) -> Response {
    let answer = async {
        let stream = UnixStream::connect(process.socket()).await.map_err(|error| error.to_string())?;
        let failed = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(failed)
    };
    match answer.await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
    }
}
