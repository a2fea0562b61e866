//! Text that breaks whatever is built by pasting it somewhere, and definitions that are full of it.

use metamcp_core::{PromptDefinition, ServerDefinition};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

const PIECES: &[&str] = &[
    "'",
    "\"",
    "`",
    "\\",
    "${globalThis.canary = 1}",
    "*/ globalThis.canary = 1; /*",
    "'; globalThis.canary = 1; '",
    "\"; globalThis.canary = 1; \"",
    "`; globalThis.canary = 1; `",
    "}; globalThis.canary = 1; {",
    "</script><script>globalThis.canary = 1</script>",
    "<!--",
    "-->",
    "//",
    "\u{2028}globalThis.canary = 1;\u{2029}",
    "$&",
    "$1",
    "$`",
    "$'",
    "$$",
    "{{x}}",
    "{{{x}}}",
    "{{#each tools}}",
    "{{> partial}}",
    "__proto__",
    "constructor",
    "%s%d",
    "\\u0041",
    "\\n",
    "\\",
    "&lt;&#39;",
    "]]>",
    "🦀é",
    "\u{fffe}",
    "@ts-ignore",
    "#!",
];

/// Names that JavaScript, or a file system, has plans for.
const NAMES: &[&str] = &[
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "default",
    "import",
    "await",
    "null",
    "..",
    ".",
    "-",
    "--",
    "con",
    "a.b",
    "a..b",
    "9",
    "then",
    "prototype",
    "index",
    "arguments",
];

/// Addresses in normal form. What follows the scheme is as opaque as its characters are hostile.
const URIS: &[&str] = &[
    "memo:\"'`$&$1",
    "memo:*/;globalThis.canary=1;/*",
    "memo:</script><!--",
    "memo:\\n\\u0041%00%27",
    "memo:__proto__",
    "https://example.com/a'b$&?q=%22*/#%60",
];

/// The texts of one definition: any of them on its own line is a text too.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    pub(crate) texts: Vec<String>,
    names: Vec<String>,
}

pub(crate) fn hostile() -> impl Strategy<Value = Hostile> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => "[ -~]{1,12}",
        1 => Just("\n".to_owned()),
        1 => Just("\t".to_owned()),
    ];
    let text = vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    let text = text.prop_filter("a description says something", |text| !text.trim().is_empty());
    let names = prop::sample::subsequence(NAMES, 1..6);
    (vec(text, 3..7), names)
        .prop_map(|(texts, names)| Hostile { texts, names: names.into_iter().map(str::to_owned).collect() })
}

impl Hostile {
    /// Every hostile piece at once.
    pub(crate) fn everything() -> Self {
        let texts = PIECES.chunks(4).map(|pieces| format!("{}\n", pieces.concat())).collect();
        Self { texts, names: NAMES.iter().map(|&name| name.to_owned()).collect() }
    }

    fn text(&self, index: usize) -> &str {
        &self.texts[index % self.texts.len()]
    }

    /// The same on one line, as titles are.
    fn line(&self, index: usize) -> String {
        let line: String = self.text(index).chars().filter(|c| !c.is_control()).take(100).collect();
        format!("{index} {line}")
    }

    /// A server whose every string is hostile, as far as its rules allow.
    pub(crate) fn definition(&self, name: &str) -> ServerDefinition {
        let named = || self.names.iter().enumerate();
        let tools: Vec<_> = named().map(|(index, name)| self.tool(index, name)).collect();
        let resources: Vec<_> = URIS.iter().enumerate().map(|(index, uri)| self.resource(index, uri)).collect();
        let prompts: Vec<_> = named().map(|(index, name)| self.prompt_definition(index, name)).collect();
        let definition = json!({
            "name": name,
            "description": self.text(0),
            "tools": tools,
            "resources": resources,
            "prompts": prompts,
            "vars": { "TEXT": self.text(1), "DATA": { self.text(2): [self.text(0)], "__proto__": { "canary": 1 } } },
            "probe": { "tool": self.names[0], "arguments": { "text": self.text(1) } }
        });
        serde_json::from_value(definition).unwrap()
    }

    fn tool(&self, index: usize, name: &str) -> Value {
        let comment = self.text(index + 1).replace("*/", "* /");
        let literal = json!(self.text(index + 2));
        let template = self.text(index).replace('\\', "\\\\").replace('`', "\\`").replace("${", "\\${");
        let canary = "typeof globalThis.canary, typeof {}.canary";
        json!({
            "name": name,
            "title": self.line(index),
            "description": self.text(index),
            "parameters": { "text": {
                "type": "string",
                "description": self.text(index + 1),
                "default": self.text(index + 2),
                "examples": [self.text(index + 3)]
            } },
            "annotations": { "title": self.line(index + 1), "readOnlyHint": true },
            "examples": [{ "arguments": { "text": self.text(index) }, "expected": self.answer(name, Some(self.text(index))) }],
            "implementation": format!(
                "/* {comment} */ const literal = {literal};\n\
                 const template = `{template}`;\n\
                 return [parameters.text, literal, template, env.TEXT, env.DATA, {canary}]; // {{{{x}}}} ` $& */"
            )
        })
    }

