//! [`Cors`]: what browsers are told, so that they let pages of the origins that were allowed use the endpoint.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use url::Url;

use super::Body;
use super::refusal::Refusal;
use crate::{Error, ErrorKind, Result};

const METHODS: &str = "POST, GET, DELETE";
/// What a page may send beside the protocol's own `mcp-` headers.
const HEADERS: [&str; 4] = ["authorization", "content-type", "accept", "last-event-id"];
/// What a page may read of an answer beside its body.
const EXPOSED: &str = "WWW-Authenticate, Retry-After, Mcp-Session-Id";
/// How long a browser may remember what it was told, in seconds.
const MAX_AGE: &str = "3600";

/// The origins whose pages may use the endpoint.
#[derive(Debug)]
pub(super) struct Cors {
    /// As browsers write them.
    origins: Vec<String>,
}

impl Cors {
    pub(super) fn new(origins: &[String]) -> Result<Self> {
        let origins = origins.iter().map(|origin| Ok(origin_of(origin)?.origin().ascii_serialization()));
        Ok(Self { origins: origins.collect::<Result<_>>()? })
    }

    /// The origin of the page that sends this, if it was allowed.
    pub(super) fn page(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let is_allowed = origin.to_str().is_ok_and(|text| self.origins.iter().any(|allowed| allowed == text));
        is_allowed.then(|| origin.clone())
    }

    /// The answer to a browser's question whether a page ([`Cors::page`]) may send a request; it comes without
    /// credentials. `None` if this is none.
    pub(super) fn preflight(
        method: &Method,
        headers: &HeaderMap,
        page: Option<&HeaderValue>,
    ) -> Option<Result<Response<Body>, Refusal>> {
        let asks = headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if method != Method::OPTIONS || !asks {
            return None;
        }
        if page.is_none() {
            return Some(Err(Refusal::OtherOrigin));
        }
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        if let Ok(names) = HeaderValue::try_from(allowed_headers(headers)) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        Some(Ok(response))
    }

    /// Lets the page read an answer. Where pages are allowed at all, answers differ by origin.
    pub(super) fn finish(&self, response: &mut Response<Body>, page: Option<HeaderValue>) {
        if self.origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = page {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// Those that may be sent of the headers that a page wants to send.
fn allowed_headers(headers: &HeaderMap) -> String {
    let asked = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    let names = asked.flat_map(|names| names.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let allowed = names.filter(|name| HEADERS.contains(&name.as_str()) || name.as_str().starts_with("mcp-"));
    allowed.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

/// An origin that may be allowed; [`ErrorKind::ConfigInvalid`] for one that no browser would write.
pub(in crate::server) fn origin_of(text: &str) -> Result<Url> {
    let url = text.parse::<Url>().ok();
    let is_one = |url: &Url| {
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        url.origin().is_tuple() && !has_more && url.username().is_empty() && url.password().is_none()
    };
    url.filter(is_one).ok_or_else(|| {
        let message = format!("{text:?} is no origin of web pages");
        Error::new(ErrorKind::ConfigInvalid, message).with_help("an origin looks like https://app.example.com")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_write() {
        for (text, expected) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("https://app.example.com:443/", Some("https://app.example.com")),
            ("http://LOCALHOST:3000", Some("http://localhost:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("https://app.example.com/page", None),
            ("https://user@app.example.com", None),
            ("app.example.com", None),
            ("localhost:3000", None),
            ("null", None),
            ("*", None),
        ] {
            let origin = origin_of(text).ok().map(|url| url.origin().ascii_serialization());
            assert_eq!(origin.as_deref(), expected, "{text}");
        }
    }
}
