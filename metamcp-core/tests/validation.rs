//! What `validate` accepts, what it refuses, and what its reader sees.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod arbitrary;

use arbitrary::arbitrary_json;
use metamcp_core::contract::definitions;
use metamcp_core::{CacheHint, CacheScope, EnvName, ItemName, ServerName};
use metamcp_core::{ServerDefinition, ValidationErrors, definition_schema, validate, validate_json};
use proptest::prelude::*;
use serde_json::{Value, json};

fn definition(value: Value) -> ServerDefinition {
    serde_json::from_value(value).unwrap()
}

fn minimal() -> ServerDefinition {
    let tool = json!({ "name": "a_tool", "description": "Does a thing", "implementation": "return 1;" });
    definition(json!({ "name": "server", "description": "A server", "tools": [tool] }))
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
      /template: unknown template "remote-mcp"; available: remote-mcp-authless, orchestrator-workers, agent-scheduler, tool-calling, routing, parallelisation, agent-task-manager
      /tools/0/parameters/city: is no parameter; write an object such as {"type": "string", "required": true}
      /tools/0/parameters/id/requird: "requird" is no keyword of JSON Schema 2020-12; did you mean "required"?
      /tools/0/parameters/id/type: "int" is no type; types are string, number, integer, boolean, array, object, null; did you mean "integer"?
      /tools/0/parameters/tags/items/pattern: "[" is no regular expression as JavaScript's `u` mode wants it: Invalid regular expression: Unterminated character class
      /tools/0/implementation line 4, column 1: closes the function here and goes on behind it; remove the unmatched `}`
      /tools/0/examples/0: field "expected" is missing: what it must answer: the structuredContent, the text of the only content block, or a whole result with content
      /tools/1/name: tool name "Get_User" is taken by an earlier one; choose another
      /tools/1/description: holds U+202E, a control, direction or invisible character that can hide text from people; remove it
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
      /tool: "tool" is no field here; did you mean "tools"?; fields are auth, bindings, cache, dependencies, description, egress, limits, name, options, probe, prompts, resources, secrets, sessions, template, tools, vars, version
    "##);
}

#[test]
fn the_published_schema_accepts_what_serde_writes() {
    let written = serde_json::to_value(minimal()).unwrap();
    assert_eq!(ServerDefinition::from_json(&written), Ok(minimal()));
    assert!(jsonschema::draft202012::meta::is_valid(definition_schema()));
}

#[test]
fn completion_and_cache_hints_are_held_against_what_they_are_for() {
    let year = 31_536_000_000_u64;
    let resource = |name: &str, rest: Value| {
        let mut resource = json!({ "name": name, "implementation": "return 1;" });
        resource.as_object_mut().unwrap().extend(rest.as_object().cloned().unwrap());
        resource
    };
    let json = json!({
        "name": "server", "description": "A server", "sessions": "yes",
        "cache": { "ttlMs": year + 1, "cacheScope": "everybody" },
        "resources": [
            resource("a", json!({ "uri": "a://a", "completion": { "id": ["1"] } })),
            resource("b", json!({ "uriTemplate": "b://{+city}{?lang*}", "completion": {
                "cty": ["Rome"], "lang": ["en", "x".repeat(257), "a\nb"] } })),
            resource("c", json!({ "uriTemplate": "c://{id}", "cache": { "ttlMs": -1 } })),
            resource("d", json!({ "uriTemplate": "d://{id}", "completion": { "id": ["1"] }, "cache": { "ttlMs": year } }))
        ]
    });
    insta::assert_snapshot!(show(validate_json(&json)), @r##"
    the definition has 8 problems
      /resources/0/completion: is for the variables of a `uriTemplate`, and this resource has a `uri`; remove it
      /resources/1/completion/cty: "cty" is no variable of the template; did you mean "city"?; it has city, lang
      /resources/1/completion/lang/1: is longer than 256 characters
      /resources/1/completion/lang/2: holds U+000A, a control, direction or invisible character that can hide text from people; remove it
      /resources/2/cache/ttlMs: the value is less than the minimum of 0
      /sessions: is a text; must be true or false
      /cache/cacheScope: must be one of ["public","private"]
      /cache/ttlMs: the value is greater than the maximum of 31536000000
    "##);
    let written = definition(json!({ "name": "server", "description": "A server", "cache": { "ttlMs": 1 } }));
    let cache = written.cache.unwrap();
    assert_eq!(cache.cache_scope, CacheScope::Private);
    let mut beyond = written;
    beyond.cache = Some(CacheHint::new(year + 1));
    assert_eq!(validate(&beyond).unwrap_err().problems()[0].pointer, "/cache/ttlMs");
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
