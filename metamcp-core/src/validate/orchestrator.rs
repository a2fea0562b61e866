//! The options of the template `orchestrator-workers`, as far as its schema cannot check them: whether the aggregator
//! takes what it is called with.

use serde_json::{Map, Value};

use super::problems::{Path, Problems, quote};
use super::schema;
use crate::definition::ServerDefinition;

/// The only argument of an aggregator: what the sub-tasks gave.
const RESULTS: &str = "results";

/// Checks options that their schema found good: otherwise every job would fail at its end, after all of its work.
pub(super) fn check(path: &Path, options: &Map<String, Value>, definition: &ServerDefinition, problems: &mut Problems) {
    let Some(name) = options.get("aggregator").and_then(Value::as_str) else { return };
    let Some(tool) = definition.tools.iter().find(|tool| tool.name == name) else { return };
    // What is wrong with the parameters themselves is told where they stand.
    let parameters = schema::of_parameters(&Path::root(), &tool.parameters, &mut Problems::default());
    if parameters.is_some_and(|parameters| !takes_results(&parameters)) {
        let message = format!(
            "{} is called with {{ \"{RESULTS}\": [...] }}: give it a parameter {RESULTS} of type array, and require no other",
            quote(name)
        );
        problems.add(&path.key("aggregator"), message);
    }
}

fn takes_results(parameters: &Map<String, Value>) -> bool {
    let is_listed = parameters.get("properties").is_some_and(|properties| properties.get(RESULTS).is_some());
    let is_open = parameters.get("additionalProperties") != Some(&Value::Bool(false));
    let required = parameters.get("required").and_then(Value::as_array).into_iter().flatten();
    (is_listed || is_open) && required.into_iter().all(|name| name == RESULTS)
}
