//! Adding, changing and removing one tool, resource or prompt.

mod params;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use params::{
    AddPrompt, AddResource, AddTool, RemovePrompt, RemoveResource, RemoveTool, UpdatePrompt, UpdateResource, UpdateTool,
};

use crate::definition::ServerDefinition;
use crate::registry::ServerRecord;
use crate::server::call::{Call, ServerArg};
use crate::validate::{Problem, ValidationErrors};
use crate::validated::validated_json;
use crate::{Error, ErrorKind, Result, edit};

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Edited {
    server_id: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_revision: Option<u64>,
}

impl From<ServerRecord> for Edited {
    fn from(record: ServerRecord) -> Self {
        Self {
            server_id: record.id.to_string(),
            revision: record.revision.0,
            live_revision: record.live.map(|live| live.revision.0),
        }
    }
}

pub(in crate::server) async fn add_tool(call: Call, params: AddTool) -> Result<Edited> {
    add(&call, &params.server_id, Section::Tools, fields(&params, Section::Tools)).await
}

pub(in crate::server) async fn update_tool(call: Call, params: UpdateTool) -> Result<Edited> {
    let given = fields(&params, Section::Tools);
    update(&call, &params.server_id, Section::Tools, &params.tool_name, params.new_name.as_deref(), given).await
}

pub(in crate::server) async fn remove_tool(call: Call, params: RemoveTool) -> Result<Edited> {
    remove(&call, &params.server_id, Section::Tools, &params.tool_name).await
}

pub(in crate::server) async fn add_resource(call: Call, params: AddResource) -> Result<Edited> {
    add(&call, &params.server_id, Section::Resources, fields(&params, Section::Resources)).await
}

pub(in crate::server) async fn update_resource(call: Call, params: UpdateResource) -> Result<Edited> {
    let given = fields(&params, Section::Resources);
    update(&call, &params.server_id, Section::Resources, &params.name, params.new_name.as_deref(), given).await
}

pub(in crate::server) async fn remove_resource(call: Call, params: RemoveResource) -> Result<Edited> {
    remove(&call, &params.server_id, Section::Resources, &params.name).await
}

pub(in crate::server) async fn add_prompt(call: Call, params: AddPrompt) -> Result<Edited> {
    add(&call, &params.server_id, Section::Prompts, fields(&params, Section::Prompts)).await
}

pub(in crate::server) async fn update_prompt(call: Call, params: UpdatePrompt) -> Result<Edited> {
    let given = fields(&params, Section::Prompts);
    update(&call, &params.server_id, Section::Prompts, &params.prompt_name, params.new_name.as_deref(), given).await
}

pub(in crate::server) async fn remove_prompt(call: Call, params: RemovePrompt) -> Result<Edited> {
    remove(&call, &params.server_id, Section::Prompts, &params.prompt_name).await
}

/// Where in a definition an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Tools,
    Resources,
    Prompts,
}

impl Section {
    /// The definition's field.
    fn field(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Prompts => "prompts",
        }
    }

    /// Fields of which an item has one.
    fn either(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Tools => None,
            Self::Resources => Some(["uri", "uriTemplate"]),
            Self::Prompts => Some(["template", "implementation"]),
        }
    }

    /// What the arguments call an item's name.
    fn name_argument(self) -> &'static str {
        match self {
            Self::Tools => "toolName",
            Self::Resources => "name",
            Self::Prompts => "promptName",
        }
    }

    fn add(self, definition: &ServerDefinition, item: Value) -> Result<ServerDefinition> {
        match self {
            Self::Tools => edit::add_tool(definition, read(item)?),
            Self::Resources => edit::add_resource(definition, read(item)?),
            Self::Prompts => edit::add_prompt(definition, read(item)?),
        }
    }

    fn update(self, definition: &ServerDefinition, item: Value) -> Result<ServerDefinition> {
        match self {
            Self::Tools => edit::update_tool(definition, read(item)?),
            Self::Resources => edit::update_resource(definition, read(item)?),
            Self::Prompts => edit::update_prompt(definition, read(item)?),
        }
    }

    fn rename(self, definition: &ServerDefinition, name: &str, new_name: &str) -> Result<ServerDefinition> {
        match self {
            Self::Tools => edit::rename_tool(definition, name, new_name),
            Self::Resources => edit::rename_resource(definition, name, new_name),
            Self::Prompts => edit::rename_prompt(definition, name, new_name),
        }
    }

    fn remove(self, definition: &ServerDefinition, name: &str) -> Result<ServerDefinition> {
        match self {
            Self::Tools => edit::remove_tool(definition, name),
            Self::Resources => edit::remove_resource(definition, name),
            Self::Prompts => edit::remove_prompt(definition, name),
        }
    }
}

