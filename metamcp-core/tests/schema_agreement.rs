//! What validation says of values is what the cases say, and what the crate `jsonschema` says of the schema as it is.
//! The same cases go through a running Worker in `metamcp-local`.

mod schema_cases;

use schema_cases::{cases, verdicts};
use serde_json::{Value, json};

/// Every keyword of the vocabularies of draft 2020-12 but `$vocabulary`, which is for meta-schemas.
const KEYWORDS: &str = "$anchor $comment $defs $dynamicAnchor $dynamicRef $id $ref $schema \
    additionalProperties allOf anyOf const contains contentEncoding contentMediaType contentSchema default \
    dependentRequired dependentSchemas deprecated description else enum examples exclusiveMaximum exclusiveMinimum if \
    items maxContains maxItems maxLength maxProperties maximum minContains minItems minLength minProperties minimum \
    multipleOf not oneOf pattern patternProperties prefixItems properties propertyNames readOnly required then title \
    type unevaluatedItems unevaluatedProperties uniqueItems writeOnly";

/// Every format of draft 2020-12 but the two that need the tables of IDNA, and two that are common besides.
const FORMATS: &str = "date date-time duration email hostname ipv4 ipv6 iri iri-reference json-pointer \
    json-pointer-uri-fragment regex relative-json-pointer time uri uri-reference uri-template url uuid";

#[test]
fn every_keyword_and_format_has_ten_cases_of_each_kind() {
    let mut cases = cases();
    let formats = FORMATS.split_whitespace().map(|format| format!("format: {format}"));
    for name in KEYWORDS.split_whitespace().map(ToOwned::to_owned).chain(formats) {
        let cases = cases.remove(&name).unwrap_or_default();
        let valid: usize = cases.iter().map(|case| case.valid.len()).sum();
        let invalid: usize = cases.iter().map(|case| case.invalid.len()).sum();
        assert!(valid >= 10 && invalid >= 10, "{name}: {valid} valid, {invalid} invalid");
    }
    assert!(cases.is_empty(), "not in the lists: {:?}", cases.keys());
}

#[test]
fn validation_says_what_the_cases_say() {
    for (keyword, cases) in cases() {
        for case in cases {
            let values: Vec<_> = case.values().map(|(value, _)| value.clone()).collect();
            let verdicts = verdicts(&case.schema, &values)
                .unwrap_or_else(|problems| panic!("{keyword}: {} is refused: {problems:?}", case.schema));
            for ((value, expected), verdict) in case.values().zip(verdicts) {
                assert_eq!(verdict, expected, "{keyword}: {value} against {}", case.schema);
            }
        }
    }
}

/// Where the crate, asked without more ado, does not say what JavaScript or the standard says: numbers that are no
/// doubles or have many digits, some escapes of regular expressions, formats that it does not know, addresses with a name in front.
const MENDED: &[&str] = &[
    "9007199254740993",
    "multipleOf: 1.7976931348623157e+308",
    r"\\bcat\\b",
    r"\\ud83d\\ude00",
    "[^]",
    r"\\cJ",
    r#"format: regex: "\\_""#,
    r#"format: regex: "\\p{Nope}""#,
    "format: url: ",
    "format: json-pointer-uri-fragment: ",
    "Joe <joe@example.com>",
];

#[test]
fn the_crate_by_itself_says_the_same() {
    let mut different = Vec::new();
    for (keyword, cases) in cases() {
        for case in cases {
            let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).offline();
            let validator = options.should_validate_formats(true).build(&case.schema);
            for (value, expected) in case.values() {
                let verdict = validator.as_ref().ok().map(|validator| validator.is_valid(value));
                if verdict != Some(expected) {
                    different.push(format!("{keyword}: {value} against {} is {verdict:?}", case.schema));
                }
            }
        }
    }
    for mended in MENDED {
        assert!(different.iter().any(|difference| difference.contains(mended)), "{mended} needs no mending");
    }
    different.retain(|difference| !MENDED.iter().any(|mended| difference.contains(mended)));
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn what_no_validator_could_agree_on_is_refused_by_name() {
    let refused = [
        (json!({ "$vocabulary": {} }), "/$vocabulary"),
        (json!({ "items": { "format": "idn-hostname" } }), "/items/format"),
        (json!({ "format": "idn-email" }), "/format"),
        (json!({ "maximum": i64::MAX }), "/maximum"),
        (json!({ "enum": [{ "a": 9_007_199_254_740_993_u64 }] }), "/enum/0/a"),
        (json!({ "pattern": "^(a|b)\\1$" }), "/pattern"),
        (json!({ "patternProperties": { "\\ud800": true } }), "/patternProperties/\\ud800"),
        (json!({ "$dynamicRef": "#x", "$defs": { "y": { "$dynamicAnchor": "y" } } }), "/$dynamicRef"),
        (json!({ "$dynamicRef": "#x", "$dynamicAnchor": "x" }), "/$dynamicRef"),
        (json!({ "$ref": "https://example.com/elsewhere" }), "/$ref"),
    ];
    for (schema, place) in refused {
        let problems = verdicts(&schema, &[Value::Null]).expect_err(&schema.to_string());
        assert_eq!(problems[0].pointer, format!("/tools/0/outputSchema{place}"), "{schema}: {problems:?}");
    }
}

#[test]
fn values_of_a_definition_are_as_their_schemas_want_them() {
    let refused = [
        (json!({ "properties": { "n": { "type": "integer", "default": "1" } } }), "/properties/n/default"),
        (
            json!({ "$ref": "#/$defs/x", "$defs": { "x": { "items": { "default": [2, "3"], "items": { "type": "integer" } } } } }),
            "/$defs/x/items/default/1",
        ),
        (
            json!({ "$id": "https://example.com/a", "$defs": { "é /": { "$id": "b", "default": 1, "$ref": "#/$defs/t", "$defs": { "t": { "type": "string" } } } } }),
            "/$defs/é ~1/default",
        ),
    ];
    for (schema, place) in refused {
        let problems = verdicts(&schema, &[Value::Null]).expect_err(&schema.to_string());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].pointer, format!("/tools/0/outputSchema{place}"), "{problems:?}");
    }
    let nested = json!({
        "properties": { "o": { "default": {}, "required": ["a"], "properties": { "a": { "default": 1, "type": "number" } } } }
    });
    // The runtime fills in the default of a default's member.
    assert_eq!(verdicts(&nested, &[json!({})]), Ok(vec![true]));
}
