//! The calls of a verification: the probe, and the examples of tools.

use rmcp::model::{CallToolRequestParams, CallToolResult, JsonObject};
use rmcp::service::ServiceError;
use serde_json::Value;

use super::{Before, Failure, McpClient, differs};
use crate::definition::{Probe, ToolExample};
use crate::number::as_doubles;
use crate::validate::ValidDefinition;

/// What was not answered as it should be.
#[derive(Debug, Default)]
struct Wrong {
    found: Vec<String>,
    /// Whether some of it is certainly not of the version before.
    own: bool,
}

impl Wrong {
    fn push(&mut self, what: String, may_be_of_before: bool) {
        self.found.push(what);
        self.own |= !may_be_of_before;
    }
}

/// Makes all calls and returns their number. `before` is what may still answer instead.
pub(super) async fn run_calls(
    client: &McpClient,
    definition: &ValidDefinition,
    before: Before<'_>,
) -> Result<usize, Failure> {
    let (mut calls, mut wrong) = (0, Wrong::default());
    if let Some(probe) = definition.probe() {
        calls += 1;
        let result = call_tool(client, &probe.tool, &probe.arguments, before).await?;
        if result.is_error == Some(true) {
            let what = format!("the probe of tool {} answers an error: {}", probe.tool, text_of(&result));
            wrong.push(what, before.may_fail(probe));
        }
    }
    for tool in definition.tools() {
        for (index, example) in tool.examples.iter().enumerate() {
            calls += 1;
            let name = tool.name.as_str();
            let result = call_tool(client, name, &example.arguments, before).await?;
            if !matches(example, &result) {
                let seen = text_of(&result);
                let what = format!("example {index} of tool {name} answers {seen}, not {}", example.expected);
                wrong.push(what, before.may_answer(name, example, &result));
            }
        }
    }
    match wrong {
        Wrong { found, .. } if found.is_empty() => Ok(calls),
        Wrong { found, own: true } => Err(Failure::Own(differs(&found))),
        Wrong { found, own: false } => Err(Failure::Passing(differs(&found))),
    }
}

/// An `isError` result is an answer.
async fn call_tool(
    client: &McpClient,
    name: &str,
    arguments: &JsonObject,
    before: Before<'_>,
) -> Result<CallToolResult, Failure> {
    let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments.clone());
    client.peer().call_tool(params).await.map_err(|error| {
        // The version before may not know the tool.
        let is_own = matches!(error, ServiceError::McpError(_)) && matches!(before, Before::Nothing);
        let error = client.failed("tools/call", &error);
        if is_own { Failure::Own(error) } else { Failure::Passing(error) }
    })
}

impl Before<'_> {
    /// Whether it may fail a probe: not the one that it became live with.
    fn may_fail(self, probe: &Probe) -> bool {
        match self {
            Self::Nothing => false,
            Self::Checked(version) => version.probe() != Some(probe),
            Self::Unknown => true,
        }
    }

    /// Whether it may give this answer: where it has the same example, it gives the one that it became live with.
    fn may_answer(self, tool: &str, example: &ToolExample, result: &CallToolResult) -> bool {
        let version = match self {
            Self::Nothing => return false,
            Self::Checked(version) => version,
            Self::Unknown => return true,
        };
        let tool = version.tools().iter().find(|known| known.name.as_str() == tool);
        let same = tool.and_then(|tool| tool.examples.iter().find(|known| known.arguments == example.arguments));
        same.is_none_or(|known| matches(known, result))
    }
}

/// The rules of [`ToolExample::expected`].
fn matches(example: &ToolExample, result: &CallToolResult) -> bool {
    if result.is_error == Some(true) {
        return false;
    }
    let expected = &example.expected;
    if expected.get("content").is_some_and(Value::is_array) {
        let content = serde_json::to_value(&result.content).unwrap_or_default();
        return expected.get("content") == Some(&content);
    }
    if let Some(structured) = &result.structured_content {
        return as_doubles(structured) == as_doubles(expected);
    }
    let [block] = result.content.as_slice() else { return false };
    let Some(text) = block.as_text() else { return false };
    match expected {
        Value::String(wanted) => text.text == *wanted,
        other => serde_json::from_str::<Value>(&text.text).is_ok_and(|value| as_doubles(&value) == as_doubles(other)),
    }
}

/// The first text of a result, cut: enough to see what went wrong.
fn text_of(result: &CallToolResult) -> String {
    let text = result.content.iter().find_map(|block| block.as_text()).map_or("no text", |text| text.text.as_str());
    let short: String = text.chars().take(300).collect();
    format!("{short:?}")
}
