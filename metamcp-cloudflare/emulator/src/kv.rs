//! Workers KV: namespaces and their keys.

mod binding;
mod bulk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequest, Multipart, Path, Query, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::State;
use crate::answer::{Answer, Refusal, page, success, success_with};

pub(crate) use binding::serve_binding;

/// <https://developers.cloudflare.com/kv/platform/limits/>
const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 25 * 1024 * 1024;
const METADATA_BYTES: usize = 1024;
const SHORTEST_TTL: i64 = 60;
const NAMESPACES: usize = 1_000;

/// The namespaces of an account, by id.
#[derive(Debug)]
pub(crate) struct Namespaces {
    staleness: Duration,
    by_id: Mutex<BTreeMap<String, Namespace>>,
}

#[derive(Debug, Default)]
struct Namespace {
    title: String,
    entries: BTreeMap<String, Entry>,
}

/// What is at a key, and for a while what was there before: `None` is no value.
#[derive(Debug, Clone)]
struct Entry {
    now: Option<Stored>,
    before: Option<Stored>,
    written: Instant,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Bytes,
    metadata: Option<Value>,
    expiration: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct Lifetime {
    expiration: Option<i64>,
    expiration_ttl: Option<i64>,
}

#[derive(Deserialize)]
struct Title {
    title: Option<String>,
}

#[derive(Deserialize)]
struct Pages {
    page: Option<usize>,
    per_page: Option<usize>,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Namespaces {
    pub(crate) fn new(staleness: Duration) -> Self {
        Self { staleness, by_id: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Namespace>) -> T) -> T {
        work(&mut self.by_id.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a namespace of this id.
    pub(crate) fn exists(&self, id: &str) -> bool {
        self.with(|namespaces| namespaces.contains_key(id))
    }

    fn inside<T>(&self, id: &str, work: impl FnOnce(&mut Namespace) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.with(|namespaces| {
            let missing = || Refusal::new(404, 10_013, "namespace not found");
            work(namespaces.get_mut(id).ok_or_else(missing)?)
        })
    }

    /// What is at a key; a refusal if nothing is.
    fn stored(&self, id: &str, key: &str) -> Result<Stored, Refusal> {
        let missing = || Refusal::new(404, 10_009, "get: 'key not found'");
        self.inside(id, |namespace| namespace.get(key, self.staleness).cloned().ok_or_else(missing))
    }
}

impl Namespace {
    /// What a reader sees at a key.
    fn get(&self, key: &str, staleness: Duration) -> Option<&Stored> {
        let entry = self.entries.get(key)?;
        let stale = entry.written.elapsed() < staleness;
        let seen = if stale { entry.before.as_ref() } else { entry.now.as_ref() };
        seen.filter(|stored| stored.expiration.is_none_or(|end| end > unix_now()))
    }

    fn set(&mut self, key: &str, stored: Option<Stored>) {
        let before = self.entries.remove(key).and_then(|entry| entry.now);
        self.entries.insert(key.to_owned(), Entry { now: stored, before, written: Instant::now() });
    }

    /// Keys with a value, in byte order.
    fn keys<'a>(&'a self, prefix: &'a str, staleness: Duration) -> impl Iterator<Item = (&'a String, &'a Stored)> {
        let present = move |(key, _): (&'a String, _)| self.get(key, staleness).map(|stored| (key, stored));
        self.entries.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix)).filter_map(present)
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    const BASE: &str = "/storage/kv/namespaces";
    let below = |rest: &str| format!("{BASE}/{{namespace}}/{rest}");
    Router::new()
        .route(BASE, get(list_namespaces).post(create_namespace))
        .route(&format!("{BASE}/{{namespace}}"), get(get_namespace).delete(delete_namespace))
        .route(&below("values/{key}"), get(get_value).put(put_value).delete(delete_value))
        .route(&below("metadata/{key}"), get(get_metadata))
        .route(&below("keys"), get(list_keys))
        .route(&below("bulk"), put(bulk::put).delete(bulk::delete))
        .route(&below("bulk/get"), post(bulk::get))
        .route(&below("bulk/delete"), post(bulk::delete))
}

type At = Path<(String, String)>;
type AtKey = Path<(String, String, String)>;

async fn list_namespaces(Shared(state): Shared<Arc<State>>, Query(pages): Query<Pages>) -> Response {
    let mut all = state.namespaces.with(|namespaces| {
        namespaces.iter().map(|(id, namespace)| (namespace.title.clone(), id.clone())).collect::<Vec<_>>()
    });
    all.sort();
    let items = all.into_iter().map(|(title, id)| described(&id, &title)).collect();
    page(items, pages.page, pages.per_page.or(Some(20)), NAMESPACES)
}

async fn create_namespace(Shared(state): Shared<Arc<State>>, Json(body): Json<Title>) -> Answer {
    let title =
        body.title.filter(|title| !title.is_empty()).ok_or_else(|| Refusal::new(400, 10_019, "title required"))?;
    state.namespaces.with(|namespaces| {
        if namespaces.values().any(|namespace| namespace.title == title) {
            let message = "a namespace with this account ID and title already exists";
            return Err(Refusal::new(400, 10_014, message));
        }
        let id = Uuid::new_v4().simple().to_string();
        let described = described(&id, &title);
        namespaces.insert(id, Namespace { title, ..Namespace::default() });
        Ok(success(described))
    })
}

async fn get_namespace(Shared(state): Shared<Arc<State>>, Path((_, id)): At) -> Answer {
    state.namespaces.inside(&id, |namespace| Ok(success(described(&id, &namespace.title))))
}

async fn delete_namespace(Shared(state): Shared<Arc<State>>, Path((_, id)): At) -> Answer {
    state.namespaces.inside(&id, |_| Ok(()))?;
    state.namespaces.with(|namespaces| namespaces.remove(&id));
    Ok(success(Value::Null))
}

async fn get_value(Shared(state): Shared<Arc<State>>, Path((_, id, key)): AtKey) -> Answer {
    let stored = state.namespaces.stored(&id, &key)?;
    let mut headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
    if let Some(expiration) = stored.expiration {
        headers.insert("expiration", HeaderValue::from(expiration));
    }
    Ok((headers, stored.value).into_response())
}

async fn get_metadata(Shared(state): Shared<Arc<State>>, Path((_, id, key)): AtKey) -> Answer {
    Ok(success(state.namespaces.stored(&id, &key)?.metadata.unwrap_or_default()))
}

async fn put_value(
    Shared(state): Shared<Arc<State>>,
    Path((_, id, key)): AtKey,
    Query(lifetime): Query<Lifetime>,
    request: Request,
) -> Answer {
    let is_form =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/"));
    let (value, metadata) =
        if is_form { read_form(request, &state).await? } else { (read_body(request, &state).await?, None) };
    let stored = checked(&key, value, metadata, &lifetime)?;
    state.namespaces.inside(&id, |namespace| {
        namespace.set(&key, Some(stored));
        Ok(success(json!({})))
    })
}

async fn delete_value(Shared(state): Shared<Arc<State>>, Path((_, id, key)): AtKey) -> Answer {
    state.namespaces.inside(&id, |namespace| {
        namespace.set(&key, None);
        Ok(success(json!({})))
    })
}

async fn list_keys(Shared(state): Shared<Arc<State>>, Path((_, id)): At, Query(listing): Query<Listing>) -> Answer {
    let limit = listing.limit.unwrap_or(1_000);
    if !(10..=1_000).contains(&limit) {
        return Err(Refusal::new(400, 10_012, "limit must be between 10 and 1000"));
    }
    let staleness = state.namespaces.staleness;
    state.namespaces.inside(&id, |namespace| {
        let after = listing.cursor.as_deref().filter(|cursor| !cursor.is_empty());
        let behind = |key: &str| after.is_none_or(|after| key > after);
        let mut keys = namespace.keys(&listing.prefix, staleness).filter(|(key, _)| behind(key));
        let shown: Vec<_> = keys.by_ref().take(limit).collect();
        let cursor = if keys.next().is_some() { shown.last().map(|(key, _)| (*key).clone()) } else { None };
        let described = shown.iter().map(|(key, stored)| {
            let mut item = json!({ "name": key });
            if let Some(expiration) = stored.expiration {
                item["expiration"] = expiration.into();
            }
            if let Some(metadata) = &stored.metadata {
                item["metadata"] = metadata.clone();
            }
            item
        });
        let described: Vec<_> = described.collect();
        let info = json!({ "count": described.len(), "cursor": cursor.unwrap_or_default() });
        Ok(success_with(described, info))
    })
}

fn described(id: &str, title: &str) -> Value {
    json!({ "id": id, "title": title, "supports_url_encoding": true })
}

/// A value that the limits allow.
fn checked(key: &str, value: Bytes, metadata: Option<Value>, lifetime: &Lifetime) -> Result<Stored, Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES || matches!(key, "." | "..") {
        return Err(Refusal::new(
            400,
            10_012,
            format!("UTF-8 encoded length of {} exceeds key length limit", key.len()),
        ));
    }
    if value.len() > VALUE_BYTES {
        return Err(Refusal::new(
            413,
            10_012,
            format!("value length of {} exceeds limit of {VALUE_BYTES}", value.len()),
        ));
    }
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > METADATA_BYTES) {
        return Err(Refusal::new(400, 10_012, "metadata is longer than 1024 bytes"));
    }
    let now = unix_now();
    let expiration = lifetime.expiration_ttl.map(|ttl| now + ttl).or(lifetime.expiration);
    if expiration.is_some_and(|expiration| expiration < now + SHORTEST_TTL) {
        return Err(Refusal::new(400, 10_034, "Invalid expiration_ttl: must be at least 60 seconds"));
    }
    Ok(Stored { value, metadata, expiration })
}

async fn read_body(request: Request, state: &Arc<State>) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state).await.map_err(|error| Refusal::new(400, 10_012, error.to_string()))
}

/// A value with metadata.
async fn read_form(request: Request, state: &Arc<State>) -> Result<(Bytes, Option<Value>), Refusal> {
    let bad = |error: String| Refusal::new(400, 10_012, error);
    let mut form = Multipart::from_request(request, state).await.map_err(|error| bad(error.to_string()))?;
    let (mut value, mut metadata) = (None, None);
    while let Some(field) = form.next_field().await.map_err(|error| bad(error.to_string()))? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|error| bad(error.to_string()))?;
        match name.as_str() {
            "value" => value = Some(bytes),
            "metadata" => metadata = Some(serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?),
            _ => {}
        }
    }
    Ok((value.ok_or_else(|| bad("the form has no value".to_owned()))?, metadata))
}

fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
