//! Schemas with values that they take and values that they refuse, and what validation says of them.
//! For the tests of validation, and for those of a running Worker in `metamcp-local`.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::collections::BTreeMap;

use metamcp_core::{Problem, ServerDefinition, validate};
use serde::Deserialize;
use serde_json::{Value, json};

/// A schema with values that it takes, and others that it refuses.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) schema: Value,
    pub(crate) valid: Vec<Value>,
    pub(crate) invalid: Vec<Value>,
}

impl Case {
    /// Every value with the verdict that it ought to get.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&Value, bool)> {
        self.valid.iter().map(|value| (value, true)).chain(self.invalid.iter().map(|value| (value, false)))
    }
}

/// The cases by keyword, those of formats as `format: NAME`.
pub(crate) fn cases() -> BTreeMap<String, Vec<Case>> {
    serde_json::from_str(include_str!("../data/schema-cases.json")).unwrap()
}

/// Whether validation finds each value good as what a tool with this output schema answers, or why it refuses the
/// schema.
pub(crate) fn verdicts(schema: &Value, values: &[Value]) -> Result<Vec<bool>, Vec<Problem>> {
    let mut verdicts = Vec::new();
    // A tool has so many examples at most.
    for values in values.chunks(32) {
        let examples: Vec<_> = values.iter().map(|value| json!({ "expected": value })).collect();
        let tool = json!({
            "name": "tool",
            "description": "Says something",
            "outputSchema": schema,
            "examples": examples,
            "implementation": "return 1;"
        });
        let definition = json!({ "name": "server", "description": "A server", "tools": [tool] });
        let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
        let problems = validate(&definition).err().map(|errors| errors.problems().to_vec()).unwrap_or_default();
        let mut good = vec![true; values.len()];
        for problem in &problems {
            let Some(place) = problem.pointer.strip_prefix("/tools/0/examples/") else { return Err(problems) };
            let (index, rest) = place.split_once('/').unwrap();
            assert!(rest.starts_with("expected"), "{place}: {}", problem.message);
            good[index.parse::<usize>().unwrap()] = false;
        }
        verdicts.extend(good);
    }
    Ok(verdicts)
}
