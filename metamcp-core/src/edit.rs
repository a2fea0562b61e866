//! Editing one tool, resource or prompt of a definition: pure functions that give a new definition.
//!
//! What they give is a definition as written, not a checked one: [`validate`](crate::validate()) comes before it
//! is stored. Adding what is already there is a no-op, so that a repeated call does no harm.

use crate::definition::{PromptDefinition, ResourceDefinition, ServerDefinition, ToolDefinition};
use crate::validate::nearest;
use crate::{Error, ErrorKind, Result};

/// A definition with `tool` at the end of its tools. `AlreadyExists` if another tool has its name.
///
/// ```
/// use metamcp_core::{ServerDefinition, ToolDefinition, edit};
/// use serde_json::json;
///
/// let empty: ServerDefinition = serde_json::from_value(json!({ "name": "a", "description": "A server" }))?;
/// let tool: ToolDefinition = serde_json::from_value(json!({
///     "name": "now", "description": "Tells the time", "implementation": "return new Date().toISOString();"
/// }))?;
/// let once = edit::add_tool(&empty, tool.clone())?;
/// assert_eq!(edit::add_tool(&once, tool)?, once);
/// assert_eq!(edit::remove_tool(&once, "now")?, empty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_tool(definition: &ServerDefinition, tool: ToolDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| add(&mut new.tools, tool))
}

/// A definition whose tool of the same name is `tool`. `NotFound` if there is none.
pub fn update_tool(definition: &ServerDefinition, tool: ToolDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| update(&mut new.tools, tool))
}

/// A definition whose tool `name` is called `new_name`; the probe follows. `NotFound` if there is none,
/// `AlreadyExists` if `new_name` is another's.
pub fn rename_tool(definition: &ServerDefinition, name: &str, new_name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| {
        rename(&mut new.tools, name, new_name)?;
        if let Some(probe) = new.probe.as_mut().filter(|probe| probe.tool == name) {
            new_name.clone_into(&mut probe.tool);
        }
        Ok(())
    })
}

/// A definition without the tool `name`, and without the probe if that calls it. `NotFound` if there is none.
pub fn remove_tool(definition: &ServerDefinition, name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| {
        remove(&mut new.tools, name)?;
        new.probe.take_if(|probe| probe.tool == name);
        Ok(())
    })
}

/// A definition with `resource` at the end of its resources. `AlreadyExists` if another one has its name.
pub fn add_resource(definition: &ServerDefinition, resource: ResourceDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| add(&mut new.resources, resource))
}

/// A definition whose resource of the same name is `resource`. `NotFound` if there is none.
pub fn update_resource(definition: &ServerDefinition, resource: ResourceDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| update(&mut new.resources, resource))
}

/// A definition whose resource `name` is called `new_name`; its address stays. Errors as in [`rename_tool`].
pub fn rename_resource(definition: &ServerDefinition, name: &str, new_name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| rename(&mut new.resources, name, new_name))
}

/// A definition without the resource `name`. `NotFound` if there is none.
pub fn remove_resource(definition: &ServerDefinition, name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| remove(&mut new.resources, name))
}

/// A definition with `prompt` at the end of its prompts. `AlreadyExists` if another one has its name.
pub fn add_prompt(definition: &ServerDefinition, prompt: PromptDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| add(&mut new.prompts, prompt))
}

/// A definition whose prompt of the same name is `prompt`. `NotFound` if there is none.
pub fn update_prompt(definition: &ServerDefinition, prompt: PromptDefinition) -> Result<ServerDefinition> {
    changed(definition, |new| update(&mut new.prompts, prompt))
}

/// A definition whose prompt `name` is called `new_name`. Errors as in [`rename_tool`].
pub fn rename_prompt(definition: &ServerDefinition, name: &str, new_name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| rename(&mut new.prompts, name, new_name))
}

/// A definition without the prompt `name`. `NotFound` if there is none.
pub fn remove_prompt(definition: &ServerDefinition, name: &str) -> Result<ServerDefinition> {
    changed(definition, |new| remove(&mut new.prompts, name))
}

/// A tool, resource or prompt: something with a name that is its own.
trait Item: PartialEq {
    const KIND: &str;
    fn name(&self) -> &str;
    fn name_mut(&mut self) -> &mut String;

    /// Whether two items of these names cannot both be there.
    fn clashes(a: &str, b: &str) -> bool {
        a.eq_ignore_ascii_case(b)
    }
}

impl Item for ToolDefinition {
    const KIND: &str = "tool";

    fn name(&self) -> &str {
        &self.name
    }

    fn name_mut(&mut self) -> &mut String {
        &mut self.name
    }
}

impl Item for ResourceDefinition {
    const KIND: &str = "resource";

    fn name(&self) -> &str {
        &self.name
    }

    fn name_mut(&mut self) -> &mut String {
        &mut self.name
    }

    fn clashes(a: &str, b: &str) -> bool {
        a == b
    }
}

impl Item for PromptDefinition {
    const KIND: &str = "prompt";

    fn name(&self) -> &str {
        &self.name
    }

    fn name_mut(&mut self) -> &mut String {
        &mut self.name
    }
}

fn changed(
    definition: &ServerDefinition,
    change: impl FnOnce(&mut ServerDefinition) -> Result<()>,
) -> Result<ServerDefinition> {
    let mut new = definition.clone();
    change(&mut new)?;
    Ok(new)
}

fn add<T: Item>(items: &mut Vec<T>, item: T) -> Result<()> {
    match items.iter().find(|other| T::clashes(other.name(), item.name())) {
        Some(same) if *same == item => Ok(()),
        Some(other) => Err(already_exists::<T>(other.name())),
        None => {
            items.push(item);
            Ok(())
        }
    }
}

fn update<T: Item>(items: &mut [T], item: T) -> Result<()> {
    let index = position(items, item.name())?;
    items[index] = item;
    Ok(())
}

fn rename<T: Item>(items: &mut [T], name: &str, new_name: &str) -> Result<()> {
    let index = position(items, name)?;
    let other = items.iter().enumerate().find(|(other, item)| *other != index && T::clashes(item.name(), new_name));
    if let Some((_, other)) = other {
        return Err(already_exists::<T>(other.name()));
    }
    new_name.clone_into(items[index].name_mut());
    Ok(())
}

fn remove<T: Item>(items: &mut Vec<T>, name: &str) -> Result<()> {
    let index = position(items, name)?;
    items.remove(index);
    Ok(())
}

fn position<T: Item>(items: &[T], name: &str) -> Result<usize> {
    items.iter().position(|item| item.name() == name).ok_or_else(|| not_found(items, name))
}

fn already_exists<T: Item>(name: &str) -> Error {
    let kind = T::KIND;
    Error::new(ErrorKind::AlreadyExists, format!("{kind} {name:?} already exists"))
        .with_help(format!("update that {kind} instead, or choose another name"))
}

fn not_found<T: Item>(items: &[T], name: &str) -> Error {
    let kind = T::KIND;
    let short: String = name.chars().take(128).collect();
    let error = Error::new(ErrorKind::NotFound, format!("{kind} {short:?} does not exist"));
    if items.is_empty() {
        return error.with_help(format!("the server has no {kind} yet; add it"));
    }
    if let Some(near) = nearest(name, items.iter().map(Item::name)) {
        return error.with_help(format!("did you mean {near:?}?"));
    }
    let names: Vec<_> = items.iter().take(20).map(Item::name).collect();
    let more = if items.len() > names.len() { ", …" } else { "" };
    error.with_help(format!("its {kind}s are {}{more}", names.join(", ")))
}
