//! A definition as rows, and back: the columns for people and SQL, `details` for what has no column.

use serde_json::{Map, Value};

use super::row::Row;
use super::{MAX_PARAMETER_BYTES, Rows};
use crate::definition::ServerDefinition;
use crate::{Error, ErrorKind, Result};

type Object = Map<String, Value>;

/// How one kind of item maps to its table.
pub(super) struct ItemTable {
    /// Key of the list in a definition.
    pub(super) list: &'static str,
    /// Column and key of each field that has a column, in the order in which the table's SQL reads them.
    fields: &'static [Field],
}

struct Field {
    key: &'static str,
    /// What an absent field is stored as; `None` stores NULL.
    absent: Option<&'static str>,
    /// Whether the column holds JSON text.
    json: bool,
}

const fn text(key: &'static str) -> Field {
    Field { key, absent: None, json: false }
}

const fn json(key: &'static str, absent: &'static str) -> Field {
    Field { key, absent: Some(absent), json: true }
}

pub(super) const TOOLS: ItemTable = ItemTable {
    list: "tools",
    fields: &[text("name"), text("description"), json("parameters", "{}"), text("implementation")],
};
pub(super) const RESOURCES: ItemTable = ItemTable {
    list: "resources",
    fields: &[text("uri"), text("name"), text("description"), text("mimeType"), text("implementation")],
};
pub(super) const PROMPTS: ItemTable = ItemTable {
    list: "prompts",
    fields: &[text("name"), text("description"), text("template"), json("arguments", "[]")],
};

/// The columns and fields of a server itself.
const SERVER_FIELDS: &[Field] = &[text("name"), text("description"), text("version")];

/// A definition taken apart.
pub(super) struct DefinitionRows {
    /// What remains of the server without its columns and items.
    pub(super) rest: Value,
    /// Rows of the three kinds of items, as JSON arrays for `json_each`, none over the parameter limit.
    pub(super) tools: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) prompts: Vec<String>,
}

/// Takes a definition apart. Every item's `details` carries `write_id`.
pub(super) fn split(definition: &ServerDefinition, write_id: &str) -> Result<DefinitionRows> {
    let mut server = into_object(serde_json::to_value(definition).map_err(unwritable)?)?;
    let mut items = |table: &ItemTable| chunks(rows(server.remove(table.list), table, write_id)?);
    let (tools, resources, prompts) = (items(&TOOLS)?, items(&RESOURCES)?, items(&PROMPTS)?);
    for field in SERVER_FIELDS {
        take(&mut server, field);
    }
    Ok(DefinitionRows { rest: Value::Object(server), tools, resources, prompts })
}

/// Puts a definition together: `server` is the row of its columns and then the rest.
pub(super) fn join(server: Row<'_>, tools: &Rows, resources: &Rows, prompts: &Rows) -> Result<ServerDefinition> {
    let mut definition = whole(server, SERVER_FIELDS)?;
    for (table, rows) in [(&TOOLS, tools), (&RESOURCES, resources), (&PROMPTS, prompts)] {
        let items = rows.iter().map(|row| whole(Row(row), table.fields).map(Value::Object));
        definition.insert(table.list.to_owned(), Value::Array(items.collect::<Result<_>>()?));
    }
    serde_json::from_value(Value::Object(definition)).map_err(|source| {
        Error::new(ErrorKind::Unexpected, "the database holds a definition that does not read").with_source(source)
    })
}

/// The rows of one list, each `[column, …, details]` as JSON text.
fn rows(list: Option<Value>, table: &ItemTable, write_id: &str) -> Result<Vec<String>> {
    let Some(Value::Array(items)) = list else { return Ok(Vec::new()) };
    let row = |(position, item): (usize, Value)| {
        let mut item = into_object(item)?;
        // A resource template has its address in the column too, and stays told apart by its own key.
        if let Some(template) = item.get("uriTemplate").cloned() {
            item.entry("uri").or_insert(template);
        }
        let mut columns: Vec<Value> = table.fields.iter().map(|field| take(&mut item, field)).collect();
        let details = serde_json::json!({ "position": position, "writeId": write_id, "definition": item });
        columns.push(Value::String(details.to_string()));
        Ok(Value::Array(columns).to_string())
    };
    items.into_iter().enumerate().map(row).collect()
}

/// Takes the value of a field's column out of an object.
///
/// SQLite's JSON functions end a text at NUL, so a text with one stays in `details`, which is JSON and keeps it
/// escaped; the column shows it replaced.
fn take(object: &mut Object, field: &Field) -> Value {
    match object.get(field.key) {
        None => field.absent.map_or(Value::Null, Value::from),
        Some(Value::String(text)) if text.contains('\0') => Value::from(text.replace('\0', "\u{fffd}")),
        Some(_) if field.json => object.remove(field.key).map_or(Value::Null, |value| Value::from(value.to_string())),
        Some(_) => object.remove(field.key).unwrap_or_default(),
    }
}

/// An object from its columns and, behind them, the rest of it as JSON. What the rest has wins.
fn whole(row: Row<'_>, fields: &[Field]) -> Result<Object> {
    let mut object: Object = row.json(fields.len())?;
    for (column, field) in fields.iter().enumerate() {
        let replaced = object.contains_key(field.key) || (field.key == "uri" && object.contains_key("uriTemplate"));
        if replaced || row.optional_text(column)?.is_none() {
            continue;
        }
        let value = if field.json { row.json(column)? } else { Value::from(row.text(column)?) };
        object.insert(field.key.to_owned(), value);
    }
    Ok(object)
}

/// Packs rows into JSON arrays that stay below the limit of one parameter; at least one array.
fn chunks(rows: Vec<String>) -> Result<Vec<String>> {
    let mut chunks = Vec::new();
    let mut current = String::from("[");
    for row in rows {
        if row.len() + 2 > MAX_PARAMETER_BYTES {
            let message = format!("one item of the definition takes {} bytes, over {MAX_PARAMETER_BYTES}", row.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("move large data out of the body"));
        }
        if current.len() + row.len() + 2 > MAX_PARAMETER_BYTES {
            chunks.push(format!("{current}]"));
            current = String::from("[");
        }
        if current.len() > 1 {
            current.push(',');
        }
        current.push_str(&row);
    }
    chunks.push(format!("{current}]"));
    Ok(chunks)
}

fn into_object(value: Value) -> Result<Object> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Error::new(ErrorKind::Unexpected, "a definition did not serialize to an object")),
    }
}

fn unwritable(source: serde_json::Error) -> Error {
    Error::new(ErrorKind::Unexpected, "a definition did not serialize").with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed_in_order_below_the_limit() {
        let rows: Vec<String> = (0..4).map(|n| format!("\"{}\"", n.to_string().repeat(600_000))).collect();
        let packed = chunks(rows.clone()).unwrap();
        assert!(packed.iter().all(|chunk| chunk.len() <= MAX_PARAMETER_BYTES));
        let all: Vec<Vec<String>> = packed.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
        assert_eq!(all.concat().iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>(), rows);
    }

    #[test]
    fn an_item_over_the_limit_of_one_value_is_refused() {
        let error = chunks(vec!["x".repeat(MAX_PARAMETER_BYTES)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}
