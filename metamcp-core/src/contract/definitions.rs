//! Arbitrary valid definitions for property tests, with hostile text wherever text is allowed.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::definition::{
    Auth, Binding, BindingKind, CacheHint, CacheScope, Limits, Probe, PromptArgument, PromptDefinition,
    ResourceDefinition, ServerDefinition, ToolDefinition, ToolExample,
};

/// Text that breaks whatever is built by pasting it somewhere: for descriptions.
const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "`",
    "\\",
    "${globalThis.canary = 1}",
    "*/ globalThis.canary = 1; /*",
    "//",
    "</script>",
    "<!--",
    "-->",
    "\n",
    "\t",
    "\u{2028}",
    "\u{2029}",
    "$&",
    "$1",
    "{{x}}",
    "{{{x}}}",
    "{{#each tools}}",
    "%s",
    "\\u0041",
    "\\n",
    "#{1}",
    "'; globalThis.canary = 1; '",
    "`; globalThis.canary = 1; `",
    "\"; globalThis.canary = 1; \"",
    "🦀",
    "é",
    "__proto__",
    "null",
    "]]>",
    "&lt;",
    "\\\\",
    "\u{fffe}",
    "@ts-ignore",
    "*/",
    "/*",
    "#!/bin/sh",
];

/// A description with hostile pieces in it: never empty, never longer than a description may be.
pub fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => prop::sample::select(HOSTILE).prop_map(str::to_owned), 1 => "[ -~]{0,12}"];
    vec(piece, 0..12).prop_map(|pieces| format!("text {}", pieces.concat()))
}

/// The same on one line: for titles and names of resources.
fn hostile_line() -> impl Strategy<Value = String> {
    hostile_text().prop_map(|text| text.chars().filter(|c| !c.is_control()).take(100).collect())
}

/// Arbitrary definitions that [`validate`](crate::validate()) accepts.
pub fn definitions() -> impl Strategy<Value = ServerDefinition> {
    let items = (tools(), resources(), prompts());
    let surroundings = (vars(), btree_set("[A-Z][A-Z0-9_]{0,8}", 0..3), bindings(), egress(), limits(), any::<bool>());
    ("[a-z][a-z0-9]{0,10}(-[a-z0-9]{1,6}){0,3}", hostile_text(), (0..9_u64, 0..9_u64, 0..9_u64), items, surroundings)
        .prop_map(|(name, description, version, (tools, resources, prompts), surroundings)| {
            let (vars, secrets, bindings, egress, limits, with_auth) = surroundings;
            // Prefixes keep the three kinds of names in `env` apart.
            let secrets: Vec<_> = secrets.into_iter().map(|name| format!("S_{name}")).collect();
            let secret = secrets.first().filter(|_| with_auth).cloned();
            let auth = secret.map_or(Auth::None, |secret| Auth::Bearer { secret });
            let probe = tools.first().map(|tool| Probe { tool: tool.name.clone(), arguments: arguments_of(tool) });
            ServerDefinition {
                name,
                description,
                version: format!("{}.{}.{}", version.0, version.1, version.2),
                template: "remote-mcp-authless".to_owned(),
                options: Map::new(),
                tools,
                resources,
                prompts,
                dependencies: std::collections::BTreeMap::new(),
                vars,
                secrets,
                bindings,
                egress,
                sessions: with_auth,
                cache: with_auth.then_some(CacheHint { ttl_ms: 60_000, cache_scope: CacheScope::Public }),
                auth,
                limits,
                probe,
            }
        })
}

fn tools() -> impl Strategy<Value = Vec<ToolDefinition>> {
    let rest =
        (option::of(hostile_line()), hostile_text(), parameters(), any::<bool>(), item_limits(), body("parameters"));
    btree_map("[a-z0-9_.-]{1,20}", rest, 0..5).prop_map(|tools| tools.into_iter().map(tool).collect())
}

/// What a tool has beside its name: title, description, parameters, whether it has an example, limits, body.
type ToolParts = (Option<String>, String, Map<String, Value>, bool, Limits, String);

fn tool((name, parts): (String, ToolParts)) -> ToolDefinition {
    let (title, description, parameters, with_example, limits, implementation) = parts;
    let mut tool = ToolDefinition {
        name,
        title,
        description,
        parameters,
        output_schema: with_example.then(|| json!({ "type": "object", "properties": { "ok": { "type": "boolean" } } })),
        annotations: json!({ "readOnlyHint": true }).as_object().cloned().filter(|_| with_example),
        limits,
        examples: Vec::new(),
        implementation,
    };
    if with_example {
        tool.examples.push(ToolExample { arguments: arguments_of(&tool), expected: json!({ "ok": true }) });
    }
    tool
}

/// Arguments that a tool of [`tools`] accepts: every parameter is a text.
fn arguments_of(tool: &ToolDefinition) -> Map<String, Value> {
    let names: Vec<&String> = match tool.parameters.get("properties") {
        Some(Value::Object(properties)) => properties.keys().collect(),
        _ => tool.parameters.keys().collect(),
    };
    names.into_iter().map(|name| (name.clone(), "'`\"${x}".into())).collect()
}

