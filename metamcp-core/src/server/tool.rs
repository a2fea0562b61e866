//! [`ToolEntry`]: one tool of the table, made from a typed function.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use jsonschema::Validator;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::schema;
use crate::keys::Scope;
use crate::{Error, ErrorKind, Result, ValidationErrors};

/// What a tool does to the world, as its annotations say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    Reads,
    /// Adds something; nothing is lost.
    Adds,
    /// Replaces or removes something.
    Changes,
    /// Runs code that was written by others.
    Runs,
}

impl Effect {
    fn annotations(self) -> ToolAnnotations {
        let annotations = ToolAnnotations::new();
        match self {
            Self::Reads => annotations.read_only(true),
            Self::Adds => annotations.destructive(false),
            Self::Changes | Self::Runs => annotations.destructive(true),
        }
    }
}

type Run = Box<dyn Fn(Call, Value) -> BoxFuture<'static, Result<CallToolResponse>> + Send + Sync>;

/// One tool: what agents see of it, what it needs, and what it does.
pub(super) struct ToolEntry {
    pub(super) tool: Tool,
    pub(super) scope: Scope,
    pub(super) effect: Effect,
    /// Whether its calls are written down.
    pub(super) is_audited: bool,
    /// Arguments that say what a call is about, beside the server.
    pub(super) about: &'static [&'static str],
    arguments: Value,
    validator: Validator,
    run: Run,
}

impl fmt::Debug for ToolEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolEntry").field("name", &self.tool.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A tool whose result is data of one type.
pub(super) fn typed<P, O, F>(
    name: &'static str,
    scope: Scope,
    effect: Effect,
    description: &'static str,
    run: impl Fn(Call, P) -> F + Send + Sync + Copy + 'static,
) -> ToolEntry
where
    P: DeserializeOwned + JsonSchema + Send + 'static,
    O: Serialize + JsonSchema,
    F: Future<Output = Result<O>> + Send + 'static,
{
    let mut entry = open::<P, _>(name, scope, effect, description, move |call, params| {
        let work = run(call, params);
        async move { structured(&work.await?) }
    });
    entry.tool.output_schema = Some(schema::of_result::<O>());
    entry
}

/// A tool that answers what another server's tool says, or asks back.
pub(super) fn open<P, F>(
    name: &'static str,
    scope: Scope,
    effect: Effect,
    description: &'static str,
    run: impl Fn(Call, P) -> F + Send + Sync + Copy + 'static,
) -> ToolEntry
where
    P: DeserializeOwned + JsonSchema + Send + 'static,
    F: Future<Output = Result<CallToolResponse>> + Send + 'static,
{
    let arguments = schema::of_arguments::<P>();
    let mut input = arguments.as_object().cloned().unwrap_or_default();
    // Arguments that are not known are refused by name; saying so in each tool would be paid for by every agent.
    input.remove("additionalProperties");
    let mut tool = Tool::new(Cow::Borrowed(name), Cow::Borrowed(description), Arc::new(input));
    tool.annotations = Some(effect.annotations());
    let validator = jsonschema::draft202012::new(&arguments).expect("schemas made from types are schemas");
    let run: Run = Box::new(move |call, arguments| {
        Box::pin(async move { run(call, serde_json::from_value(arguments).map_err(unreadable)?).await })
    });
    let is_audited = effect != Effect::Reads;
    ToolEntry { tool, scope, effect, is_audited, about: &[], arguments, validator, run }
}

impl ToolEntry {
    pub(super) fn name(&self) -> &str {
        &self.tool.name
    }

    /// Says which arguments tell what a call is about, for the audit log. Nothing that is secret.
    pub(super) fn about(mut self, arguments: &'static [&'static str]) -> Self {
        self.about = arguments;
        self
    }

    /// Leaves its calls out of the audit log.
    pub(super) fn unaudited(mut self) -> Self {
        self.is_audited = false;
        self
    }

    /// What a call is about, beside the server, as its arguments say.
    pub(super) fn subject(&self, arguments: &Value) -> Option<String> {
        let words: Vec<_> = self.about.iter().filter_map(|name| words_of(arguments.get(name)?)).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Runs the tool on arguments that have the shape it wants; else every problem of theirs is the answer.
    pub(super) async fn run(&self, call: Call, mut arguments: Value) -> Result<CallToolResponse> {
        let nulls = take_nulls(&mut arguments);
        let problems = schema::problems(&self.validator, &self.arguments, &arguments);
        if let Err(errors) = ValidationErrors::check(problems) {
            return Ok(failure("invalid_arguments", &errors.to_string().replacen("definition has", "call has", 1)));
        }
        (self.run)(call.with_nulls(nulls), arguments).await
    }
}

/// A value in a line; of an object, its fields.
fn words_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(words_of).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => Some(fields.keys().cloned().collect::<Vec<_>>().join(",")),
        other => Some(other.to_string()),
    }
}

/// Takes out the arguments that are `null`, and tells which: models send it for what they leave out.
fn take_nulls(arguments: &mut Value) -> Vec<String> {
    let Some(object) = arguments.as_object_mut() else { return Vec::new() };
    let nulls = object.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone()).collect();
    object.retain(|_, value| !value.is_null());
    nulls
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidDefinition, "the arguments cannot be read").with_source(error)
}

fn structured(output: &impl Serialize) -> Result<CallToolResponse> {
    let value = serde_json::to_value(output)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the result is no JSON").with_source(error))?;
    Ok(CallToolResult::structured(value).into())
}

/// An error as an agent reads it: what kind it is, what went wrong, and what to do next.
pub(super) fn error_response(error: &Error) -> CallToolResponse {
    let mut text = error.to_string();
    if error.is_retryable() || error.kind() == ErrorKind::Conflict {
        text.push_str("; the same call may succeed later");
    }
    failure(error.kind().as_str(), &text)
}

fn failure(kind: &str, text: &str) -> CallToolResponse {
    CallToolResult::error(vec![ContentBlock::text(format!("{kind}: {text}"))]).into()
}
