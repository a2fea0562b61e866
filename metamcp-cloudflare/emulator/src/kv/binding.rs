//! A namespace as Workers see it: the requests that workerd makes of a KV binding.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Lifetime, checked, read_body};
use crate::State;
use crate::answer::Refusal;

const METADATA: HeaderName = HeaderName::from_static("cf-kv-metadata");

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    prefix: String,
    key_count_limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct BulkGet {
    keys: Vec<String>,
    #[serde(default, rename = "type")]
    form: Option<String>,
    #[serde(default, rename = "withMetadata")]
    with_metadata: bool,
}

pub(crate) async fn serve_binding(state: &Arc<State>, id: &str, request: Request) -> Response {
    answer(state, id, request).await.unwrap_or_else(|refusal| (refusal.status, refusal.message).into_response())
}

async fn answer(state: &Arc<State>, id: &str, request: Request) -> Result<Response, Refusal> {
    let uri = request.uri().clone();
    let key = percent_decode_str(uri.path().trim_start_matches('/')).decode_utf8_lossy().into_owned();
    match *request.method() {
        Method::GET if key.is_empty() => list(state, id, &uri),
        Method::GET => get(state, id, &key),
        Method::POST if key == "bulk/get" => bulk_get(state, id, request).await,
        Method::PUT => put(state, id, &key, &uri, request).await,
        Method::DELETE => state.namespaces.inside(id, |namespace| {
            namespace.set(&key, None);
            Ok(StatusCode::OK.into_response())
        }),
        _ => Err(Refusal::new(405, 0, "Method Not Allowed")),
    }
}

fn get(state: &State, id: &str, key: &str) -> Result<Response, Refusal> {
    let stored = state.namespaces.stored(id, key)?;
    let metadata = stored.metadata.and_then(|metadata| HeaderValue::from_str(&metadata.to_string()).ok());
    let headers = HeaderMap::from_iter(metadata.map(|metadata| (METADATA, metadata)));
    Ok((headers, stored.value).into_response())
}

async fn put(state: &Arc<State>, id: &str, key: &str, uri: &http::Uri, request: Request) -> Result<Response, Refusal> {
    let metadata = request.headers().get(METADATA).and_then(|header| serde_json::from_slice(header.as_bytes()).ok());
    let lifetime = query::<Lifetime>(uri)?;
    let stored = checked(key, read_body(request, state).await?, metadata, &lifetime)?;
    state.namespaces.inside(id, |namespace| {
        namespace.set(key, Some(stored));
        Ok(StatusCode::OK.into_response())
    })
}

fn list(state: &State, id: &str, uri: &http::Uri) -> Result<Response, Refusal> {
    let Listing { prefix, key_count_limit, cursor } = query(uri)?;
    let limit = key_count_limit.unwrap_or(1_000).min(1_000);
    let staleness = state.namespaces.staleness;
    state.namespaces.inside(id, |namespace| {
        let after = cursor.unwrap_or_default();
        let mut found = namespace.keys(&prefix, staleness).filter(|(key, _)| after.is_empty() || **key > after);
        let shown: Vec<_> = found.by_ref().take(limit).collect();
        let keys: Vec<Value> = shown
            .iter()
            .map(|(key, stored)| {
                let metadata = stored.metadata.as_ref().map(Value::to_string);
                json!({ "name": key, "expiration": stored.expiration, "metadata": metadata })
            })
            .collect();
        let last = shown.last().map(|(key, _)| (*key).clone());
        Ok(match found.next().and(last) {
            Some(cursor) => Json(json!({ "keys": keys, "list_complete": false, "cursor": cursor })).into_response(),
            None => Json(json!({ "keys": keys, "list_complete": true })).into_response(),
        })
    })
}

async fn bulk_get(state: &Arc<State>, id: &str, request: Request) -> Result<Response, Refusal> {
    let body = read_body(request, state).await?;
    let asked: BulkGet =
        serde_json::from_slice(&body).map_err(|error| Refusal::new(400, 0, format!("bulk get: {error}")))?;
    let values = asked.keys.iter().map(|key| {
        let Ok(stored) = state.namespaces.stored(id, key) else { return Ok((key, Value::Null)) };
        let value = if asked.form.as_deref() == Some("json") {
            serde_json::from_slice(&stored.value).map_err(|error| Refusal::new(400, 0, error.to_string()))?
        } else {
            Value::String(String::from_utf8_lossy(&stored.value).into_owned())
        };
        let shown = if asked.with_metadata { json!({ "value": value, "metadata": stored.metadata }) } else { value };
        Ok((key, shown))
    });
    let values: BTreeMap<_, _> = values.collect::<Result<_, Refusal>>()?;
    Ok(Json(json!(values)).into_response())
}

fn query<T: serde::de::DeserializeOwned>(uri: &http::Uri) -> Result<T, Refusal> {
    let parsed = Query::try_from_uri(uri).map_err(|error| Refusal::new(400, 0, error.to_string()))?;
    Ok(parsed.0)
}