async fn add(call: &Call, server: &ServerArg, section: Section, item: Map<String, Value>) -> Result<Edited> {
    let key = call.server(server).await?;
    let item = &item;
    let edited = call.edit(&key, |definition| async move {
        check(&definition, section, item).await?;
        section.add(&definition, Value::Object(item.clone()))
    });
    Ok(edited.await?.into())
}

async fn update(
    call: &Call,
    server: &ServerArg,
    section: Section,
    name: &str,
    new_name: Option<&str>,
    given: Map<String, Value>,
) -> Result<Edited> {
    let key = call.server(server).await?;
    let given = &given;
    let edited = call.edit(&key, |definition| async move {
        let new_name = new_name.unwrap_or(name);
        let renamed = section.rename(&definition, name, new_name)?;
        let mut item = item_of(&renamed, section, new_name).1;
        change(&mut item, section, given, call.nulls());
        item.insert("name".to_owned(), new_name.into());
        check(&renamed, section, &item).await?;
        section.update(&renamed, Value::Object(item))
    });
    Ok(edited.await?.into())
}

async fn remove(call: &Call, server: &ServerArg, section: Section, name: &str) -> Result<Edited> {
    let key = call.server(server).await?;
    let servers = call.meta.servers();
    let edited = servers.edit(&key, |definition| section.remove(definition, name));
    Ok(edited.await?.into())
}

/// Gives an item these fields, and takes those away that were given as `null` or that one of these stands in for.
fn change(item: &mut Map<String, Value>, section: Section, given: &Map<String, Value>, nulls: &[String]) {
    let replaced = section.either().filter(|fields| fields.iter().any(|field| given.contains_key(*field)));
    let is_replaced = |field: &str| replaced.is_some_and(|fields| fields.contains(&field));
    item.retain(|field, _| !nulls.contains(field) && !is_replaced(field));
    item.extend(given.clone());
}

/// The fields of an item that the arguments give, as a definition names them.
fn fields(params: &impl Serialize, section: Section) -> Map<String, Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(params) else { return Map::new() };
    fields.remove("serverId");
    fields.remove("newName");
    if let Some(name) = fields.remove(section.name_argument()) {
        fields.insert("name".to_owned(), name);
    }
    fields
}

/// Checks the definition with this item in it, so that all its problems are known at once, with pointers into the
/// arguments of the call.
async fn check(definition: &ServerDefinition, section: Section, item: &Map<String, Value>) -> Result<()> {
    let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
    let (index, _) = item_of(definition, section, name);
    let mut candidate = as_json(definition);
    if let Some(fields) = candidate.as_object_mut() {
        let items = fields.entry(section.field()).or_insert_with(|| json!([]));
        match items.get_mut(index) {
            Some(present) => *present = Value::Object(item.clone()),
            None => items.as_array_mut().into_iter().for_each(|items| items.push(Value::Object(item.clone()))),
        }
    }
    let Err(error) = validated_json(candidate).await else { return Ok(()) };
    let Some(errors) = error.validation() else { return Err(error) };
    let prefix = format!("/{}/{index}", section.field());
    let problems = errors.problems().iter().map(|problem| as_argument(problem, &prefix, section)).collect();
    Ok(ValidationErrors::check(problems)?)
}

/// The index of an item, or where it would be added, and the item itself.
fn item_of(definition: &ServerDefinition, section: Section, name: &str) -> (usize, Map<String, Value>) {
    let definition = as_json(definition);
    let items = definition[section.field()].as_array().map_or(&[][..], Vec::as_slice);
    let index = items.iter().position(|item| item["name"] == name).unwrap_or(items.len());
    (index, items.get(index).and_then(Value::as_object).cloned().unwrap_or_default())
}

fn as_argument(problem: &Problem, prefix: &str, section: Section) -> Problem {
    let pointer = match problem.pointer.strip_prefix(prefix) {
        Some("/name") => format!("/{}", section.name_argument()),
        Some(field) => field.to_owned(),
        None => problem.pointer.clone(),
    };
    Problem { pointer, ..problem.clone() }
}

fn as_json(definition: &ServerDefinition) -> Value {
    serde_json::to_value(definition).unwrap_or_default()
}

fn read<T: DeserializeOwned>(item: Value) -> Result<T> {
    serde_json::from_value(item)
        .map_err(|error| Error::new(ErrorKind::InvalidDefinition, "this cannot be read").with_source(error))
}