    /// What a tool of [`Hostile::definition`] answers.
    pub(crate) fn answer(&self, tool: &str, given: Option<&str>) -> Value {
        let index = self.names.iter().position(|name| name == tool).unwrap();
        let given = given.unwrap_or(self.text(index + 2));
        let data = json!({ self.text(2): [self.text(0)], "__proto__": { "canary": 1 } });
        // A template literal reads CR LF as LF, but no text holds a CR.
        let (literal, template) = (self.text(index + 2), self.text(index));
        json!([given, literal, template, self.text(1), data, "undefined", "undefined"])
    }

    fn resource(&self, index: usize, uri: &str) -> Value {
        let text = self.text(index);
        json!({
            "uri": uri,
            "name": format!("{} of {index}", self.line(index)),
            "title": self.line(index + 1),
            "description": text,
            "mimeType": "text/x-!#$&^_.+-",
            "implementation": format!("return {};", json!(text))
        })
    }

    fn prompt_definition(&self, index: usize, name: &str) -> Value {
        let mut prompt = json!({
            "name": name,
            "title": self.line(index),
            "description": self.text(index),
            "arguments": [{
                "name": "value", "description": self.text(index + 1), "required": true,
                "completion": [self.line(index), self.line(index + 1)]
            }]
        });
        if index.is_multiple_of(2) {
            // Braces of its own would be placeholders nobody declared.
            prompt["template"] =
                json!(format!("{} {{{{ value }}}} {{{{value}}}}", self.text(index).replace('{', "{ ")));
        } else {
            prompt["implementation"] = json!(format!("return {} + parameters.value;", json!(self.text(index))));
        }
        prompt
    }

    /// What a prompt of [`Hostile::definition`] says for a value.
    pub(crate) fn prompt(prompt: &PromptDefinition, value: &str) -> String {
        match &prompt.template {
            Some(template) => {
                let parts: Vec<_> = template.split("{{ value }}").flat_map(|part| part.split("{{value}}")).collect();
                parts.join(value)
            }
            None => format!("{}{value}", prompt.description),
        }
    }
}

/// Definitions that are mostly wrong: any text at any place.
pub(crate) fn wild_definition() -> impl Strategy<Value = ServerDefinition> {
    let any_text = || {
        prop_oneof![
            2 => vec(prop::sample::select(PIECES), 0..4).prop_map(|pieces| pieces.concat()),
            1 => any::<String>(),
            1 => prop::sample::select(NAMES).prop_map(str::to_owned),
            1 => Just("return 1;".to_owned()),
        ]
    };
    let schema = prop_oneof![
        any_text().prop_map(|text| json!({ "type": text })),
        any_text().prop_map(|text| json!({ "type": "string", "pattern": text, "description": text })),
        any_text().prop_map(|text| json!({ "$ref": text })),
        any_text().prop_map(|text| json!({ "type": "object", "properties": { text: { "type": "string" } } })),
        any_text().prop_map(Value::String),
    ];
    let parameters = btree_map(any_text(), schema, 0..3);
    (vec(any_text(), 24), parameters).prop_map(|(texts, parameters)| {
        let parameters = json!(parameters);
        let definition = json!({
            "name": texts[0], "description": texts[1], "version": texts[2],
            "tools": [{
                "name": texts[3], "title": texts[4], "description": texts[5], "parameters": parameters,
                "outputSchema": { "description": texts[6], "$id": texts[6] },
                "annotations": { "title": texts[7] },
                "examples": [{ "arguments": { texts[8].as_str(): texts[9] }, "expected": texts[10] }],
                "implementation": texts[11]
            }],
            "resources": [
                { "uri": texts[12], "name": texts[13], "mimeType": texts[14], "implementation": texts[11] },
                { "uriTemplate": texts[15], "name": texts[16], "implementation": texts[17] }
            ],
            "prompts": [{
                "name": texts[18], "description": texts[19], "template": texts[20],
                "arguments": [{ "name": texts[21], "completion": [texts[22]] }]
            }],
            "vars": { texts[21].as_str(): texts[22] },
            "secrets": [texts[23]],
            "egress": [texts[8]],
            "bindings": { texts[9].as_str(): { "type": "kv", "target": texts[10] } },
            "dependencies": { texts[22].as_str(): texts[23] },
            "auth": { "bearer": { "secret": texts[3] } },
            "probe": { "tool": texts[18], "arguments": { texts[1].as_str(): texts[2] } }
        });
        serde_json::from_value(definition).unwrap()
    })
}
