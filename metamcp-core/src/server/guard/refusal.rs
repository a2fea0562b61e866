//! What the guard says to those who do not pass.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::Body;
use crate::keys::Scope;

/// Why a request does not pass.
#[derive(Debug)]
pub(super) enum Refusal {
    NotFound,
    NoKey,
    WrongKey,
    MissingScope(Scope, String),
    TooMany { seconds: u64 },
    TooLarge(usize),
    TooSlow(Duration),
    BrokenBody,
    Unavailable,
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        let body = json!({ "error": self.text() }).to_string();
        let mut response = Response::new(Full::from(body).boxed_unsync());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        match self {
            Self::TooMany { seconds } => {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            // What is left of the body is not read, so nothing can follow it.
            Self::TooLarge(_) | Self::TooSlow(_) | Self::BrokenBody => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::MissingScope(..) => StatusCode::FORBIDDEN,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NotFound => "nothing is here; MCP is at /mcp".to_owned(),
            Self::NoKey => "an API key is needed: send it as \"Authorization: Bearer KEY\"".to_owned(),
            Self::WrongKey => "the API key is not valid: it is unknown, revoked or expired".to_owned(),
            Self::MissingScope(scope, tool) => format!("{tool} needs scope {scope}, which the API key has not"),
            Self::TooMany { seconds } => format!("too many requests with this key; try again in {seconds} s"),
            Self::TooLarge(limit) => format!("the request is larger than {limit} bytes"),
            Self::TooSlow(limit) => format!("the request's body did not come within {} s", limit.as_secs()),
            Self::BrokenBody => "the request's body ended early".to_owned(),
            Self::Unavailable => "keys cannot be looked up now; try again".to_owned(),
        }
    }

    /// RFC 6750's answer to those whose credentials do not do.
    fn challenge(&self) -> Option<HeaderValue> {
        let challenge = match self {
            Self::NoKey => "Bearer realm=\"meta-mcp\"".to_owned(),
            Self::WrongKey => "Bearer realm=\"meta-mcp\", error=\"invalid_token\"".to_owned(),
            Self::MissingScope(scope, _) => {
                format!("Bearer realm=\"meta-mcp\", error=\"insufficient_scope\", scope=\"{scope}\"")
            }
            _ => return None,
        };
        HeaderValue::try_from(challenge).ok()
    }
}
