//! What the guard says to those who do not pass.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::Body;
use crate::keys::Scope;
use crate::server::access::Access;
use crate::server::oauth::{Denied, Resource};

/// When to try again where all connections are taken, in seconds.
const BUSY_RETRY: u64 = 5;
/// When to try again after the registry could not be asked, in seconds.
const REGISTRY_RETRY: u64 = 5;
/// When to try again after the issuer could not be asked, in seconds.
const ISSUER_RETRY: u64 = 10;

/// Why a request does not pass.
#[derive(Debug)]
pub(super) enum Refusal {
    NotFound,
    NotGet,
    OtherHost,
    OtherOrigin,
    NoKey,
    WrongKey,
    WrongToken(Denied),
    TokenInUrl,
    MissingScope {
        scope: Scope,
        needed_by: String,
        held: Vec<Scope>,
    },
    Limited,
    TooMany {
        seconds: u64,
    },
    /// Of keys that are wrong.
    TooManyWrong {
        seconds: u64,
    },
    TooManyAtOnce(NonZeroU32),
    /// All connections are taken.
    Busy,
    TooLarge(usize),
    TooSlow(Duration),
    BrokenBody,
    Unavailable,
    IssuerUnavailable,
}

impl Refusal {
    /// That the caller has not the scope.
    pub(super) fn missing(scope: Scope, needed_by: &str, access: &Access) -> Self {
        let held = Scope::ALL.iter().copied().filter(|held| access.allows(*held)).collect();
        Self::MissingScope { scope, needed_by: needed_by.to_owned(), held }
    }

    /// The answer; where access tokens are taken, with what leads to one.
    pub(super) fn into_response(self, resource: Option<&Resource>) -> Response<Body> {
        let body = json!({ "error": self.text(resource.is_some()) }).to_string();
        let mut response = Response::new(Full::from(body).boxed_unsync());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(challenge) = self.challenge(resource) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        match self {
            Self::TooMany { seconds } | Self::TooManyWrong { seconds } => {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            Self::TooManyAtOnce(_) => {
                headers.insert(header::RETRY_AFTER, 1.into());
            }
            Self::Busy => {
                headers.insert(header::RETRY_AFTER, BUSY_RETRY.into());
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Unavailable => {
                headers.insert(header::RETRY_AFTER, REGISTRY_RETRY.into());
            }
            Self::IssuerUnavailable => {
                headers.insert(header::RETRY_AFTER, ISSUER_RETRY.into());
            }
            Self::NotGet => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
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
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoKey | Self::WrongKey | Self::WrongToken(_) => StatusCode::UNAUTHORIZED,
            Self::MissingScope { .. } | Self::Limited | Self::OtherHost | Self::OtherOrigin => StatusCode::FORBIDDEN,
            Self::TooMany { .. } | Self::TooManyWrong { .. } | Self::TooManyAtOnce(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody | Self::TokenInUrl => StatusCode::BAD_REQUEST,
            Self::Busy | Self::Unavailable | Self::IssuerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self, takes_tokens: bool) -> String {
        match self {
            Self::NotFound => "nothing is here; MCP is at /mcp".to_owned(),
            Self::NotGet => "only GET is answered here".to_owned(),
            Self::OtherHost => "Host is not a name of this server".to_owned(),
            Self::OtherOrigin => "pages of this origin may not use this server".to_owned(),
            Self::NoKey if takes_tokens => {
                "an access token or an API key is needed: send it as \"Authorization: Bearer TOKEN\"".to_owned()
            }
            Self::NoKey => "an API key is needed: send it as \"Authorization: Bearer KEY\"".to_owned(),
            Self::WrongKey => "the API key is not valid: it is unknown, revoked or expired".to_owned(),
            Self::WrongToken(denied) => format!("the access token is not valid: {}", denied.text()),
            Self::TokenInUrl => "a token in the URL is not taken, since URLs end up in logs".to_owned(),
            Self::MissingScope { scope, needed_by, .. } if takes_tokens => {
                format!("{needed_by} needs scope {scope}, which the caller has not")
            }
            Self::MissingScope { scope, needed_by, .. } => {
                format!("{needed_by} needs scope {scope}, which the API key has not")
            }
            Self::Limited => "this is about all servers, and the API key is limited to some".to_owned(),
            Self::TooMany { seconds } => format!("too many requests with this key; try again in {seconds} s"),
            Self::TooManyWrong { seconds } => {
                format!("too many keys from this address were not valid; try again in {seconds} s")
            }
            Self::TooManyAtOnce(limit) => {
                format!("{limit} requests of this caller are in flight; try again when one has ended")
            }
            Self::Busy => "all connections are taken; try again later".to_owned(),
            Self::TooLarge(limit) => format!("the request is larger than {limit} bytes"),
            Self::TooSlow(limit) => format!("the request's body did not come within {} s", limit.as_secs()),
            Self::BrokenBody => "the request's body ended early".to_owned(),
            Self::Unavailable => "keys cannot be looked up now; try again".to_owned(),
            Self::IssuerUnavailable => {
                format!("the issuer's keys cannot be had, so no token can be checked; try again in {ISSUER_RETRY} s")
            }
        }
    }

    /// RFC 6750's answer to those whose credentials do not do. Where the answer names scopes, those that are held are
    /// among them: clients that ask for exactly these would lose them.
    fn challenge(&self, resource: Option<&Resource>) -> Option<HeaderValue> {
        let (error, scopes) = match self {
            Self::NoKey => (None, Vec::new()),
            Self::WrongKey | Self::WrongToken(_) => (Some("invalid_token"), Vec::new()),
            Self::TokenInUrl => (Some("invalid_request"), Vec::new()),
            Self::MissingScope { scope, held, .. } => match resource {
                Some(_) => (Some("insufficient_scope"), held.iter().copied().chain([*scope]).collect()),
                None => (Some("insufficient_scope"), vec![*scope]),
            },
            _ => return None,
        };
        let error = error.map(|error| format!("error=\"{error}\""));
        let directions = match resource {
            Some(resource) => Some(resource.directions(&scopes)),
            None => scopes.first().map(|scope| format!("scope=\"{scope}\"")),
        };
        let realm = resource.is_none().then(|| "realm=\"meta-mcp\"".to_owned());
        let parts: Vec<_> = [realm, error, directions].into_iter().flatten().collect();
        HeaderValue::try_from(format!("Bearer {}", parts.join(", "))).ok()
    }
}
