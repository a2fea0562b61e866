//! An authorization server on loopback, with the keys and the faults that a test gives it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What is wrong with an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It answers nothing but errors.
    Down,
    /// Its keys do not end within any sensible size.
    LargeKeys,
    /// Its keys do not come.
    SlowKeys,
    /// Its metadata is another issuer's.
    OtherIssuer,
    /// Its keys are said to be at an address that anybody can answer for.
    PlainKeys,
}

/// A running authorization server.
pub(crate) struct Authority {
    pub(crate) issuer: String,
    state: Arc<Served>,
}

struct Served {
    issuer: String,
    /// Where it has metadata.
    metadata_path: String,
    keys: Mutex<Vec<Value>>,
    fault: Mutex<Fault>,
    looked_up: AtomicUsize,
}

impl Authority {
    /// One without keys, whose issuer has this path.
    pub(crate) async fn start(path: &str, metadata_path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}{path}", listener.local_addr().unwrap());
        let state = Arc::new(Served {
            issuer: issuer.clone(),
            metadata_path: metadata_path.to_owned(),
            keys: Mutex::default(),
            fault: Mutex::new(Fault::None),
            looked_up: AtomicUsize::new(0),
        });
        let answers = Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });
        Self { issuer, state }
    }

    /// Publishes a key.
    pub(crate) fn add(&self, key: &SigningKey) {
        self.state.keys.lock().unwrap().push(key.public());
    }

    /// Publishes these and no others.
    pub(crate) fn set_keys(&self, keys: Vec<Value>) {
        *self.state.keys.lock().unwrap() = keys;
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// How often its keys were asked for.
    pub(crate) fn looked_up(&self) -> usize {
        self.state.looked_up.load(Ordering::SeqCst)
    }

    /// What a good token says.
    pub(crate) fn claims(&self, audience: &str, scope: &str) -> Value {
        json!({ "iss": self.issuer, "sub": "ada", "aud": audience, "exp": from_now(600), "scope": scope })
    }
}

/// Seconds of the epoch, as they stand in claims.
pub(crate) fn from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

async fn answer(State(served): State<Arc<Served>>, uri: Uri) -> Response {
    let fault = *served.fault.lock().unwrap();
    if fault == Fault::Down {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    if uri.path() == served.metadata_path {
        let issuer = if fault == Fault::OtherIssuer { "https://other.example" } else { &served.issuer };
        let here = served.issuer.trim_end_matches('/');
        let keys = if fault == Fault::PlainKeys { "http://keys.example/keys" } else { &format!("{here}/keys") };
        return Json(json!({ "issuer": issuer, "jwks_uri": keys })).into_response();
    }
    if !uri.path().ends_with("/keys") {
        return StatusCode::NOT_FOUND.into_response();
    }
    served.looked_up.fetch_add(1, Ordering::SeqCst);
    if fault == Fault::SlowKeys {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    let mut document = json!({ "keys": *served.keys.lock().unwrap() });
    if fault == Fault::LargeKeys {
        document["more"] = Value::String("x".repeat(1_000_000));
    }
    Json(document).into_response()
}

/// A key that tokens are signed with.
pub(crate) struct SigningKey {
    id: &'static str,
    pub(crate) algorithm: Algorithm,
    key: EncodingKey,
}

impl SigningKey {
    pub(crate) fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm.family() {
            AlgorithmFamily::Rsa => {
                let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
                // What PKCS #8 wraps in 26 bytes of its own is the RSAPrivateKey that is wanted here.
                EncodingKey::from_rsa_der(&AsDer::as_der(&pair).unwrap().as_ref()[26..])
            }
            AlgorithmFamily::Ec => {
                let p256 = algorithm == Algorithm::ES256;
                let curve = if p256 { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P384_SHA384_FIXED_SIGNING };
                EncodingKey::from_ec_der(EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap().as_ref())
            }
            AlgorithmFamily::Ed => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref())
            }
            AlgorithmFamily::Hmac => panic!("no issuer publishes a secret"),
        };
        Self { id, algorithm, key }
    }

    /// The key as its issuer publishes it.
    pub(crate) fn public(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = self.id.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(claims, |_| ())
    }

    /// The same with another header.
    pub(crate) fn sign_as(&self, claims: &Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.to_owned());
        change(&mut header);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}
