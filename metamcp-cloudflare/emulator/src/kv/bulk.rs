//! Many keys in one request.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{At, Lifetime, checked};
use crate::State;
use crate::answer::{Answer, Refusal, success};

const PAIRS: usize = 10_000;
const READ_KEYS: usize = 100;

#[derive(Deserialize)]
pub(super) struct Pair {
    key: String,
    value: String,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(flatten)]
    lifetime: Lifetime,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    keys: Vec<String>,
    #[serde(default, rename = "withMetadata")]
    with_metadata: bool,
}

pub(super) async fn put(Shared(state): Shared<Arc<State>>, Path((_, id)): At, Json(pairs): Json<Vec<Pair>>) -> Answer {
    bounded(pairs.len(), PAIRS)?;
    let count = pairs.len();
    state.namespaces.inside(&id, |namespace| {
        for Pair { key, value, metadata, lifetime } in pairs {
            let stored = checked(&key, value.into(), metadata, &lifetime)?;
            namespace.set(&key, Some(stored));
        }
        Ok(success(json!({ "successful_key_count": count, "unsuccessful_keys": [] })))
    })
}

pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    Path((_, id)): At,
    Json(keys): Json<Vec<String>>,
) -> Answer {
    bounded(keys.len(), PAIRS)?;
    state.namespaces.inside(&id, |namespace| {
        for key in &keys {
            namespace.set(key, None);
        }
        Ok(success(json!({ "successful_key_count": keys.len(), "unsuccessful_keys": [] })))
    })
}

pub(super) async fn get(Shared(state): Shared<Arc<State>>, Path((_, id)): At, Json(wanted): Json<Wanted>) -> Answer {
    bounded(wanted.keys.len(), READ_KEYS)?;
    let staleness = state.namespaces.staleness;
    state.namespaces.inside(&id, |namespace| {
        let mut values = Map::new();
        for key in wanted.keys {
            let value = namespace.get(&key, staleness).map_or(Value::Null, |stored| {
                let text = String::from_utf8_lossy(&stored.value).into_owned();
                if wanted.with_metadata { json!({ "value": text, "metadata": stored.metadata }) } else { text.into() }
            });
            values.insert(key, value);
        }
        Ok(success(json!({ "values": values })))
    })
}

fn bounded(count: usize, most: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::new(400, 10_029, "no keys")),
        _ if count > most => Err(Refusal::new(400, 10_012, format!("at most {most} keys, not {count}"))),
        _ => Ok(()),
    }
}
