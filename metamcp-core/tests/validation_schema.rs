//! Parameters and output schemas: which are accepted, and what the answer to the others says.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod arbitrary;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use arbitrary::arbitrary_json;
use metamcp_core::{ServerDefinition, ValidDefinition, ValidationErrors, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn definition(value: Value) -> ServerDefinition {
    serde_json::from_value(value).unwrap()
}

/// A server with one tool, whose fields are those of `tool` and else sensible.
fn with_tool(tool: &Value) -> ServerDefinition {
    let mut whole = json!({ "name": "a_tool", "description": "Does a thing", "implementation": "return 1;" });
    whole.as_object_mut().unwrap().extend(tool.as_object().unwrap().clone());
    definition(json!({ "name": "server", "description": "A server", "tools": [whole] }))
}

fn problems_of_tool(tool: &Value) -> String {
    show(validate(&with_tool(tool)))
}

fn valid_tool(tool: &Value) -> ValidDefinition {
    validate(&with_tool(tool)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The answer as its reader sees it; nothing if all is well.
fn show<T>(result: Result<T, ValidationErrors>) -> String {
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table with its answers")]
fn refused_schemas_say_what_to_write() {
    let schemas = [
        json!({ "$ref": "#/$defs/missing", "type": "object", "$defs": { "missed": true } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "https://example.com/schema.json" } } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "other.json#/x" } } }),
        json!({ "type": "object", "properties": { "a": { "pattern": "(" } } }),
        json!({ "type": "object", "properties": { "a": { "pattern": "\\_" } } }),
        json!({ "type": "object", "patternProperties": { "[z-a]": true } }),
        json!({ "type": "object", "properties": { "a": { "$dynamicRef": "#x" } } }),
        json!({ "type": "object", "$vocabulary": {} }),
        json!({ "type": "object", "properties": { "a": { "format": "int32" } } }),
        json!({ "type": "object", "properties": { "a": { "format": "idn-email" } } }),
        json!({ "type": "object", "properties": { "a": { "nullable": true } } }),
        json!({ "type": "object", "properties": { "a": { "minLenght": 3 } } }),
        json!({ "type": "object", "properties": { "a": { "minLength": -3 } } }),
        json!({ "type": "object", "properties": { "a": { "type": "str" } } }),
        json!({ "type": "object", "properties": { "a": { "type": ["string", "string"] } } }),
        json!({ "type": "object", "properties": { "a": { "type": "string", "required": true } } }),
        json!({ "type": "object", "properties": { "a": { "items": [true] } } }),
        json!({ "type": "object", "properties": { "a": { "enum": [] } } }),
        json!({ "type": "object", "properties": { "a": 5 } }),
        json!({ "type": "object", "properties": { "constructor": true } }),
        json!({ "type": "object", "properties": { "city": {} }, "required": ["cit"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "a": { "$id": "#a" } } }),
        json!({ "type": "array" }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object" }),
        json!({ "type": "object", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "anyOf": [{ "$ref": "#/$defs/a" }] } } }),
        json!({ "properties": { "a": { "type": "string" } } }),
        json!({ "properties": {}, "required": ["a"] }),
        json!({ "city": {} }),
        json!({ "city": "string" }),
        json!({ "city": { "type": "string", "required": "yes" } }),
        json!({ "c ity": { "type": "string" } }),
        json!({ "toString": { "type": "string" } }),
        json!({ "place": { "type": "object", "properties": { "lat": { "type": "float", "required": true } } } }),
    ];
    let answers: Vec<_> = schemas
        .iter()
        .map(|schema| format!("{schema}\n{}", problems_of_tool(&json!({ "parameters": schema }))))
        .collect();
    let answers = answers.join("\n").replace("the definition has 1 problem\n", "").replace("/tools/0/parameters", "…");
    insta::assert_snapshot!(answers, @r##"
    {"$defs":{"missed":true},"$ref":"#/$defs/missing","type":"object"}
      …/$ref: "#/$defs/missing" names no schema of this document; did you mean "#/$defs/missed"?
    {"properties":{"a":{"$ref":"https://example.com/schema.json"}},"type":"object"}
      …/properties/a/$ref: "https://example.com/schema.json" is not within this schema; copy the definition to `$defs` and write "#/$defs/NAME"
    {"properties":{"a":{"$ref":"other.json#/x"}},"type":"object"}
      …/properties/a/$ref: "other.json#/x" is not within this schema; copy the definition to `$defs` and write "#/$defs/NAME"
    {"properties":{"a":{"pattern":"("}},"type":"object"}
      …/properties/a/pattern: "(" is no regular expression as JavaScript's `u` mode wants it: Invalid regular expression: Unterminated capturing group
    {"properties":{"a":{"pattern":"\\_"}},"type":"object"}
      …/properties/a/pattern: "\\_" is no regular expression as JavaScript's `u` mode wants it: Invalid regular expression: Could not parse the entire pattern
    {"patternProperties":{"[z-a]":true},"type":"object"}
      …/patternProperties/[z-a]: "[z-a]" is no regular expression as JavaScript's `u` mode wants it: Invalid regular expression: Character class atom range out of order
    {"properties":{"a":{"$dynamicRef":"#x"}},"type":"object"}
      …/properties/a/$dynamicRef: "#x" names no schema of this document
    {"$vocabulary":{},"type":"object"}
      …/$vocabulary: `$vocabulary` belongs to meta-schemas; remove it
    {"properties":{"a":{"format":"int32"}},"type":"object"}
      …/properties/a/format: "int32" is a format that the runtime would not check (checked are date, date-time, duration, email, hostname, ipv4, ipv6, iri, iri-reference, json-pointer, json-pointer-uri-fragment, regex, relative-json-pointer, time, uri, uri-reference, uri-template, url, uuid); use `pattern` or say it in `description`
    {"properties":{"a":{"format":"idn-email"}},"type":"object"}
      …/properties/a/format: "idn-email" is a format that the runtime would not check (checked are date, date-time, duration, email, hostname, ipv4, ipv6, iri, iri-reference, json-pointer, json-pointer-uri-fragment, regex, relative-json-pointer, time, uri, uri-reference, uri-template, url, uuid); use `pattern` or say it in `description`
    {"properties":{"a":{"nullable":true}},"type":"object"}
      …/properties/a/nullable: `nullable` is from OpenAPI; write `"type": ["string", "null"]`
    {"properties":{"a":{"minLenght":3}},"type":"object"}
      …/properties/a/minLenght: "minLenght" is no keyword of JSON Schema 2020-12; did you mean "minLength"?
    {"properties":{"a":{"minLength":-3}},"type":"object"}
      …/properties/a/minLength: `minLength` must be a whole number, 0 or more
    {"properties":{"a":{"type":"str"}},"type":"object"}
      …/properties/a/type: "str" is no type; types are string, number, integer, boolean, array, object, null; did you mean "string"?
    {"properties":{"a":{"type":["string","string"]}},"type":"object"}
      …/properties/a/type/1: stands here a second time; remove it
    {"properties":{"a":{"required":true,"type":"string"}},"type":"object"}
      …/properties/a/required: is a boolean, as in the shorthand; in a JSON Schema the object that has the property lists its name
    {"properties":{"a":{"items":[true]}},"type":"object"}
      …/properties/a/items: is a list; since draft 2020-12 that is `prefixItems`
    {"properties":{"a":{"enum":[]}},"type":"object"}
      …/properties/a/enum: `enum` must be a list of at least one value
    {"properties":{"a":5},"type":"object"}
      …/properties/a: is no schema; write an object such as {"type": "string"}, or a boolean
    {"properties":{"constructor":true},"type":"object"}
      …/properties/constructor: is a property that every JavaScript object has; choose another name
    {"additionalProperties":false,"properties":{"city":{}},"required":["cit"],"type":"object"}
      …/required/0: "cit" is required, yet no property of that name is allowed; did you mean "city"?
    {"properties":{"a":{"$id":"#a"}},"type":"object"}
      …/properties/a/$id: `$id` must be a URI without a fragment; it may be left out
    {"type":"array"}
      …/type: arguments are an object; the schema's own `type` must be "object"
    {"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}
      …/$schema: "http://json-schema.org/draft-07/schema#" is another dialect; only draft 2020-12 is supported: "https://json-schema.org/draft/2020-12/schema"; it may be left out
    {"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}},"type":"object"}
    the definition has 2 problems
      …/$defs/a/$ref: refers back to itself without going into a property or item; break the circle
      …/$defs/b/anyOf/0/$ref: refers back to itself without going into a property or item; break the circle
    {"properties":{"a":{"type":"string"}}}
      …/properties: parameter has no `type`; if this is meant as a JSON Schema, put "type": "object" beside it
    {"properties":{},"required":["a"]}
    the definition has 2 problems
      …/properties: parameter has no `type`; if this is meant as a JSON Schema, put "type": "object" beside it
      …/required: is a keyword of JSON Schema; put "type": "object" beside it if this is meant as one
    {"city":{}}
      …/city: parameter has no `type`; for example {"type": "string", "description": "…", "required": true}
    {"city":"string"}
      …/city: is no parameter; write an object such as {"type": "string", "required": true}
    {"city":{"required":"yes","type":"string"}}
      …/city/required: must be true or false
    {"c ity":{"type":"string"}}
      …/c ity: parameter name "c ity" is not allowed; use 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'
    {"toString":{"type":"string"}}
      …/toString: is a property that every JavaScript object has; choose another name
    {"place":{"properties":{"lat":{"required":true,"type":"float"}},"type":"object"}}
      …/place/properties/lat/type: "float" is no type; types are string, number, integer, boolean, array, object, null; did you mean "number"?
    "##);
}

#[test]
fn good_schemas_are_kept_as_they_are() {
    let schemas = [
        json!({ "type": "object" }),
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": { "type": { "type": "string" } } }),
        // A tree: a circle of references that goes into a property each time.
        json!({ "type": "object", "properties": { "tree": { "$ref": "#/$defs/node" } }, "$defs": {
            "node": { "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "#here" }, "b": { "$anchor": "here", "type": "string" } } }),
        json!({ "type": "object", "oneOf": [{ "required": ["a"] }, { "required": ["b"] }], "unevaluatedProperties": false, "x-note": "kept" }),
        json!({ "type": "object", "properties": { "day": { "type": "string", "format": "date", "pattern": "^\\d{4}-[\\w\\-]+$" } } }),
        json!({ "type": "object", "properties": { "t": { "type": "array", "prefixItems": [{ "type": "string" }], "items": false } } }),
    ];
    for schema in schemas {
        let valid = valid_tool(&json!({ "parameters": schema }));
        assert_eq!(Value::Object(valid.tools()[0].input_schema.clone()), schema);
    }
}

#[test]
fn a_parameter_of_the_shorthand_may_be_called_type() {
    let parameters = json!({
        "type": { "type": "string", "required": true, "enum": ["a", "b"], "default": "a" },
        "places": { "type": "array", "items": { "type": "object", "properties": { "lat": { "type": "number", "required": true } } } }
    });
    let valid = valid_tool(&json!({ "parameters": parameters }));
    assert_eq!(
        Value::Object(valid.tools()[0].input_schema.clone()),
        json!({
            "type": "object",
            "properties": {
                "type": { "type": "string", "enum": ["a", "b"], "default": "a" },
                "places": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "lat": { "type": "number" } },
                    "required": ["lat"],
                    "additionalProperties": false
                } }
            },
            "required": ["type"],
            "additionalProperties": false
        })
    );
}

#[test]
fn examples_and_probe_have_to_fit_the_parameters() {
    let problems = show(validate(&definition(json!({
        "name": "server",
        "description": "A server",
        "tools": [{
            "name": "add",
            "description": "Adds",
            "parameters": { "a": { "type": "number", "required": true }, "b": { "type": "number" } },
            "examples": [{ "arguments": { "a": "1", "c": 2 }, "expected": 1 }],
            "implementation": "return 1"
        }],
        "probe": { "tool": "add", "arguments": { "b": 1 } }
    }))));
    insta::assert_snapshot!(problems, @r##"
    the definition has 3 problems
      /tools/0/examples/0/arguments/a: does not match the tool's parameters: the value is not of type "number"
      /tools/0/examples/0/arguments: does not match the tool's parameters: Additional properties are not allowed ('c' was unexpected)
      /probe/arguments: does not match the tool's parameters: "a" is a required property
    "##);
}

#[test]
fn both_ways_to_require_a_nested_property_may_stand_together() {
    let valid = valid_tool(&json!({ "parameters": { "place": {
        "type": "object",
        "properties": { "lat": { "type": "number", "required": true }, "lon": { "type": "number" } },
        "required": ["lon"]
    } } }));
    assert_eq!(valid.tools()[0].input_schema["properties"]["place"]["required"], json!(["lon", "lat"]));
}

#[test]
fn output_schemas_are_held_to_the_same_rules() {
    let answer =
        problems_of_tool(&json!({ "outputSchema": { "type": "object", "properties": { "a": { "$ref": "#/x" } } } }));
    assert!(answer.contains("/tools/0/outputSchema/properties/a/$ref"), "{answer}");
    let answer = problems_of_tool(&json!({ "outputSchema": true }));
    assert!(answer.contains("/tools/0/outputSchema: is not an object"), "{answer}");
}

#[test]
fn schemas_have_bounds() {
    let deep = (0..60).fold(json!({ "type": "string" }), |inner, _| json!({ "type": "array", "items": inner }));
    assert!(problems_of_tool(&json!({ "parameters": { "a": deep } })).contains("nests deeper"));
    let huge = "x".repeat(70_000);
    assert!(
        problems_of_tool(&json!({ "parameters": { "a": { "type": "string", "const": huge } } }))
            .contains("bytes of JSON")
    );
    let pattern = "(".repeat(2000);
    assert!(
        problems_of_tool(&json!({ "parameters": { "a": { "type": "string", "pattern": pattern } } }))
            .contains("longer than")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_parameters_make_the_check_panic(parameters in arbitrary_json()) {
        if let Value::Object(parameters) = parameters {
            let _answer = problems_of_tool(&json!({ "parameters": parameters }));
        }
    }
}

/// Definitions of which each refers to the next one twice.
fn doubling(count: usize) -> Value {
    let mut definitions: serde_json::Map<_, _> = (0..count)
        .map(|index| {
            let next = json!({ "$ref": format!("#/$defs/d{}", index + 1) });
            (format!("d{index}"), json!({ "allOf": [next, next] }))
        })
        .collect();
    definitions.insert(format!("d{count}"), json!({}));
    definitions.into()
}

/// An object within an object, each of two kinds.
fn either_node() -> Value {
    let node = json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/n" } }, "required": ["x"] });
    let mut titled = node.clone();
    titled["title"] = json!("The same");
    json!({ "n": { "anyOf": [node, titled, { "type": "null" }] } })
}

fn nested(depth: usize, innermost: Value) -> Value {
    (0..depth).fold(innermost, |inner, _| json!({ "x": inner }))
}

/// The problems of a tool, or a failure where they do not come: what takes exponential time takes for ever.
fn problems_soon(tool: Value) -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(problems_of_tool(&tool)));
    receiver.recv_timeout(Duration::from_secs(120)).unwrap()
}

#[test]
fn what_would_take_exponential_time_is_refused() {
    let with_default = |default: Value| {
        json!({ "parameters": { "type": "object", "$defs": either_node(),
            "properties": { "a": { "$ref": "#/$defs/n", "default": default } } } })
    };
    let of_nodes = json!({ "type": "object", "$defs": either_node(), "properties": { "a": { "$ref": "#/$defs/n" } } });
    let unevaluated = (0..20).fold(json!({}), |inner, _| json!({ "allOf": [inner], "unevaluatedProperties": true }));
    let wide: serde_json::Map<_, _> = (0..8)
        .map(|index| {
            let next = json!({ "$ref": format!("#/$defs/w{}", index + 1) });
            (format!("w{index}"), json!({ "allOf": vec![next; 50] }))
        })
        .chain([("w8".to_owned(), json!({}))])
        .collect();
    let alternative = json!({ "$ref": "#/$defs/w0" });
    let chain: serde_json::Map<_, _> = (0..1500)
        .map(|index| (format!("c{index}"), json!({ "$ref": format!("#/$defs/c{}", index + 1) })))
        .chain([("c1500".to_owned(), json!({}))])
        .collect();
    for (tool, place) in [
        (
            json!({ "parameters": { "type": "object", "$defs": doubling(60),
                "properties": { "a": { "$ref": "#/$defs/d0", "default": 1 } } } }),
            "/parameters/properties/a/default: would take too long",
        ),
        (with_default(nested(18, json!(null))), "/parameters/properties/a/default: would take too long"),
        (with_default(nested(40, json!(1))), "/parameters/properties/a/default: would take too long"),
        (
            json!({ "parameters": of_nodes, "examples": [{ "arguments": { "a": nested(40, json!(1)) }, "expected": 1 }] }),
            "/examples/0/arguments: would take too long",
        ),
        (
            json!({ "outputSchema": of_nodes, "examples": [{ "arguments": {}, "expected": { "a": nested(40, json!(1)) } }] }),
            "/examples/0/expected: would take too long",
        ),
        (
            json!({ "parameters": { "type": "object", "$defs": doubling(60), "$ref": "#/$defs/d0",
                "unevaluatedProperties": false } }),
            "/parameters: would take too long",
        ),
        (
            json!({ "parameters": { "type": "object", "properties": { "a": unevaluated } } }),
            "/parameters: would take too long",
        ),
        (
            json!({ "parameters": { "type": "object", "$defs": wide,
                "anyOf": [alternative, alternative, alternative] } }),
            "/parameters: would take too long",
        ),
        (
            json!({ "parameters": { "type": "object", "$defs": chain,
                "properties": { "a": { "$ref": "#/$defs/c0", "default": 1 } } } }),
            "/parameters/properties/a/default: would take too long",
        ),
    ] {
        let told = problems_soon(tool);
        assert!(told.contains(place), "{place:?} is not in {told}");
    }
}

#[test]
fn what_is_large_or_deep_is_still_checked() {
    let any = json!({ "any": { "anyOf": [
        { "type": ["string", "number", "boolean", "null"] },
        { "type": "array", "items": { "$ref": "#/$defs/any" } },
        { "type": "object", "additionalProperties": { "$ref": "#/$defs/any" } }
    ] } });
    let tree = json!({ "node": { "type": "object", "required": ["name"], "unevaluatedProperties": false, "properties": {
        "name": { "type": "string" }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } });
    let leaf = json!({ "name": "leaf", "children": [] });
    let deep = (0..20).fold(leaf.clone(), |inner, _| json!({ "name": "inner", "children": [leaf, inner] }));
    let properties: serde_json::Map<_, _> = (0..1000)
        .map(|index| (format!("p{index}"), json!({ "type": "string", "maxLength": 9, "default": "a" })))
        .collect();
    for (definitions, schema, good, bad) in [
        (any.clone(), json!({ "$ref": "#/$defs/any" }), nested(19, json!([1, "a", null])), None),
        (any, json!({ "type": "array", "items": { "type": "string" } }), json!(vec!["a"; 10_000]), Some(json!([1]))),
        (
            json!({}),
            json!({ "type": "array", "items": { "anyOf": [{ "type": "number" }, { "type": "null" }] } }),
            json!(vec![1; 20_000]),
            Some(json!(["a"])),
        ),
        (tree, json!({ "$ref": "#/$defs/node" }), deep, Some(json!({ "name": "a", "other": 1 }))),
        // What is referred to twice and judges nothing here is no matter.
        (doubling(60), json!({}), json!(1), None),
        (
            json!({}),
            json!({ "type": "object", "properties": properties }),
            json!({ "p1": "b" }),
            Some(json!({ "p1": 1 })),
        ),
    ] {
        let tool = |value: Value| {
            json!({ "parameters": { "type": "object", "$defs": definitions, "properties": { "a": schema } },
                "examples": [{ "arguments": { "a": value }, "expected": 1 }] })
        };
        assert_eq!(problems_soon(tool(good)), "", "{schema}");
        if let Some(bad) = bad {
            let told = problems_soon(tool(bad));
            assert!(told.contains("does not match the tool's parameters"), "{schema}: {told}");
        }
    }
}
