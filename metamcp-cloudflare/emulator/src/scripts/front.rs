//! Requests for host names below `workers.dev`: by their `Host`, or with the host name first in a path below
//! `/workers.dev/`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{SUBDOMAIN, Script, Scripts};
use crate::State;

/// What the local runtime answers to.
const INTERNAL_HOST: &str = "metamcp.internal";

pub(crate) async fn serve_by_host(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let Some((host, path)) = target(&request) else { return next.run(request).await };
    let Some(socket) = state.scripts.at_host(&host) else {
        return (StatusCode::NOT_FOUND, "There is nothing here yet").into_response();
    };
    match forward(request, &path, socket).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
    }
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
    fn at_host(&self, host: &str) -> Option<PathBuf> {
        let name = host.strip_suffix(&format!(".{SUBDOMAIN}.workers.dev"))?;
        self.with(|scripts| {
            if let Some(script) = scripts.get(name) {
                return script.subdomain.enabled.then(|| script.live()).flatten().map(|live| live.socket.clone());
            }
            let (version, name) = name.split_once('-')?;
            scripts.get(name).and_then(|script| script.preview(version))
        })
    }
}

impl Script {
    /// Scripts with Durable Objects have no previews.
    fn preview(&self, version: &str) -> Option<PathBuf> {
        let previews = self.versions.iter().filter(|_| self.subdomain.previews_enabled);
        let mut found = previews.filter(|known| known.id.to_string().starts_with(version));
        found.find(|known| version.len() == 8 && !known.has_durable_objects()).map(|known| known.socket.clone())
    }
}

async fn forward(mut request: Request, path: &str, socket: PathBuf) -> Result<Response, String> {
    let failed = |error: hyper::Error| error.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static(INTERNAL_HOST));
    let response = sender.send_request(request).await.map_err(failed)?;
    Ok(response.map(Body::new))
}
