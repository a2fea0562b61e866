//! [`Cause`]: why an MCP server gave no answer, in few words of our own. What rmcp says of it names its types.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter::successors;

use reqwest::redirect::Policy;
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError};
use rmcp::transport::{DynamicTransportError, UnixSocketHttpClient};
use url::Url;

use crate::text;
use crate::{Error, ErrorKind};

/// Longest text of others in a cause, in characters.
const SHOWN: usize = 200;

type SocketError = <UnixSocketHttpClient as StreamableHttpClient>::Error;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An HTTP status that is no success, and no redirect.
    Status(u16),
    /// It asks who is calling.
    Credentials,
    /// A redirect to this address, which was not followed.
    Redirect(String),
    /// Something of another media type than MCP has.
    MediaType(Option<String>),
    /// JSON that cannot be read, or is no message.
    NotJson,
    /// More than is read.
    TooLarge,
    /// No connection, so that nothing was asked.
    Unreached(String),
    /// A connection that broke off.
    Connection(String),
    /// An MCP answer, and not the one that was asked for.
    Answer(String),
}

impl Cause {
    /// Of a client that did not connect.
    pub(crate) fn of_connecting(error: &ClientInitializeError) -> Self {
        use ClientInitializeError::{
            ConnectionClosed, JsonRpcError, LegacyFallbackFailed, NoCompatibleProtocolVersion, TransportError,
        };
        match error {
            LegacyFallbackFailed { fallback, .. } => Self::of_connecting(fallback),
            TransportError { error, .. } => Self::of_transport(error),
            ConnectionClosed(_) => Self::broke_off(),
            JsonRpcError(error) => Self::Answer(format!("it refuses: {}", text::message(&error.message))),
            NoCompatibleProtocolVersion { server_supported, .. } => {
                let versions: Vec<_> = server_supported.iter().take(10).map(ToString::to_string).collect();
                Self::Answer(format!("it speaks other versions of MCP only: {}", cut(&versions.join(", "))))
            }
            _ => Self::Answer("it does not answer what was asked".to_owned()),
        }
    }

    /// Of a request of a connected client.
    pub(crate) fn of_asking(error: &ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) => Self::Answer(text::message(&error.message)),
            ServiceError::TransportSend(error) => Self::of_transport(error),
            ServiceError::TransportClosed => Self::broke_off(),
            ServiceError::InputRequiredRoundsExceeded { .. } => Self::Answer("it did not stop asking back".to_owned()),
            _ => Self::Answer("it does not answer what was asked".to_owned()),
        }
    }

    /// The kind of an error that it causes. Only what may pass is [`ErrorKind::Unavailable`].
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Credentials | Self::Status(401) => ErrorKind::Unauthenticated,
            Self::Unreached(_) | Self::Connection(_) | Self::Status(429 | 500..) => ErrorKind::Unavailable,
            Self::TooLarge => ErrorKind::LimitExceeded,
            Self::Status(_) | Self::Redirect(_) | Self::MediaType(_) | Self::NotJson | Self::Answer(_) => {
                ErrorKind::VerificationFailed
            }
        }
    }

    /// Whether what was asked may have been done all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        !matches!(self, Self::Unreached(_) | Self::Credentials | Self::Redirect(_) | Self::Status(..500))
    }

    /// An error about what it caused, which is named as a sentence part.
    pub(crate) fn into_error(self, what: &str) -> Error {
        Error::new(self.kind(), format!("{what}: {self}"))
    }

    fn of_transport(error: &DynamicTransportError) -> Self {
        causes(error.error.as_ref()).find_map(Self::of_one).unwrap_or_else(Self::broke_off)
    }

    /// What an error of the transport says itself, not what caused it.
    fn of_one(error: &(dyn StdError + 'static)) -> Option<Self> {
        let over_tcp = error.downcast_ref().and_then(|error| Self::of_http(error, Self::of_client));
        let over_socket = || {
            error.downcast_ref().and_then(|error| Self::of_http(error, |error: &SocketError| Self::of_broken(error)))
        };
        over_tcp.or_else(over_socket)
    }

    fn of_http<E>(error: &StreamableHttpError<E>, of_client: impl FnOnce(&E) -> Self) -> Option<Self>
    where
        E: StdError + Send + Sync + 'static,
    {
        Some(match error {
            StreamableHttpError::Client(error) => of_client(error),
            StreamableHttpError::Io(error) => Self::of_broken(error),
            StreamableHttpError::HttpStatus(error) => Self::Status(error.status),
            StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_) => Self::Credentials,
            StreamableHttpError::UnexpectedContentType(kind) => Self::MediaType(kind.clone()),
            StreamableHttpError::ResponseBodyTooLarge { .. } => Self::TooLarge,
            StreamableHttpError::Deserialize(_) => Self::NotJson,
            StreamableHttpError::UnexpectedServerResponse(said) => status_in(said).map_or(Self::NotJson, Self::Status),
            StreamableHttpError::SessionExpired => Self::Status(404),
            _ => return None,
        })
    }

    fn of_client(error: &reqwest::Error) -> Self {
        if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<RedirectRefused>()) {
            return Self::Redirect(refused.to.clone());
        }
        if let Some(status) = error.status() {
            return Self::Status(status.as_u16());
        }
        if error.is_timeout() {
            return Self::Connection("it timed out".to_owned());
        }
        match Self::of_broken(error) {
            Self::Connection(text) if error.is_connect() => Self::Unreached(text),
            cause => cause,
        }
    }

    fn of_broken(error: &(dyn StdError + 'static)) -> Self {
        if is_refused(error) {
            return Self::Unreached("the connection was refused".to_owned());
        }
        Self::Connection(deepest(error))
    }

    fn broke_off() -> Self {
        Self::Connection("the connection broke off".to_owned())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Credentials => f.write_str("it asks for credentials"),
            Self::Redirect(to) => write!(f, "it redirects to {to}, which is not followed"),
            Self::MediaType(Some(kind)) => write!(f, "what it answers is {}, not MCP", cut(kind)),
            Self::MediaType(None) => f.write_str("what it answers has no media type"),
            Self::NotJson => f.write_str("what it answers is no JSON-RPC message"),
            Self::TooLarge => f.write_str("it answers more than is read"),
            Self::Unreached(text) | Self::Connection(text) | Self::Answer(text) => f.write_str(text),
        }
    }
}

/// Follows no redirect, and lets [`Cause`] tell where it leads.
pub(crate) fn refuse_redirects() -> Policy {
    Policy::custom(|attempt| {
        let to = shown(attempt.url());
        attempt.error(RedirectRefused { to })
    })
}

#[derive(Debug)]
struct RedirectRefused {
    to: String,
}

impl fmt::Display for RedirectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirects to {} are not followed", self.to)
    }
}

impl StdError for RedirectRefused {}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    cut(&format!("{}{}", url.origin().ascii_serialization(), url.path()))
}

/// rmcp keeps a status that it has no case for in its message only: "HTTP 404 Not Found: …".
fn status_in(said: &str) -> Option<u16> {
    said.strip_prefix("HTTP ")?.get(..3)?.parse().ok()
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    causes(error).filter_map(|cause| cause.downcast_ref()).any(refused)
}

/// What the innermost cause says: the outer ones name layers of the client.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(String::new, |cause| cut(&cause.to_string()))
}

fn cut(text: &str) -> String {
    text::message(text).chars().take(SHOWN).collect()
}
