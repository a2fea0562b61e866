//! [`SecretPage`]: a page on this machine where a person types the value of a secret, once. The value goes from the
//! browser to this process; the agent and its host never see it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;
use uuid::Uuid;

use super::listen::{Patience, Place, Places, ended, serve_each, serve_http1};
use crate::name::{EnvName, ServerName};
use crate::{Error, ErrorKind, Result};

/// How long a person has.
pub(super) const PAGE_LIMIT: Duration = Duration::from_secs(300);
/// Size of what is typed, in the form that browsers send.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a browser may take to send a request, and how long the last answer may take to reach it.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 16;
const PATIENCE: Patience = Patience { head: REQUEST_LIMIT, write: REQUEST_LIMIT, max_head_bytes: 64 * 1024 };

/// A page that waits for a person; it is gone once the value is there, after [`PAGE_LIMIT`], or when this is dropped.
#[derive(Debug)]
pub(super) struct SecretPage {
    url: Url,
    value: oneshot::Receiver<SecretString>,
    opened: Instant,
    _open: DropGuard,
}

impl SecretPage {
    /// Opens the page for one secret at a free port of the loopback address.
    pub(super) async fn open(server: &ServerName, secret: &EnvName) -> Result<Self> {
        let unusable = |error| {
            Error::new(ErrorKind::Unavailable, "the page for a secret cannot be opened on this machine")
                .with_source(error)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        // 122 bits of the system's randomness: who knows the path was shown it.
        let path = format!("/{}", Uuid::new_v4().simple());
        let url = Url::parse(&format!("http://{address}{path}"))
            .map_err(|error| Error::new(ErrorKind::Unexpected, "an address makes no URL").with_source(error))?;
        let (typed, value) = oneshot::channel();
        let end = CancellationToken::new();
        let page = Arc::new(Page {
            address,
            path,
            form: form(server, secret),
            typed: Mutex::new(Some(typed)),
            end: end.clone(),
        });
        tokio::spawn(async move {
            // A page that nobody used closes the channel, which its owner takes for the end of the time.
            if timeout(PAGE_LIMIT, serve(listener, page)).await.is_err() {
                tracing::debug!("nobody used the page for a secret");
            }
        });
        Ok(Self { url, value, opened: Instant::now(), _open: end.drop_guard() })
    }

    /// Where the person has to go.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.opened.elapsed() >= PAGE_LIMIT
    }

    /// What the person typed; [`ErrorKind::TimedOut`] if nobody did in time. May be dropped and asked again.
    pub(super) async fn value(&mut self) -> Result<SecretString> {
        (&mut self.value).await.map_err(|_| {
            let message = format!("nobody typed the value within {} s", PAGE_LIMIT.as_secs());
            Error::new(ErrorKind::TimedOut, message).with_help("ask again once the person is there")
        })
    }
}

/// What the listener knows.
struct Page {
    address: SocketAddr,
    path: String,
    form: String,
    /// Taken by the first value.
    typed: Mutex<Option<oneshot::Sender<SecretString>>>,
    end: CancellationToken,
}

/// Serves the page until its end; answers that have begun are still sent.
async fn serve(listener: TcpListener, page: Arc<Page>) {
    let each = |(stream, _): (TcpStream, SocketAddr), _: Place| {
        let page = Arc::clone(&page);
        async move {
            let service = service_fn(|request| {
                let page = Arc::clone(&page);
                async move { Ok(page.answer(request).await) }
            });
            serve_http1(stream, PATIENCE, service, &page.end).await;
        }
    };
    let places = Places { full: MAX_CONNECTIONS, spare: 0 };
    let served = serve_each(listener, places, &page.end, each).await;
    if timeout(REQUEST_LIMIT, ended(served)).await.is_err() {
        tracing::debug!("a browser did not read its answer in time");
    }
}

