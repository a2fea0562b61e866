//! What is checked of an access token, and what it says of its bearer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys::KeySet;
use crate::keys::Scope;
use crate::server::access::Access;

/// Algorithms whose keys can be published. Never `none`, and none with a shared secret, for which a public key could
/// be passed off.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// What a token's header may say that it is. Many issuers say nothing; an ID token has another audience.
const TYPES: [&str; 4] = ["at+jwt", "application/at+jwt", "JWT", "application/jwt"];
/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(30);
/// Longest subject, as in `OpenID` Connect.
const MAX_SUBJECT_BYTES: usize = 255;
/// What may stand before a scope, so that it is not taken for one of another server.
pub(super) const SCOPE_PREFIX: &str = "metamcp:";

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Denied {
    Malformed,
    Algorithm,
    Type,
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    Expired,
    Early,
    Subject,
    Bound,
}

impl Denied {
    /// What is wrong, without anything of the token.
    pub(in crate::server) fn text(self) -> &'static str {
        match self {
            Self::Malformed => "it is no signed JWT with iss, aud, exp and sub",
            Self::Algorithm => "it is not signed with an algorithm that is taken",
            Self::Type => "its typ is not at+jwt",
            Self::UnknownKey => "it is not signed by a key of the issuer",
            Self::Signature => "its signature is wrong",
            Self::Issuer => "it is of another issuer",
            Self::Audience => "it is for another audience",
            Self::Expired => "it has expired",
            Self::Early => "it is not valid yet",
            Self::Subject => "its subject is empty or too long",
            Self::Bound => "it is bound to a key, which cannot be checked here",
        }
    }
}

/// The bearer of a valid token.
#[derive(Debug)]
pub(in crate::server) struct Verified {
    pub(in crate::server) access: Access,
    pub(in crate::server) subject: Arc<str>,
    /// How long the token is still valid.
    pub(in crate::server) left: Duration,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    scope: Option<Words>,
    scp: Option<Words>,
    /// Proof of a key (`DPoP`, mTLS) that the token is nothing without.
    cnf: Option<IgnoredAny>,
}

/// Issuers write lists either way.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Text(String),
    List(Vec<String>),
}

impl Words {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Text(text) => Box::new(text.split_ascii_whitespace()),
            Self::List(list) => Box::new(list.iter().map(String::as_str)),
        }
    }
}

/// The header of a token that may be checked.
pub(super) fn header(token: &str) -> Result<Header, Denied> {
    // An algorithm that the library does not know, such as none, does not parse.
    let header = jsonwebtoken::decode_header(token).map_err(|_| Denied::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Denied::Algorithm);
    }
    let is_known = |typ: &String| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ));
    if header.typ.as_ref().is_some_and(|typ| !is_known(typ)) {
        return Err(Denied::Type);
    }
    Ok(header)
}

/// What a valid token has.
#[derive(Debug)]
pub(super) struct Rules {
    issuer: String,
    validation: Validation,
    prefixed_scopes: bool,
}

impl Rules {
    pub(super) fn new(issuer: &str, audience: &str, prefixed_scopes: bool) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        validation.set_issuer(&[issuer]);
        // Clients name a URL without a path with and without its slash.
        let bare = audience.trim_end_matches('/');
        validation.set_audience(&[audience, bare, &format!("{bare}/")]);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        Self { issuer: issuer.to_owned(), validation, prefixed_scopes }
    }

    /// Who bears the token, if it is valid. [`Denied::UnknownKey`] if none of these keys fits.
    pub(super) fn verify(&self, token: &str, header: &Header, keys: &KeySet) -> Result<Verified, Denied> {
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let mut denied = Denied::UnknownKey;
        for key in keys.for_token(header) {
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(data) => return self.read(data.claims),
                Err(error) => denied = reason(error.kind()),
            }
            if denied != Denied::Signature {
                return Err(denied);
            }
        }
        // Without its id, a key that was tried for nothing says nothing about one that is not known yet.
        if header.kid.is_none() { Err(Denied::UnknownKey) } else { Err(denied) }
    }

    fn read(&self, claims: Claims) -> Result<Verified, Denied> {
        if claims.iss != self.issuer {
            return Err(Denied::Issuer);
        }
        if claims.cnf.is_some() {
            return Err(Denied::Bound);
        }
        if claims.sub.trim().is_empty() || claims.sub.len() > MAX_SUBJECT_BYTES {
            return Err(Denied::Subject);
        }
        // Escaped, so that nothing in it can make a line or hide in an audit log.
        let actor = format!("oauth:{}", claims.sub.escape_debug());
        let expires = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::MAX).saturating_add(LEEWAY);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Verified {
            access: Access::with_scopes(actor, self.scopes(&claims)),
            subject: claims.sub.into(),
            left: expires.saturating_sub(now),
        })
    }

    /// Our scopes among the token's; others are for others.
    fn scopes(&self, claims: &Claims) -> BTreeSet<Scope> {
        let words = [&claims.scope, &claims.scp].into_iter().flatten().flat_map(Words::iter);
        let ours = words.filter_map(|word| match word.strip_prefix(SCOPE_PREFIX) {
            Some(scope) => scope.parse().ok(),
            None if self.prefixed_scopes => None,
            None => word.parse().ok(),
        });
        ours.collect()
    }
}

fn reason(kind: &ErrorKind) -> Denied {
    match kind {
        ErrorKind::InvalidIssuer => Denied::Issuer,
        ErrorKind::InvalidAudience => Denied::Audience,
        ErrorKind::ExpiredSignature => Denied::Expired,
        ErrorKind::ImmatureSignature => Denied::Early,
        ErrorKind::InvalidAlgorithm => Denied::Algorithm,
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::InvalidEcdsaKey => Denied::Signature,
        _ => Denied::Malformed,
    }
}
