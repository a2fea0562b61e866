//! JSON in one form: what digests are made of.

use serde::Serialize;
use serde_json::Value;

/// Compact JSON with sorted keys: equal values give equal bytes.
///
/// # Panics
/// If `value` does not serialize to JSON, which the plain data types of this crate always do.
pub(crate) fn canonical_json(value: &impl Serialize) -> String {
    let mut value = serde_json::to_value(value).expect("plain data serializes to JSON");
    sort_keys(&mut value);
    value.to_string()
}

/// Sorts the keys of every object: `serde_json` keeps insertion order when another crate of the build
/// switches on its `preserve_order`.
fn sort_keys(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(sort_keys);
            let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            map.extend(entries);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_keys),
        _ => {}
    }
}
