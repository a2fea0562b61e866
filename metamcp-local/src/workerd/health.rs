//! `GET /health` over a fresh connection.

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// `Host` name of requests that do not come through the gateway.
pub(crate) const INTERNAL_HOST: &str = "metamcp.internal";
/// How much of an unhealthy answer is shown.
const SHOWN_BYTES: usize = 2_048;

/// Asks a Worker whether it is well; otherwise the error says what it answered.
pub(super) async fn check(socket: &Path) -> Result<(), String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| format!("it does not listen: {error}"))?;
    let failed = |error: hyper::Error| format!("it did not answer GET /health: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let request = Request::get("/health")
            .header(header::HOST, INTERNAL_HOST)
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() == StatusCode::OK {
            return Ok(());
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), SHOWN_BYTES).collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        Err(format!("it answered GET /health with {status} {text}"))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        outcome = &mut exchange => outcome,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}
