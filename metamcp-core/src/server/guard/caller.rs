//! Who makes a request, by an API key or an access token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::Guard;
use super::keys::Keys;
use super::refusal::Refusal;
use crate::server::access::Access;
use crate::server::http::Authentication;
use crate::server::oauth::{Denied, OAuth, Refused};
use crate::source_tree::Digest;

/// A caller who is known.
pub(super) struct Caller {
    pub(super) access: Arc<Access>,
    pub(super) id: CallerId,
    pub(super) credential: Credential,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CallerId {
    Anyone,
    Key(Uuid),
    /// The subject of access tokens, however many it has.
    Subject(Arc<str>),
}

/// What proves who the caller is, for as long as it does.
pub(super) enum Credential {
    None,
    Key(Digest),
    Token { left: Duration },
}

impl Credential {
    /// Ends once the credential holds no longer, with what its bearer is told then.
    pub(super) fn ended(self, keys: &Arc<Keys>) -> BoxFuture<'static, Refusal> {
        match self {
            Self::None => std::future::pending().boxed(),
            Self::Key(hash) => Arc::clone(keys).ended(hash),
            Self::Token { left } => tokio::time::sleep(left).map(|()| Refusal::WrongToken(Denied::Expired)).boxed(),
        }
    }
}

impl Guard {
    /// Who sends a request from this address.
    pub(super) async fn authenticate<B>(&self, request: &Request<B>, peer: IpAddr) -> Result<Caller, Refusal> {
        if self.authentication == Authentication::None {
            let access = Arc::new(Access::full("http"));
            return Ok(Caller { access, id: CallerId::Anyone, credential: Credential::None });
        }
        let credential = bearer(request.headers()).ok_or(Refusal::NoKey)?;
        if has_token(request.uri().query()) {
            return Err(Refusal::TokenInUrl);
        }
        match &self.oauth {
            Some(oauth) if is_token(&credential) => bearer_of(oauth, &credential).await,
            _ => {
                let (record, hash) = self.keys.holder(&credential, peer).await?;
                let access = Arc::new(Access::of_key(&record));
                Ok(Caller { access, id: CallerId::Key(record.id), credential: Credential::Key(hash) })
            }
        }
    }
}

async fn bearer_of(oauth: &OAuth, token: &SecretString) -> Result<Caller, Refusal> {
    match oauth.authenticate(token).await {
        Ok(verified) => Ok(Caller {
            access: Arc::new(verified.access),
            id: CallerId::Subject(verified.subject),
            credential: Credential::Token { left: verified.left },
        }),
        Err(Refused::Denied(denied)) => {
            tracing::debug!(reason = denied.text(), "an access token was refused");
            Err(Refusal::WrongToken(denied))
        }
        Err(Refused::Unavailable) => Err(Refusal::IssuerUnavailable),
    }
}

/// Whether this is a JWT: three parts, where an API key is one.
fn is_token(credential: &SecretString) -> bool {
    credential.expose_secret().matches('.').count() == 2
}

/// The key of an `Authorization: Bearer` header. A key in the URL is not read: URLs end up in logs.
fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().into())
}

/// Whether a URL's query has a token (RFC 6750, section 2.3), which it may not.
fn has_token(query: Option<&str>) -> bool {
    query.is_some_and(|query| url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token"))
}
