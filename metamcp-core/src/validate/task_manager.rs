//! The options of the template `agent-task-manager`, as far as its schema cannot check them: which tools can be called
//! only as tasks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::problems::{Path, Problems, quote};
use crate::definition::ServerDefinition;

#[derive(Deserialize)]
struct Options {
    tasks: BTreeMap<String, Support>,
}

#[derive(Deserialize)]
struct Support {
    #[serde(default)]
    required: bool,
}

/// Checks options that their schema found good. What is called before activation is called plainly, which a tool that
/// is required as a task refuses.
pub(super) fn check(options: &Map<String, Value>, definition: &ServerDefinition, problems: &mut Problems) {
    let Ok(Options { tasks }) = serde_json::from_value(Value::Object(options.clone())) else { return };
    let is_required = |tool: &str| tasks.get(tool).is_some_and(|support| support.required);
    for (index, tool) in definition.tools.iter().enumerate() {
        if !tool.examples.is_empty() && is_required(&tool.name) {
            let path = Path::root().key("tools").index(index).key("examples");
            problems.add(&path, message(&tool.name, "examples", "remove the examples"));
        }
    }
    if let Some(probe) = &definition.probe
        && is_required(&probe.tool)
    {
        problems.add(&Path::root().key("probe").key("tool"), message(&probe.tool, "the probe", "probe another tool"));
    }
}

fn message(tool: &str, calls: &str, remedy: &str) -> String {
    let name = quote(tool);
    format!(
        "{name} can be called only as a task (option tasks, required), which {calls} of a deployment cannot do; \
         {remedy}, or leave out required"
    )
}
