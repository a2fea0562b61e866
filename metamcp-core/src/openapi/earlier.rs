//! Tools that an import wrote, as a definition has them: what they send, and with whose secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::name;
use super::operation::{MARK, START};
use crate::definition::{ServerDefinition, ToolDefinition};

/// The literal of a tool that an import wrote, and the code behind it.
fn parts(tool: &ToolDefinition) -> Option<(Value, &str)> {
    let (literal, code) = tool.implementation.strip_prefix(START)?.split_once(";\n")?;
    let operation = code.starts_with(MARK).then(|| serde_json::from_str(literal).ok())??;
    Some((operation, code))
}

pub(super) fn is_imported(tool: &ToolDefinition) -> bool {
    parts(tool).is_some()
}

/// For which APIs a definition's secrets are, as its tools say.
pub(super) struct Owners {
    /// The base URLs of each declared secret.
    bases: BTreeMap<String, BTreeSet<String>>,
}

impl Owners {
    pub(super) fn of(definition: &ServerDefinition) -> Self {
        let mut bases: BTreeMap<_, BTreeSet<_>> =
            definition.secrets.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
        for (mut operation, _) in definition.tools.iter().filter_map(parts) {
            let base = base_of(&operation);
            for name in secrets(&mut operation) {
                bases.entry(name.clone()).or_default().insert(base.clone());
            }
        }
        Self { bases }
    }

    /// The names of a tool's secrets; those that are another API's, or of whom nothing is known, it first calls
    /// otherwise.
    pub(super) fn name_apart(&self, tool: &mut ToolDefinition) -> Vec<String> {
        let Some((mut operation, code)) = parts(tool) else { return Vec::new() };
        let base = base_of(&operation);
        let mut is_other = false;
        let mut names = Vec::new();
        for name in secrets(&mut operation) {
            if self.bases.get(name).is_some_and(|bases| !bases.contains(&base)) {
                let apart = name::of_secret_apart(name, &base);
                is_other |= apart != *name;
                *name = apart;
            }
            names.push(name.clone());
        }
        if is_other {
            tool.implementation = format!("{START}{operation};\n{code}");
        }
        names
    }
}

fn base_of(operation: &Value) -> String {
    operation.get("base").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Where an operation names its secrets.
fn secrets(operation: &mut Value) -> impl Iterator<Item = &mut String> {
    let keys = operation.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten();
    let members = keys.filter_map(Value::as_object_mut).flatten();
    members.filter_map(|(word, value)| match value {
        Value::String(name) if matches!(word.as_str(), "secret" | "username") => Some(name),
        _ => None,
    })
}
