//! Promises of [`KvCache`], which allow a read after an overwrite to be stale.

use std::slice::from_ref;

use bytes::Bytes;
use uuid::Uuid;

use crate::ErrorKind;
use crate::kv_cache::{KvCache, MAX_KEY_BYTES, MAX_VALUE_BYTES, Ttl};

/// A prefix nobody else uses.
fn unique_prefix() -> String {
    format!("contract:{}:", Uuid::new_v4().simple())
}

async fn put(cache: &dyn KvCache, key: &str, value: &'static [u8]) {
    cache.put(key, Bytes::from_static(value), Ttl::HOUR).await.unwrap();
}

/// A miss is no error.
pub async fn an_absent_key_has_no_value(cache: &dyn KvCache) {
    assert_eq!(cache.get(&unique_prefix()).await.unwrap(), None);
    assert!(cache.list(&unique_prefix()).await.unwrap().is_empty());
}

/// Bytes are bytes, and keys are any text.
pub async fn a_value_reads_back(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    for (label, value) in [("plain", b"text".as_slice()), ("日本/🦀 ?&=%41#'\"", b"\0\xff\xfe"), ("a b", b"{}")] {
        let key = format!("{prefix}{label}");
        cache.put(&key, Bytes::copy_from_slice(value), Ttl::HOUR).await.unwrap();
        assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some(value), "{key:?}");
        assert_eq!(cache.list(&key).await.unwrap(), from_ref(&key));
        cache.delete(&key).await.unwrap();
    }
}

/// Never a mixture, never nothing.
pub async fn an_overwritten_key_has_one_of_both_values(cache: &dyn KvCache) {
    let key = unique_prefix();
    put(cache, &key, b"old").await;
    put(cache, &key, b"new").await;
    let value = cache.get(&key).await.unwrap().expect("a value");
    assert!(value == "old" || value == "new", "{value:?}");
    assert_eq!(cache.list(&key).await.unwrap(), from_ref(&key));
    cache.delete(&key).await.unwrap();
}

/// Deleting is done when the key is not there.
pub async fn deleting_an_absent_key_succeeds(cache: &dyn KvCache) {
    let key = unique_prefix();
    cache.delete(&key).await.unwrap();
    cache.delete(&key).await.unwrap();
}

/// Others of the same beginning stay.
pub async fn a_deleted_key_is_not_listed(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    let keys = ["a", "ab", "b"].map(|label| format!("{prefix}{label}"));
    for key in &keys {
        put(cache, key, b"1").await;
    }
    cache.delete(&keys[0]).await.unwrap();
    assert_eq!(cache.list(&prefix).await.unwrap(), keys[1..]);
    for key in &keys {
        cache.delete(key).await.unwrap();
    }
}

/// What has the prefix goes, and nothing else; deleting nothing succeeds.
pub async fn a_deleted_prefix_leaves_the_others(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    let keys = ["a", "a:1", "a:2", "a:%", "b"].map(|label| format!("{prefix}{label}"));
    for key in &keys {
        put(cache, key, b"1").await;
    }
    for _ in 0..2 {
        cache.delete_prefix(&format!("{prefix}a:")).await.unwrap();
        assert_eq!(cache.list(&prefix).await.unwrap(), [keys[0].clone(), keys[4].clone()]);
    }
    cache.delete_prefix(&prefix).await.unwrap();
    assert!(cache.list(&prefix).await.unwrap().is_empty());
}

/// A prefix is a beginning of the text, also of one character and also in the middle of nothing.
pub async fn prefixes_list_in_byte_order(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    let labels = ["", "A", "Z", "a", "a:", "a:1", "a:10", "a:2", "aa", "é", "日本", "\u{10ffff}", "\u{10ffff}x"];
    let keys: Vec<String> = labels.iter().map(|label| format!("{prefix}{label}")).collect();
    for key in keys.iter().rev() {
        put(cache, key, b"1").await;
    }
    assert_eq!(cache.list(&prefix).await.unwrap(), keys);
    for (wanted, count) in [("a", 6), ("a:", 4), ("a:1", 2), ("a:10", 1), ("\u{10ffff}", 2), ("日", 1), ("x", 0)] {
        let found = cache.list(&format!("{prefix}{wanted}")).await.unwrap();
        let expected: Vec<_> = keys.iter().filter(|key| key[prefix.len()..].starts_with(wanted)).cloned().collect();
        assert_eq!((found.len(), &found), (count, &expected), "{wanted:?}");
    }
    let all = cache.list("").await.unwrap();
    assert!(keys.iter().all(|key| all.contains(key)));
    for key in &keys {
        cache.delete(key).await.unwrap();
    }
}

/// No pattern language hides in a prefix.
pub async fn wildcards_in_keys_are_plain_text(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    let keys = ["%", "*", "[a]", "_", "a"].map(|label| format!("{prefix}{label}"));
    for key in &keys {
        put(cache, key, b"1").await;
    }
    for key in &keys {
        assert_eq!(cache.list(key).await.unwrap(), from_ref(key));
        cache.delete(key).await.unwrap();
    }
}

/// The bounds of Workers KV hold everywhere, so that no program works on one target only.
pub async fn keys_out_of_bounds_are_refused(cache: &dyn KvCache) {
    let long = "é".repeat(MAX_KEY_BYTES / 2) + "x";
    for key in ["", ".", "..", &long] {
        let refusals =
            [cache.get(key).await.map(drop), cache.put(key, Bytes::new(), Ttl::HOUR).await, cache.delete(key).await];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().kind(), ErrorKind::LimitExceeded, "{key:?}");
        }
    }
}

/// One byte too many is too many, and leaves nothing.
pub async fn values_out_of_bounds_are_refused(cache: &dyn KvCache) {
    let key = unique_prefix();
    let error = cache.put(&key, vec![0; MAX_VALUE_BYTES + 1].into(), Ttl::HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(cache.get(&key).await.unwrap(), None);
}

/// At the bounds everything works.
pub async fn the_largest_key_and_an_empty_value_are_kept(cache: &dyn KvCache) {
    let prefix = unique_prefix();
    let key = format!("{prefix}{}", "k".repeat(MAX_KEY_BYTES - prefix.len()));
    cache.put(&key, Bytes::new(), Ttl::from_secs(60).unwrap()).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), Some(Bytes::new()));
    cache.delete(&key).await.unwrap();
}
