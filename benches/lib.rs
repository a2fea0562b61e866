//! What the benchmarks share: definitions of a wanted size.

use metamcp_core::ServerDefinition;
use serde_json::json;

/// A server with `tools` tools, each with a schema and a body of a few lines.
///
/// # Panics
/// Never: the definition is well-formed.
pub fn definition(name: &str, tools: usize) -> ServerDefinition {
    let tools: Vec<_> = (0..tools)
        .map(|index| {
            json!({
                "name": format!("tool_{index}"),
                "description": "Adds two numbers and says which of its siblings it is.",
                "parameters": {
                    "a": { "type": "number", "required": true, "description": "First number" },
                    "b": { "type": "number", "description": "Second number", "default": 1 }
                },
                "implementation": "const { a, b } = parameters;\nconst sum = a + b;\nreturn `the sum is ${sum}`;"
            })
        })
        .collect();
    let definition = json!({ "name": name, "description": "A server for benchmarks.", "tools": tools });
    serde_json::from_value(definition).expect("the definition is well-formed")
}

/// The middle value.
///
/// # Panics
/// If there is none.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("times and rates have an order"));
    values[values.len() / 2]
}
