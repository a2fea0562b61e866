//! What `validate` accepts, what it refuses, and what its reader sees.

use metamcp_core::{ServerDefinition, ValidDefinition, ValidationErrors, definition_schema, validate, validate_json};
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
    insta::assert_snapshot!(show(validate_json(&json)), @"");
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
    insta::assert_snapshot!(answers, @"");
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
    insta::assert_snapshot!(problems, @"");
}

#[test]
fn the_published_schema_accepts_what_serde_writes() {
    let written = serde_json::to_value(with_tool(json!({}))).unwrap();
    assert_eq!(ServerDefinition::from_json(&written), Ok(with_tool(json!({}))));
    assert!(jsonschema::draft202012::meta::is_valid(definition_schema()));
}
