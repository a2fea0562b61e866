//! Definitions as JSON: every wrong type, unknown and missing field at once, before serde stops at the first.

mod explain;
mod repair;

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::errors::{Problem, ValidationErrors};
use super::valid::ValidDefinition;
use crate::definition::ServerDefinition;
use explain::Flaw;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("definition.schema.json")).expect("the schema of definitions is JSON")
});
static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&SCHEMA).expect("the schema of definitions is a schema"));

/// Most flaws of shape that are reported: the rest is more of the same.
const FLAWS: usize = 500;
/// Order of the fields, in which problems are reported.
const FIELDS: [&str; 18] = [
    "name",
    "description",
    "version",
    "template",
    "options",
    "tools",
    "resources",
    "prompts",
    "dependencies",
    "vars",
    "secrets",
    "bindings",
    "egress",
    "sessions",
    "cache",
    "auth",
    "limits",
    "probe",
];

/// JSON Schema 2020-12 of a [`ServerDefinition`], for agents that write one. It has the shape; the rules that a
/// schema cannot say are [`validate`](crate::validate())'s.
pub fn definition_schema() -> &'static Value {
    &SCHEMA
}

impl ServerDefinition {
    /// Reads a definition from JSON. Unlike `serde_json::from_value` it reports every wrong type, unknown field
    /// and missing field at once, each with its pointer.
    ///
    /// ```
    /// use metamcp_core::ServerDefinition;
    ///
    /// let errors = ServerDefinition::from_json(&serde_json::json!({
    ///     "name": "greeter",
    ///     "descripton": "Says hello",
    ///     "tools": {}
    /// }))
    /// .unwrap_err();
    /// assert_eq!(errors.problems().len(), 3);
    /// ```
    pub fn from_json(value: &Value) -> Result<Self, ValidationErrors> {
        let flaws = find_flaws(value);
        ValidationErrors::check(flaws.into_iter().map(|flaw| flaw.problem).collect())?;
        read(value.clone()).map_err(|problem| ValidationErrors::from_problems(vec![problem]))
    }
}

/// [`ServerDefinition::from_json`] and [`validate`](crate::validate()) in one: also where the shape is wrong, the
/// rest is checked, so that one answer has every problem that can be known.
pub fn validate_json(value: &Value) -> Result<ValidDefinition, ValidationErrors> {
    let flaws = find_flaws(value);
    if flaws.is_empty() {
        return super::validate(&ServerDefinition::from_json(value)?);
    }
    let beyond = read(repair::repair(value, &flaws)).ok().and_then(|repaired| super::validate(&repaired).err());
    let beyond = beyond.map_or_else(Vec::new, |errors| errors.problems().to_vec());
    let known = beyond.into_iter().filter(|problem| !repair::is_consequence(problem, &flaws));
    let mut problems: Vec<_> = known.collect();
    problems.extend(flaws.into_iter().map(|flaw| flaw.problem));
    problems.sort_by_cached_key(|problem| place_in_definition(&problem.pointer));
    Err(ValidationErrors::from_problems(problems))
}

/// Every flaw of shape of some JSON under a schema without references outside itself.
#[cfg(feature = "server")]
pub(crate) fn check_shape(validator: &Validator, schema: &Value, value: &Value) -> Vec<Problem> {
    flaws_under(validator, schema, value).map(|flaw| flaw.problem).collect()
}

fn flaws_under<'a>(validator: &'a Validator, schema: &'a Value, value: &'a Value) -> impl Iterator<Item = Flaw> {
    validator.iter_errors(value).flat_map(|error| explain::explain(&error, schema)).take(FLAWS)
}

fn find_flaws(value: &Value) -> Vec<Flaw> {
    let mut flaws: Vec<_> = flaws_under(&VALIDATOR, &SCHEMA, value).collect();
    flaws.sort_by_cached_key(|flaw| place_in_definition(&flaw.problem.pointer));
    flaws
}

fn read(value: Value) -> Result<ServerDefinition, Problem> {
    serde_json::from_value(value).map_err(|error| Problem {
        pointer: String::new(),
        message: format!("cannot be read: {error}"),
        line: None,
        column: None,
    })
}

/// Rank of the top-level field and the index within it.
fn place_in_definition(pointer: &str) -> (usize, usize) {
    let mut parts = pointer.split('/').skip(1);
    let field = parts.next().and_then(|field| FIELDS.iter().position(|known| *known == field));
    let index = parts.next().and_then(|index| index.parse().ok()).unwrap_or(0);
    let unknown = if pointer.is_empty() { 0 } else { FIELDS.len() };
    (field.map_or(unknown, |field| field + 1), index)
}
