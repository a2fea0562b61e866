//! Tools, their examples, and the probe.

use serde_json::{Map, Value};

use super::javascript::{BodyChecker, Signature};
use super::problems::{Path, Problems, did_you_mean, quote};
use super::schema::Verdict;
use super::valid::{EffectiveLimits, ValidTool};
use super::{limits, schema, text};
use crate::definition::{Probe, ToolDefinition};

const EXAMPLES: usize = 32;
/// Largest arguments or expected result of an example, as JSON.
const EXAMPLE_BYTES: usize = 64 * 1024;
const EXAMPLE_DEPTH: usize = 64;

/// Checks one tool; that its name is the only one is checked with the others.
pub(super) fn check(
    path: &Path,
    tool: &ToolDefinition,
    inherited: EffectiveLimits,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Option<ValidTool> {
    let name = problems.parse(&path.key("name"), &tool.name);
    if let Some(title) = &tool.title {
        text::title(&path.key("title"), title, problems);
    }
    text::required_description(&path.key("description"), &tool.description, problems);
    let input_schema = schema::of_parameters(&path.key("parameters"), &tool.parameters, problems);
    let output = tool.output_schema.as_ref();
    let output_schema = output.and_then(|output| schema::of_output(&path.key("outputSchema"), output, problems));
    if let Some(annotations) = &tool.annotations {
        check_annotations(&path.key("annotations"), annotations, problems);
    }
    let limits = limits::item(&path.key("limits"), &tool.limits, inherited, problems);
    check_examples(&path.key("examples"), tool, input_schema.as_ref(), output_schema.as_ref(), problems);
    bodies.check(&path.key("implementation"), &tool.implementation, Signature::Parameters, problems);
    Some(ValidTool {
        name: name?,
        title: tool.title.clone(),
        description: tool.description.clone(),
        input_schema: input_schema?,
        output_schema,
        annotations: tool.annotations.clone(),
        limits,
        examples: tool.examples.clone(),
        implementation: tool.implementation.clone(),
    })
}

fn check_examples(
    path: &Path,
    tool: &ToolDefinition,
    schema: Option<&Map<String, Value>>,
    output_schema: Option<&Value>,
    problems: &mut Problems,
) {
    if tool.examples.len() > EXAMPLES {
        return problems.add(path, format!("has {} entries; at most {EXAMPLES} are allowed", tool.examples.len()));
    }
    if tool.examples.is_empty() {
        return;
    }
    let input = schema.and_then(|schema| Arguments::of(path, schema, problems));
    let output = output_schema.and_then(|schema| Verdict::noted(path, schema, problems));
    for (index, example) in tool.examples.iter().enumerate() {
        let path = path.index(index);
        let arguments = Value::Object(example.arguments.clone());
        if is_within_bounds(&path.key("arguments"), &arguments, problems)
            && let Some(input) = &input
        {
            input.check(&path.key("arguments"), &example.arguments, problems);
        }
        let expected = &example.expected;
        // A whole result is compared by its content, which the schema does not describe.
        if is_within_bounds(&path.key("expected"), expected, problems)
            && let Some(output) = &output
            && !expected.get("content").is_some_and(Value::is_array)
        {
            output.check(&path.key("expected"), expected, "does not match the tool's output schema", problems);
        }
    }
}

/// What arguments of a tool are checked against, made once for all of its examples.
struct Arguments {
    schema: Value,
    verdict: Verdict,
}

impl Arguments {
    fn of(path: &Path, schema: &Map<String, Value>, problems: &mut Problems) -> Option<Self> {
        let schema = Value::Object(schema.clone());
        let verdict = Verdict::noted(path, &schema, problems)?;
        Some(Self { schema, verdict })
    }

    fn check(&self, path: &Path, arguments: &Map<String, Value>, problems: &mut Problems) {
        let mut arguments = arguments.clone();
        schema::fill_defaults(&self.schema, &mut arguments);
        self.verdict.check(path, &arguments.into(), "does not match the tool's parameters", problems);
    }
}

fn is_within_bounds(path: &Path, value: &Value, problems: &mut Problems) -> bool {
    if schema::is_deeper_than(value, EXAMPLE_DEPTH) {
        problems.add(path, format!("nests deeper than {EXAMPLE_DEPTH} levels"));
        return false;
    }
    let bytes = value.to_string().len();
    if bytes > EXAMPLE_BYTES {
        problems.add(path, format!("is {bytes} bytes of JSON; at most {EXAMPLE_BYTES} are allowed"));
        return false;
    }
    true
}

/// The probe calls a tool that exists with arguments that it accepts. `tools` holds the good ones.
pub(super) fn check_probe(probe: &Probe, written: &[ToolDefinition], tools: &[ValidTool], problems: &mut Problems) {
    let path = Path::root().key("probe");
    if !written.iter().any(|tool| tool.name == probe.tool) {
        let near = did_you_mean(&probe.tool, written.iter().map(|tool| tool.name.as_str()));
        let hint = "name a tool of this server that is safe to call at any time";
        return problems.add(&path.key("tool"), format!("there is no tool {}{near}; {hint}", quote(&probe.tool)));
    }
    let arguments = Value::Object(probe.arguments.clone());
    if is_within_bounds(&path.key("arguments"), &arguments, problems)
        && let Some(tool) = tools.iter().find(|tool| tool.name.as_str() == probe.tool)
    {
        let path = path.key("arguments");
        if let Some(input) = Arguments::of(&path, &tool.input_schema, problems) {
            input.check(&path, &probe.arguments, problems);
        }
    }
}

fn check_annotations(path: &Path, annotations: &Map<String, Value>, problems: &mut Problems) {
    const HINTS: [&str; 4] = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
    for (name, value) in annotations {
        let path = path.key(name);
        match value {
            Value::String(title) if name == "title" => text::title(&path, title, problems),
            _ if name == "title" => problems.add(&path, "must be a text"),
            Value::Bool(_) if HINTS.contains(&name.as_str()) => {}
            _ if HINTS.contains(&name.as_str()) => problems.add(&path, "must be true or false"),
            _ => {
                let near = did_you_mean(name, HINTS);
                let message =
                    format!("{} is no annotation of a tool{near}; known are title, {}", quote(name), HINTS.join(", "));
                problems.add(&path, message);
            }
        }
    }
}
