//! Schemas that nobody wrote, each with values that come near to what it is about.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

/// Few names, so that schemas and values speak of the same ones.
const NAMES: &[&str] = &["a", "b", "ab", "é", "", "x-1", "constructor"];
const TEXTS: &[&str] = &[
    "",
    "a",
    "ab",
    "abc",
    "é",
    "e\u{301}",
    "😀",
    "😀😀",
    "a\n",
    "\r",
    "\u{2028}",
    "1",
    "a1",
    "٣",
    "\u{a0}",
    "A",
    "a-b",
    "2024-02-29",
    "2023-02-29",
    "12:00:00Z",
    "2024-02-29T23:59:60Z",
    "P1D",
    "a@b.c",
    "a.b",
    "1.2.3.4",
    "::1",
    "http://x/é",
    "urn:a:b",
    "/a~0",
    "{a}",
    "#/a",
    "0#",
    "(?<a>b)",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
];
const PATTERNS: &[&str] = &[
    "^a",
    "b$",
    "^.$",
    r"\d",
    r"^\w*$",
    r"\s",
    "^[^a]*$",
    r"^\p{L}+$",
    r"^\S{1,2}$",
    "a|é",
    "^(?:ab?)+$",
    r"[\d-]",
    r"^(?=.*b)\w+$",
    r"(?<![ab])b|^(?!a)",
    "^(a|ab)*b?$",
    "(a*)*b",
    "^.{0,3}$",
    r"^x-\d$",
    "^(?=.*a)",
];
const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// A schema, and values for it.
pub(crate) fn pairs() -> impl Strategy<Value = (Value, Vec<Value>)> {
    (document(), vec(value(), 16))
}

/// A schema with definitions that it, and they, may refer to.
fn document() -> impl Strategy<Value = Value> {
    (schema(), schema(), schema()).prop_map(|(root, a, b)| {
        let mut root = match root {
            Value::Object(keywords) => keywords,
            verdict => Map::from_iter([("allOf".to_owned(), json!([verdict]))]),
        };
        root.insert("$defs".to_owned(), json!({ "a": a, "b": b, "tree": tree(), "list": generic_list() }));
        Value::Object(root)
    })
}

/// A resource of its own that others may extend.
fn tree() -> Value {
    json!({
        "$id": "https://generated.test/tree",
        "$dynamicAnchor": "node",
        "properties": { "a": { "$dynamicRef": "#node" }, "b": { "type": ["integer", "null"] } }
    })
}

/// One that leaves open what its items are.
fn generic_list() -> Value {
    json!({
        "$id": "https://generated.test/list",
        "items": { "$dynamicRef": "#item" },
        "$defs": { "any": { "$dynamicAnchor": "item", "maxLength": 2 } }
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => any::<bool>().prop_map(Value::from),
        8 => assertions(),
        2 => select(vec!["#/$defs/a", "#/$defs/b", "https://generated.test/tree", "https://generated.test/list"])
            .prop_map(|target| json!({ "$ref": target })),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        (assertions(), vec(applicator(inner.clone()), 1..4)).prop_map(|(assertions, applicators)| {
            let mut keywords = assertions.as_object().cloned().unwrap_or_default();
            // Half of the time only the applicators decide.
            if applicators.len() > 1 {
                keywords.clear();
            }
            for applicator in applicators {
                keywords.extend(applicator);
            }
            Value::Object(keywords)
        })
    })
}

/// One to three keywords that look at the value alone.
fn assertions() -> impl Strategy<Value = Value> {
    vec(assertion(), 1..3).prop_map(|assertions| Value::Object(assertions.into_iter().collect()))
}

