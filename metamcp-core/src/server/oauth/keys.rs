//! [`KeySet`]: the public keys of an issuer (RFC 7517), those of them that sign tokens.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// Most keys of one issuer.
const MAX_KEYS: usize = 100;

/// The keys that an issuer signs with.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm it is for; `None`: all of its family.
    algorithm: Option<Algorithm>,
    public: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a key set; keys of kinds that are not known, secret ones and those that do not sign are left out.
    pub(super) fn parse(document: &[u8]) -> Result<Self> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "its keys cannot be read").with_source(error))?;
        if document.keys.len() > MAX_KEYS {
            return Err(Error::new(ErrorKind::LimitExceeded, format!("it has more than {MAX_KEYS} keys")));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "it has no key that signs with an algorithm we take"));
        }
        Ok(Self(keys))
    }

    /// Keys that may have signed a token with this header. Without a key's id in it, each that fits the algorithm.
    pub(super) fn for_token<'a>(&'a self, header: &'a Header) -> impl Iterator<Item = &'a DecodingKey> {
        self.0.iter().filter(|key| key.fits(header)).map(|key| &key.public)
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|for_use| *for_use == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)) {
            return None;
        }
        let public = DecodingKey::from_jwk(&jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
        let algorithm = match common.key_algorithm {
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
            None => None,
        };
        Some(Self { id: jwk.common.key_id, algorithm, public })
    }

    fn fits(&self, header: &Header) -> bool {
        self.public.family() == header.alg.family()
            && self.algorithm.is_none_or(|algorithm| algorithm == header.alg)
            && (header.kid.is_none() || header.kid == self.id)
    }
}