impl Page {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match self.reply(request).await {
            Ok(text) => (StatusCode::OK, text),
            Err((status, text)) => (status, message(text)),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn reply(&self, request: Request<Incoming>) -> std::result::Result<String, (StatusCode, &'static str)> {
        // Not another name that leads here, as in DNS rebinding.
        if text_of(request.headers(), header::HOST) != Some(&self.address.to_string()) {
            return Err((StatusCode::FORBIDDEN, "This page has another address."));
        }
        if request.uri().path() != self.path {
            return Err((StatusCode::NOT_FOUND, "Nothing is here."));
        }
        match *request.method() {
            Method::GET => Ok(self.form.clone()),
            Method::POST => self.take(request).await,
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "This page is opened, and its form is sent.")),
        }
    }

    /// Takes the value, if it comes from the page itself.
    async fn take(&self, request: Request<Incoming>) -> std::result::Result<String, (StatusCode, &'static str)> {
        let own = format!("http://{}", self.address);
        if text_of(request.headers(), header::ORIGIN) != Some(&own) {
            return Err((StatusCode::FORBIDDEN, "The form was sent from another page."));
        }
        let kind = text_of(request.headers(), header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
        if kind != Some("application/x-www-form-urlencoded") {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "This is not the page's form."));
        }
        let body = timeout(REQUEST_LIMIT, Limited::new(request.into_body(), MAX_BODY_BYTES).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "The value is too long: at most 64 KiB are taken."));
            }
            _ => return Err((StatusCode::BAD_REQUEST, "The form did not arrive. Send it again.")),
        };
        let value = value_in(&body).ok_or((StatusCode::BAD_REQUEST, "There is no value. Go back and type it."))?;
        let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken = typed.is_some_and(|typed| typed.send(value).is_ok());
        self.end.cancel();
        if !taken {
            return Err((StatusCode::GONE, "Nobody waits for this value any more. Have the agent ask again."));
        }
        Ok(message("Thank you. The value was handed over; you can close this page."))
    }
}

/// Nothing is loaded, framed, kept or told to others. With `no-referrer` browsers would send `Origin: null` with the
/// form; this page has no links, so that the same origin is all that is ever told.
const HEADERS: [(header::HeaderName, &str); 5] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a form, with the line breaks that were typed; one at its end was not meant.
fn value_in(body: &[u8]) -> Option<SecretString> {
    let (_, value) = url::form_urlencoded::parse(body).find(|(name, _)| name == "value")?;
    let value = value.replace("\r\n", "\n");
    let value = value.strip_suffix('\n').unwrap_or(&value);
    (!value.is_empty()).then(|| value.into())
}

/// Both names are checked ones, without anything that HTML would take for its own.
fn form(server: &ServerName, secret: &EnvName) -> String {
    page(&format!(
        "<h1>{secret} for the MCP server {server}</h1>\n\
         <p>An agent asks you for the value of this secret. The agent does not see what you type here; the code of the \
         server does. If you did not expect this, close the page.</p>\n\
         <form method=\"post\" autocomplete=\"off\">\n\
         <p><textarea name=\"value\" rows=\"4\" cols=\"60\" required autofocus spellcheck=\"false\" \
         aria-label=\"Value of {secret}\"></textarea></p>\n\
         <p><button>Set the secret</button></p>\n\
         </form>\n\
         <p>This page works once, for 5 minutes.</p>"
    ))
}

fn message(text: &str) -> String {
    page(&format!("<p>{text}</p>"))
}

fn page(content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Meta-MCP: a secret</title></head>\n\
         <body>\n{content}\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn values_are_taken_as_they_were_typed() {
        for (form, expected) in [
            ("value=plain", Some("plain")),
            ("value=a%26b%3Dc+d%2B%C3%A9", Some("a&b=c d+\u{e9}")),
            ("value=--BEGIN--%0D%0Aabc%0D%0A--END--%0D%0A", Some("--BEGIN--\nabc\n--END--")),
            ("other=1&value=x", Some("x")),
            ("value=", None),
            ("value=%0D%0A", None),
            ("other=1", None),
        ] {
            let value = value_in(form.as_bytes());
            assert_eq!(value.as_ref().map(ExposeSecret::expose_secret), expected, "{form}");
        }
    }
}
