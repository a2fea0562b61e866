//! Input that nobody meant, shared by the validation tests.

use proptest::prelude::*;
use serde_json::Value;

/// JSON made of the words that mean something in a definition or schema.
pub(crate) fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "type",
        "object",
        "string",
        "$ref",
        "#/$defs/a",
        "#",
        "required",
        "properties",
        "pattern",
        "(",
        "name",
        "é",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
    ];
    let keys = vec![
        "type",
        "$ref",
        "$defs",
        "a",
        "required",
        "properties",
        "items",
        "enum",
        "anyOf",
        "not",
        "pattern",
        "name",
        "tools",
        "description",
        "implementation",
        "parameters",
        "arguments",
        "template",
        "/",
        "~",
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        let object = prop::collection::btree_map(prop::sample::select(keys.clone()), inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}