/// The shorthand, or the same as JSON Schema.
fn parameters() -> impl Strategy<Value = Map<String, Value>> {
    let parameter = (hostile_text(), any::<bool>());
    (btree_map("[a-z][A-Za-z0-9_.-]{0,10}", parameter, 0..4), any::<bool>()).prop_map(|(parameters, as_schema)| {
        let kept = parameters.into_iter().filter(|(name, _)| name != "constructor");
        let shorthand: Map<_, _> = kept
            .map(|(name, (text, required))| {
                (name, json!({ "type": "string", "description": text, "required": required }))
            })
            .collect();
        if !as_schema {
            return shorthand;
        }
        let properties: Map<_, _> = shorthand
            .into_iter()
            .map(|(name, parameter)| (name, json!({ "type": "string", "description": parameter["description"] })))
            .collect();
        let schema = json!({ "type": "object", "properties": properties });
        schema.as_object().cloned().unwrap_or_default()
    })
}

fn resources() -> impl Strategy<Value = Vec<ResourceDefinition>> {
    let rest = (option::of(hostile_line()), hostile_text(), any::<bool>(), item_limits(), body("uri"));
    btree_map(hostile_line(), rest, 0..3).prop_map(|resources| {
        let numbered = resources.into_iter().enumerate();
        let made = numbered.map(|(number, (name, (title, description, is_template, limits, implementation)))| {
            let uri = format!("test://resource/{number}");
            ResourceDefinition {
                uri: (!is_template).then(|| uri.clone()),
                uri_template: is_template.then(|| format!("{uri}/{{id}}")),
                name,
                title,
                description,
                mime_type: is_template.then(|| "application/json".to_owned()),
                annotations: json!({ "priority": 0.5 }).as_object().cloned().filter(|_| is_template),
                completion: is_template.then(|| ("id".to_owned(), vec!["a".to_owned()])).into_iter().collect(),
                cache: is_template.then_some(CacheHint { ttl_ms: 1, cache_scope: CacheScope::Private }),
                limits,
                implementation,
            }
        });
        made.collect()
    })
}

fn prompts() -> impl Strategy<Value = Vec<PromptDefinition>> {
    let names = btree_set("[a-z_][a-z0-9_]{0,8}", 0..3);
    let rest = (option::of(hostile_line()), hostile_text(), names, any::<bool>(), hostile_text(), item_limits());
    btree_map("[a-z0-9_.-]{1,20}", (rest, body("parameters")), 0..3).prop_map(|prompts| {
        let made = prompts.into_iter().map(|(name, ((title, description, names, has_body, text, limits), body))| {
            PromptDefinition {
                name,
                title,
                description,
                template: (!has_body).then(|| template(&text, &names)),
                implementation: has_body.then_some(body),
                arguments: names.into_iter().map(argument).collect(),
                limits,
            }
        });
        made.collect()
    })
}

fn argument(name: String) -> PromptArgument {
    let completion = vec!["'`\"${x}".to_owned(), "{{x}}".to_owned()];
    PromptArgument { description: format!("*/ {name}"), required: name.len().is_multiple_of(2), completion, name }
}

/// Hostile text around placeholders; braces of its own would be placeholders nobody declared.
fn template(text: &str, names: &BTreeSet<String>) -> String {
    let placeholders: Vec<_> = names.iter().map(|name| format!("{{{{ {name} }}}}")).collect();
    format!("{} {}", text.replace('{', "{ "), placeholders.join(" "))
}

/// Bodies whose text is hostile and which are JavaScript all the same.
fn body(bound: &'static str) -> impl Strategy<Value = String> {
    let form = prop::sample::select(vec![Form::Plain, Form::Comment, Form::Regex]);
    (hostile_text(), form).prop_map(move |(text, form)| {
        // What a description may not have in it, a body may.
        let literal = Value::String(format!("{text}\u{feff}\u{200b}"));
        match form {
            Form::Plain => format!("return {literal};"),
            Form::Comment => format!("const text = {literal};\nreturn {{ text, bound: typeof {bound} }}; // last"),
            Form::Regex => {
                format!("/* {{{{x}}}} ${{y}} ` */\nreturn /[`\"'}}{{]/.test({literal}) ? `a${{1}}b` : '}}';")
            }
        }
    })
}

/// What a body looks like around its text.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Comment,
    Regex,
}

fn vars() -> impl Strategy<Value = std::collections::BTreeMap<String, Value>> {
    let value = prop_oneof![
        hostile_text().prop_map(Value::String),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        hostile_text().prop_map(|text| json!({ text: [1, null, { "b": "</script>" }] })),
    ];
    btree_map("V_[A-Z0-9_]{0,8}", value, 0..4)
}

fn bindings() -> impl Strategy<Value = std::collections::BTreeMap<String, Binding>> {
    let kind = prop::sample::select(vec![BindingKind::Kv, BindingKind::D1, BindingKind::Queue, BindingKind::Service]);
    let binding = (kind, option::of("[a-z][a-z0-9-]{0,12}"), any::<bool>());
    btree_map("B_[A-Z0-9_]{0,8}", binding.prop_map(|(kind, target, optional)| Binding { kind, target, optional }), 0..3)
}

fn egress() -> impl Strategy<Value = Option<Vec<String>>> {
    let rules = vec!["example.com", "*.example.org", "192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "::1"];
    option::of(vec(prop::sample::select(rules).prop_map(str::to_owned), 0..4))
}

fn limits() -> impl Strategy<Value = Limits> {
    (item_limits(), option::of(64..=12_288_u64)).prop_map(|(limits, memory_mb)| Limits { memory_mb, ..limits })
}

fn item_limits() -> impl Strategy<Value = Limits> {
    let parts = (option::of(1..=600_000_u64), option::of(1..=10_000_u64), option::of(1024..=26_214_400_u64));
    parts.prop_map(|(timeout_ms, concurrency, response_bytes)| Limits {
        timeout_ms,
        memory_mb: None,
        concurrency,
        response_bytes,
    })
}
