//! What `validate` accepts, what it refuses, and what its reader sees.

use metamcp_core::contract::definitions;
use metamcp_core::{EnvName, ItemName, ServerName};
use metamcp_core::{ServerDefinition, ValidDefinition, ValidationErrors, definition_schema, validate, validate_json};
use proptest::prelude::*;
use serde_json::{Value, json};

fn definition(value: Value) -> ServerDefinition {
    serde_json::from_value(value).unwrap()
}

/// A server with one tool, whose fields are those of `tool` and else sensible.
fn with_tool(tool: Value) -> ServerDefinition {
    let mut whole = json!({ "name": "a_tool", "description": "Does a thing", "implementation": "return 1;" });
    whole.as_object_mut().unwrap().extend(tool.as_object().unwrap().clone());
    definition(json!({ "name": "server", "description": "A server", "tools": [whole] }))
}

fn problems_of_tool(tool: Value) -> String {
    show(validate(&with_tool(tool)))
}

fn valid_tool(tool: Value) -> ValidDefinition {
    validate(&with_tool(tool)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The answer as its reader sees it; nothing if all is well.
fn show<T>(result: Result<T, ValidationErrors>) -> String {
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

const CREATE_ISSUE: &str = r#"
    const { repo, title, body } = parameters;
    const response = await fetch('https://api.github.com/repos/' + repo + '/issues', {
      method: 'POST',
      headers: { 'Authorization': 'token ' + env.GITHUB_TOKEN },
      body: JSON.stringify({ title, body })
    });
    const issue = await response.json();
    return {
      content: [{
        type: "text",
        text: "Created issue #" + issue.number
      }]
    };
  "#;

const OPTIMIZE_IMAGE: &str = r#"
    const { imageUrl, maxWidth = 1200 } = parameters;
    
    // Fetch image from URL
    const response = await fetch(imageUrl);
    const imageBuffer = await response.arrayBuffer();
    
    // Use Cloudflare Images API
    const optimized = await env.IMAGES.optimize(imageBuffer, {
      width: maxWidth,
      format: 'webp'
    });
    
    return {
      content: [{
        type: "image",
        data: optimized,
        mimeType: "image/webp"
      }]
    };
  "#;

#[test]
fn the_use_cases_validate_word_for_word() {
    let valid = validate(&definition(json!({
        "name": "use-cases",
        "description": "GitHub API tools for AI agents",
        "secrets": ["GITHUB_TOKEN"],
        "bindings": { "IMAGES": { "type": "service", "target": "image-worker" } },
        "tools": [{
            "name": "create_issue",
            "description": "Create a GitHub issue",
            "parameters": {
                "repo": { "type": "string", "required": true },
                "title": { "type": "string", "required": true },
                "body": { "type": "string", "required": false }
            },
            "implementation": CREATE_ISSUE
        }, {
            "name": "optimize_image",
            "description": "Optimize and resize images",
            "parameters": {
                "imageUrl": { "type": "string", "required": true },
                "maxWidth": { "type": "number", "required": false }
            },
            "implementation": OPTIMIZE_IMAGE
        }]
    })))
    .unwrap();
    assert_eq!(
        Value::Object(valid.tools()[0].input_schema.clone()),
        json!({
            "type": "object",
            "properties": { "repo": { "type": "string" }, "title": { "type": "string" }, "body": { "type": "string" } },
            "required": ["repo", "title"],
            "additionalProperties": false
        })
    );
    assert_eq!(valid.tools()[1].implementation, OPTIMIZE_IMAGE);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let json = json!({
        "name": "My Server",
        "description": " ",
        "version": "1.0",
        "template": "remote-mcp",
        "tool": [],
        "tools": [
            {
                "name": "get_user",
                "description": "Gets a user",
                "parameters": {
                    "id": { "type": "int", "requird": true },
                    "tags": { "type": "array", "items": { "type": "string", "pattern": "[" } },
                    "city": "string"
                },
                "examples": [{ "arguments": {} }],
                "implementation": "const user = await fetch(`/users/${parameters.id}`);\nconst user = 1;\nreturn user;\n} evil(); {"
            },
            { "name": "Get_User", "description": "again\u{202e}", "inputSchema": {}, "implementation": "return (" },
            { "name": "typed", "description": "Types", "implementation": "const x: number = 1;\nreturn x;", "limits": { "timeoutMs": 0 } }
        ],
        "resources": [
            { "uri": "https://Example.com", "name": "home", "implementation": "return uri" },
            { "uri": "x:y", "uriTemplate": "x:{y}", "name": "home", "mimeType": "text", "implementation": "return uri" }
        ],
        "prompts": [
            { "name": "review", "description": "Reviews", "template": "Review {{code}} in {{langauge}} {{", "arguments": [{ "name": "language" }, { "name": "1st" }] },
            { "name": "empty", "description": "Nothing" }
        ],
        "dependencies": { "Zod": "latest", "left-pad": "git+https://example.com/x.git" },
        "vars": { "TOKEN": "x", "METAMCP_HOSTS": "[]" },
        "secrets": ["TOKEN", "api-key"],
        "bindings": { "DB": { "type": "postgres" } },
        "egress": ["https://api.example.com/v1", "localhost", "10.1.2.3/8"],
        "auth": { "bearer": { "secret": "TOKN" } },
        "limits": { "memoryMb": "512" },
        "probe": { "tool": "get_users" }
    });
    insta::assert_snapshot!(show(validate_json(&json)), @r##"
    the definition has 38 problems
      /name: server name "My Server" may hold only lower-case letters, digits and '-'; for example "weather-api"
      /description: is empty; say what it does and when to use it, since a model decides by this text
      /version: "1.0" is no semantic version (unexpected end of input while parsing minor version number); for example "1.0.0"
      /template: unknown template "remote-mcp"; available: remote-mcp-authless
      /tools/0/parameters/city: is no parameter; write an object such as {"type": "string", "required": true}
      /tools/0/parameters/id/requird: "requird" is no keyword of JSON Schema 2020-12; did you mean "required"?
      /tools/0/parameters/id/type: "int" is no type; types are string, number, integer, boolean, array, object, null; did you mean "integer"?
      /tools/0/parameters/tags/items/pattern: "[" is no regular expression as JavaScript's `u` mode wants it: Invalid regular expression: Unterminated character class
      /tools/0/implementation line 4, column 1: closes the function here and goes on behind it; remove the unmatched `}`
      /tools/0/examples/0: field "expected" is missing: what it must answer: the structuredContent, the text of the only content block, or a whole result with content
      /tools/1/name: tool name "Get_User" is taken by an earlier one; choose another
      /tools/1/description: holds U+202E, a control or direction character that can hide text from people; remove it
      /tools/1/implementation line 1, column 9: the body ends too early, or has one closing bracket too many
      /tools/1/inputSchema: "inputSchema" is no field here; did you mean "parameters"?; fields are annotations, description, examples, implementation, limits, name, outputSchema, parameters, title
      /tools/2/implementation line 1, column 7: the body is JavaScript, not TypeScript; remove the types
      /tools/2/limits/timeoutMs: the value is less than the minimum of 1
      /resources/0/uri: "https://Example.com" is not in normal form; write "https://example.com/"
      /resources/1: has both `uri` and `uriTemplate`; keep one
      /resources/1/name: resource name "home" is taken by an earlier one; choose another
      /resources/1/mimeType: "text" is no MIME type; for example "application/json"
      /prompts/0/template: {{code}} names no argument; declare it in `arguments`
      /prompts/0/template: {{langauge}} names no argument; did you mean "language"?; declare it in `arguments`
      /prompts/0/template: "{{" is no placeholder; write {{name}}, and use an `implementation` for text with `{{` in it
      /prompts/0/arguments/1/name: argument name "1st" is not allowed; use a letter or `_`, then letters, digits and `_`
      /prompts/1: has no text; give it a `template` or an `implementation`
      /dependencies/Zod: "Zod" is no npm package name; for example "zod" or "@scope/name"
      /dependencies/Zod: "latest" is no version; write a version such as "4.1.0" or a range such as "^4.1.0", without URL, path or tag
      /dependencies/left-pad: "git+https://example.com/x.git" is no version; write a version such as "4.1.0" or a range such as "^4.1.0", without URL, path or tag
      /vars/METAMCP_HOSTS: environment name "METAMCP_HOSTS" begins with METAMCP_, which is kept for the runtime; for example "API_TOKEN"
      /secrets/0: "TOKEN" is taken by /vars/TOKEN; names in `env` must differ
      /secrets/1: environment name "api-key" may hold only letters, digits and '_', and may not begin with a digit; for example "API_TOKEN"
      /bindings/DB/type: must be one of ["kv","d1","r2","queue","service","ai","images","vectorize","browser"]
      /egress/0: "https://api.example.com/v1" is a URL; write only its host: "api.example.com"
      /egress/1: "localhost" names a private host; write its IP address, such as "127.0.0.1"
      /egress/2: "10.1.2.3/8" has bits set behind its prefix; write "10.0.0.0/8"
      /auth/bearer/secret: secret "TOKN" is not declared; did you mean "TOKEN"?; add it to `secrets`
      /limits/memoryMb: is a text; must be a whole number
      /tool: "tool" is no field here; did you mean "tools"?; fields are auth, bindings, dependencies, description, egress, limits, name, probe, prompts, resources, secrets, template, tools, vars, version
    "##);
}

#[test]
fn refused_schemas_say_what_to_write() {
    let schemas = [
        json!({ "$ref": "#/$defs/missing", "type": "object", "$defs": { "missed": true } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "https://example.com/schema.json" } } }),
        json!({ "type": "object", "properties": { "a": { "$ref": "other.json#/x" } } }),
        json!({ "type": "object", "properties": { "a": { "pattern": "(" } } }),
        json!({ "type": "object", "properties": { "a": { "pattern": "\\_" } } }),
        json!({ "type": "object", "patternProperties": { "[z-a]": true } }),
        json!({ "type": "object", "properties": { "a": { "$dynamicRef": "#x" } } }),
        json!({ "type": "object", "properties": { "a": { "$dynamicAnchor": "x" } } }),
        json!({ "type": "object", "$vocabulary": {} }),
        json!({ "type": "object", "properties": { "a": { "format": "int32" } } }),
        json!({ "type": "object", "properties": { "a": { "format": "iri" } } }),
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
        json!({ "type": "object", "properties": { "a": { "$id": "https://example.com/a" } } }),
        json!({ "type": "object", "x-extension": {} }),
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
        .map(|schema| format!("{schema}\n{}", problems_of_tool(json!({ "parameters": schema }))))
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
      …/properties/a/$dynamicRef: `$dynamicRef` is not supported by the runtime's validator; use `$ref`
    {"properties":{"a":{"$dynamicAnchor":"x"}},"type":"object"}
      …/properties/a/$dynamicAnchor: `$dynamicAnchor` is not supported by the runtime's validator; use `$anchor` or `$defs`
    {"$vocabulary":{},"type":"object"}
      …/$vocabulary: `$vocabulary` belongs to meta-schemas; remove it
    {"properties":{"a":{"format":"int32"}},"type":"object"}
      …/properties/a/format: "int32" is a format that the runtime would not check (checked are date, date-time, duration, email, hostname, ipv4, ipv6, json-pointer, json-pointer-uri-fragment, regex, relative-json-pointer, time, uri, uri-reference, uri-template, url, uuid); use `pattern` or say it in `description`
    {"properties":{"a":{"format":"iri"}},"type":"object"}
      …/properties/a/format: "iri" is a format that the runtime would not check (checked are date, date-time, duration, email, hostname, ipv4, ipv6, json-pointer, json-pointer-uri-fragment, regex, relative-json-pointer, time, uri, uri-reference, uri-template, url, uuid); use `pattern` or say it in `description`
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
    {"properties":{"a":{"$id":"https://example.com/a"}},"type":"object"}
      …/properties/a/$id: `$id` may stand only at the root of a schema; use `$anchor` or `$defs`
    {"type":"object","x-extension":{}}
      …/x-extension: an extension keyword may hold text, a number, a boolean or a list, no object
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
        let valid = valid_tool(json!({ "parameters": schema }));
        assert_eq!(Value::Object(valid.tools()[0].input_schema.clone()), schema);
    }
}

#[test]
fn a_parameter_of_the_shorthand_may_be_called_type() {
    let parameters = json!({
        "type": { "type": "string", "required": true, "enum": ["a", "b"], "default": "a" },
        "places": { "type": "array", "items": { "type": "object", "properties": { "lat": { "type": "number", "required": true } } } }
    });
    let valid = valid_tool(json!({ "parameters": parameters }));
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
fn the_published_schema_accepts_what_serde_writes() {
    let written = serde_json::to_value(with_tool(json!({}))).unwrap();
    assert_eq!(ServerDefinition::from_json(&written), Ok(with_tool(json!({}))));
    assert!(jsonschema::draft202012::meta::is_valid(definition_schema()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_definitions_validate_and_survive_json(definition in definitions()) {
        let valid = validate(&definition).unwrap_or_else(|errors| panic!("{errors}"));
        prop_assert_eq!(valid.written(), &definition);
        let json = serde_json::to_value(&definition).unwrap();
        let again = validate_json(&json).unwrap_or_else(|errors| panic!("{errors}"));
        prop_assert_eq!(&again, &valid);
    }

    #[test]
    fn the_digest_ignores_the_order_of_keys(definition in definitions()) {
        let digest = *validate(&definition).unwrap().digest();
        let text = reversed(&serde_json::to_value(&definition).unwrap());
        let again: ServerDefinition = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(*validate(&again).unwrap().digest(), digest);
    }

    #[test]
    fn no_json_makes_the_check_panic(name in ".*", tool in arbitrary_json(), rest in arbitrary_json()) {
        let json = json!({ "name": name, "description": "x", "tools": [tool], "prompts": rest });
        let _answer = validate_json(&json).is_ok();
    }

    #[test]
    fn no_parameters_make_the_check_panic(parameters in arbitrary_json()) {
        if let Value::Object(parameters) = parameters {
            let _answer = problems_of_tool(json!({ "parameters": parameters }));
        }
    }

    #[test]
    fn good_names_round_trip(server in "[a-z]([a-z0-9]|-[a-z0-9]){0,26}", item in "[A-Za-z0-9_.-]{1,64}", env in "[A-LN-Za-z_][A-Za-z0-9_]{0,63}") {
        prop_assert_eq!(server.parse::<ServerName>().unwrap().to_string(), server);
        prop_assert_eq!(item.parse::<ItemName>().unwrap().to_string(), item);
        prop_assert_eq!(env.parse::<EnvName>().unwrap().to_string(), env);
    }

    #[test]
    fn names_with_anything_else_are_refused(before in "[a-z]{0,3}", wrong in "[^A-Za-z0-9_.-]", after in "[a-z]{0,3}") {
        let name = format!("{before}{wrong}{after}");
        prop_assert!(name.parse::<ServerName>().is_err());
        prop_assert!(name.parse::<ItemName>().is_err());
        prop_assert!(name.parse::<EnvName>().is_err());
    }
}

/// A value as JSON with the keys of every object in reverse order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> =
                map.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), reversed(value))).collect();
            members.sort();
            members.reverse();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// JSON made of the words that mean something in a definition or schema.
fn arbitrary_json() -> impl Strategy<Value = Value> {
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

#[test]
#[ignore = "needs a release build to say something; prints a figure"]
fn a_thousand_tools_are_checked_in_milliseconds() {
    let body = CREATE_ISSUE.repeat(4).replace("const { repo", "}\n{ const { repo");
    let body = format!("{{ {body} }}");
    let tool = |number| {
        json!({
            "name": format!("tool_{number}"),
            "description": "Creates an issue",
            "parameters": { "repo": { "type": "string", "required": true }, "title": { "type": "string" }, "body": { "type": "string" } },
            "implementation": body
        })
    };
    let tools: Vec<_> = (0..1000).map(tool).collect();
    let definition = definition(json!({ "name": "server", "description": "A server", "tools": tools }));
    let start = std::time::Instant::now();
    assert_eq!(validate(&definition).unwrap().tools().len(), 1000);
    eprintln!("1,000 tools of {} bytes: {:?}", body.len(), start.elapsed());
}