fn assertion() -> impl Strategy<Value = (String, Value)> {
    let types = subsequence(vec!["string", "number", "integer", "boolean", "array", "object", "null"], 1..4);
    let count = || (0_u64..4).prop_map(Value::from);
    let positive = select(vec![json!(1), json!(2), json!(0.1), json!(0.01), json!(2.5), json!(3.0), json!(1e-7)]);
    let named = |name: &'static str| move |value: Value| (name.to_owned(), value);
    prop_oneof![
        4 => types.prop_map(|types| json!(types)).prop_map(named("type")),
        2 => vec(value(), 1..4).prop_map(distinct).prop_map(named("enum")),
        1 => value().prop_map(named("const")),
        1 => positive.prop_map(named("multipleOf")),
        2 => (select(vec!["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), number())
            .prop_map(|(name, value)| (name.to_owned(), value)),
        2 => (select(vec!["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"]), count())
            .prop_map(|(name, value)| (name.to_owned(), value)),
        1 => any::<bool>().prop_map(Value::from).prop_map(named("uniqueItems")),
        2 => select(PATTERNS).prop_map(Value::from).prop_map(named("pattern")),
        2 => select(FORMATS).prop_map(Value::from).prop_map(named("format")),
        2 => names().prop_map(named("required")),
        1 => btree_map(name(), names(), 1..3).prop_map(|rules| json!(rules)).prop_map(named("dependentRequired")),
    ]
}

/// Keywords with schemas within, as they belong together.
fn applicator(inner: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Map<String, Value>> {
    let list = vec(inner.clone(), 1..4);
    let members = btree_map(name(), inner.clone(), 1..4);
    let keywords = |value: Value| value.as_object().cloned().unwrap_or_default();
    prop_oneof![
        (select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]), list)
            .prop_map(|(name, schemas)| Map::from_iter([(name.to_owned(), Value::from(schemas))])),
        (
            select(vec![
                "not",
                "items",
                "additionalProperties",
                "propertyNames",
                "unevaluatedItems",
                "unevaluatedProperties",
                "contains"
            ]),
            inner.clone()
        )
            .prop_map(|(name, schema)| Map::from_iter([(name.to_owned(), schema)])),
        (select(vec!["properties", "dependentSchemas"]), members)
            .prop_map(|(name, schemas)| Map::from_iter([(name.to_owned(), json!(schemas))])),
        btree_map(select(PATTERNS), inner.clone(), 1..3)
            .prop_map(move |schemas| keywords(json!({ "patternProperties": schemas }))),
        (inner.clone(), 0_u64..3, 0_u64..4).prop_map(move |(schema, least, most)| {
            keywords(json!({ "contains": schema, "minContains": least, "maxContains": most }))
        }),
        (inner.clone(), inner.clone(), inner.clone())
            .prop_map(move |(a, b, c)| keywords(json!({ "if": a, "then": b, "else": c }))),
        (inner.clone(), any::<bool>()).prop_map(move |(schema, last)| keywords(
            json!({ "allOf": [schema], "unevaluatedProperties": last, "unevaluatedItems": last })
        )),
        inner.prop_map(move |schema| {
            let item = json!({ "$dynamicAnchor": "item", "allOf": [schema] });
            keywords(json!({ "anyOf": [{
                "$id": "https://generated.test/of-items",
                "$ref": "https://generated.test/list",
                "$defs": { "item": item }
            }] }))
        }),
    ]
}

fn name() -> impl Strategy<Value = String> {
    // `constructor` may be required, and may come, but is not for `properties`.
    select(&NAMES[..NAMES.len() - 1]).prop_map(ToOwned::to_owned)
}

fn names() -> impl Strategy<Value = Value> {
    subsequence(NAMES, 1..3).prop_map(|names| json!(names))
}

fn number() -> impl Strategy<Value = Value> {
    let edges = vec![
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(-1),
        json!(2),
        json!(3),
        json!(0.1),
        json!(0.3),
        json!(2.5),
        json!(1e-7),
        json!(9_007_199_254_740_992_u64),
        json!(-9_007_199_254_740_992_i64),
        json!(1e21),
        json!(1e300),
        json!(5e-324),
        json!(f64::MAX),
    ];
    prop_oneof![
        4 => select(edges),
        1 => (-4_i32..8).prop_map(Value::from),
        1 => (-400_i32..400).prop_map(|hundredths| json!(f64::from(hundredths) / 100.0)),
        1 => any::<f64>().prop_filter("JSON has no other", |number| number.is_finite()).prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![8 => select(TEXTS).prop_map(Value::from), 1 => any::<String>().prop_map(Value::from)];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number(),
        3 => text,
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(select(NAMES), inner, 0..5).prop_map(|members| json!(members)),
        ]
    })
}

fn distinct(values: Vec<Value>) -> Value {
    let mut distinct: Vec<Value> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    Value::from(distinct)
}
