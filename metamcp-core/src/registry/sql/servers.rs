//! Servers: their rows, written and read as wholes.

use serde_json::json;
use uuid::Uuid;

use super::definition_rows::{self, DefinitionRows};
use super::row::{Row, clock_stamp};
use super::{MAX_PARAMETER_BYTES, Rows, SqlExecutor, SqlRegistry, SqlValue, Statement, now};
use crate::name::{ServerId, ServerKey, ServerName};
use crate::registry::{
    Expect, ListOptions, LiveState, Page, Revision, ServerRecord, ServerSummary, revision_conflict, server_exists,
    server_lease, server_not_found,
};
use crate::validate::ValidDefinition;
use crate::{Error, ErrorKind, Result};

const INSERT: &str = concat!(
    "INSERT INTO mcp_servers (id, name, description, version, created_at, updated_at, status, details)
     VALUES (?, ?, ?, ?, ",
    now!(),
    ", ",
    now!(),
    ", 'draft', ?)
     ON CONFLICT DO NOTHING"
);

/// The new details bring digest and write id; revision and live state go over from the old ones.
const UPDATE: &str = concat!(
    "UPDATE mcp_servers SET description = ?, version = ?, updated_at = ",
    now!(),
    ", details = json_set(?, '$.revision', details ->> '$.revision' + 1, '$.live', json(details -> '$.live'))
     WHERE name = ? AND details ->> '$.revision' = CAST(? AS INTEGER) AND details ->> '$.digest' <> ?"
);

/// Items are written only below a server that carries this batch's write id, so only if the first statement
/// wrote. Items that are still there keep id and `created_at`.
macro_rules! upsert_items {
    ($table:literal, $columns:literal, $values:literal, $update:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (server_id, created_at, updated_at, ",
            $columns,
            ", details) SELECT s.id, s.updated_at, s.updated_at, ",
            $values,
            " FROM mcp_servers AS s CROSS JOIN json_each(?) AS r
             WHERE s.name = ? AND s.details ->> '$.writeId' = ?
             ON CONFLICT (server_id, name) DO UPDATE SET updated_at = excluded.updated_at, details = excluded.details, ",
            $update
        )
    };
}

const UPSERT_TOOLS: &str = upsert_items!(
    "mcp_tools",
    "name, description, parameters, implementation",
    "r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4",
    "description = excluded.description, parameters = excluded.parameters, implementation = excluded.implementation"
);
const UPSERT_RESOURCES: &str = upsert_items!(
    "mcp_resources",
    "uri, name, description, mime_type, implementation",
    "r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4, r.value ->> 5",
    "uri = excluded.uri, description = excluded.description, mime_type = excluded.mime_type,
     implementation = excluded.implementation"
);
const UPSERT_PROMPTS: &str = upsert_items!(
    "mcp_prompts",
    "name, description, template, arguments",
    "r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4",
    "description = excluded.description, template = excluded.template, arguments = excluded.arguments"
);

macro_rules! delete_old_items {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE server_id = (SELECT id FROM mcp_servers WHERE name = ? AND details ->> '$.writeId' = ?)
             AND details ->> '$.writeId' <> ?"
        )
    };
}

const DELETE_OLD: [&str; 3] =
    [delete_old_items!("mcp_tools"), delete_old_items!("mcp_resources"), delete_old_items!("mcp_prompts")];

/// A server's own row. The first four columns are those of `definition_rows`.
macro_rules! select_server {
    ($where:literal) => {
        concat!(
            "SELECT name, description, version, details -> '$.definition', id, status, deployment_url, container_id,
             details ->> '$.revision', details ->> '$.digest', details ->> '$.writeId', details -> '$.live', created_at,
             updated_at FROM mcp_servers WHERE ",
            $where
        )
    };
}

macro_rules! select_items {
    ($columns:literal, $table:literal, $where:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", details -> '$.definition' FROM ",
            $table,
            " WHERE server_id = ",
            $where,
            " ORDER BY details ->> '$.position'"
        )
    };
}

macro_rules! select_whole {
    ($server:literal, $items:literal) => {
        [
            select_server!($server),
            select_items!("name, description, parameters, implementation", "mcp_tools", $items),
            select_items!("uri, name, description, mime_type, implementation", "mcp_resources", $items),
            select_items!("name, description, template, arguments", "mcp_prompts", $items),
        ]
    };
}

const SELECT_BY_ID: [&str; 4] = select_whole!("id = ?", "?");
const SELECT_BY_NAME: [&str; 4] = select_whole!("name = ?", "(SELECT id FROM mcp_servers WHERE name = ?)");

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn write_server(&self, definition: &ValidDefinition, expect: Expect) -> Result<ServerRecord> {
        let write_id = Uuid::new_v4().to_string();
        let results = self.executor.execute(write_batch(definition, expect, &write_id)?).await?;
        let row = results.last().and_then(|rows| rows.first());
        let name = definition.name();
        let Some(row) = row else { return Err(server_not_found(&name.into())) };
        let head = Head::read(Row(row))?;
        if head.write_id == write_id || head.digest == definition.digest().to_string() {
            return Ok(head.into_record(definition.written().clone()));
        }
        Err(match expect {
            Expect::Absent => server_exists(name),
            Expect::Revision(expected) => revision_conflict(name, head.revision, expected),
        })
    }

    pub(super) async fn read_server(&self, key: &ServerKey) -> Result<ServerRecord> {
        server_record(key, &self.run(select_server(key)).await?)
    }

    pub(super) async fn read_revision(&self, key: &ServerKey) -> Result<(ServerId, Revision)> {
        let sql = match key {
            ServerKey::Id(_) => "SELECT id, details ->> '$.revision' FROM mcp_servers WHERE id = ?",
            ServerKey::Name(_) => "SELECT id, details ->> '$.revision' FROM mcp_servers WHERE name = ?",
        };
        let [rows] = self.run([Statement::new(sql, [key.to_string()])]).await?;
        let row = Row(rows.first().ok_or_else(|| server_not_found(key))?);
        Ok((ServerId(row.parsed(0)?), Revision(row.integer(1)?)))
    }

    pub(super) async fn read_page(&self, options: &ListOptions) -> Result<Page<ServerSummary>> {
        options.check()?;
        let few = match options.not_updated_since {
            Some(_) => self.old_servers_are_few(options).await?,
            None => false,
        };
        let [rows] = self.run([page_statement(options, few)]).await?;
        let limit = options.limit as usize;
        let items = rows.iter().take(limit).map(|row| summary(Row(row))).collect::<Result<Vec<_>>>()?;
        let next = items.last().filter(|_| rows.len() > limit).map(|last| last.name.clone());
        Ok(Page { items, next })
    }

    /// Whether so few servers are old enough that reading and sorting them is cheaper than going through the
    /// names until a page is full.
    async fn old_servers_are_few(&self, options: &ListOptions) -> Result<bool> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM mcp_servers WHERE updated_at < ? LIMIT 1000)";
        let [rows] = self.run([Statement::new(sql, [old(options)])]).await?;
        Ok(rows.first().is_some_and(|row| matches!(row.first(), Some(SqlValue::Integer(..1000)))))
    }

    pub(super) async fn write_container(&self, id: ServerId, container_id: Option<String>) -> Result<()> {
        // Parameters are text; no container has an empty id.
        let text = "UPDATE mcp_servers SET container_id = NULLIF(?, '') WHERE id = ? RETURNING id";
        let update = Statement::new(text, [container_id.unwrap_or_default(), id.to_string()]);
        let [rows] = self.run([update]).await?;
        if rows.is_empty() { Err(server_not_found(&id.into())) } else { Ok(()) }
    }

    pub(super) async fn delete_server(&self, id: ServerId) -> Result<()> {
        let delete = Statement::new("DELETE FROM mcp_servers WHERE id = ? RETURNING id", [id.to_string()]);
        // Nobody works on it any more, and its id never comes again.
        let end_lease = Statement::new("DELETE FROM mcp_leases WHERE name = ?", [server_lease(id)]);
        let [rows, _] = self.run([delete, end_lease]).await?;
        if rows.is_empty() { Err(server_not_found(&id.into())) } else { Ok(()) }
    }
}

/// What reads a server whole; [`server_record`] makes it of the rows.
pub(super) fn select_server(key: &ServerKey) -> [Statement; 4] {
    let statements = match key {
        ServerKey::Id(_) => SELECT_BY_ID,
        ServerKey::Name(_) => SELECT_BY_NAME,
    };
    statements.map(|sql| Statement::new(sql, [key.to_string()]))
}

pub(super) fn server_record(key: &ServerKey, [server, tools, resources, prompts]: &[Rows; 4]) -> Result<ServerRecord> {
    let row = Row(server.first().ok_or_else(|| server_not_found(key))?);
    let definition = definition_rows::join(row, tools, resources, prompts)?;
    Ok(Head::read(row)?.into_record(definition))
}

/// The whole write: the server's row decides, the items follow it, and the row as it then is comes last.
fn write_batch(definition: &ValidDefinition, expect: Expect, write_id: &str) -> Result<Vec<Statement>> {
    let written = definition.written();
    let DefinitionRows { rest, tools, resources, prompts } = definition_rows::split(written, write_id)?;
    let digest = definition.digest().to_string();
    let details =
        json!({ "revision": 1, "live": null, "digest": digest, "writeId": write_id, "definition": rest }).to_string();
    if details.len() > MAX_PARAMETER_BYTES {
        let message = format!("the definition without its items takes {} bytes", details.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("make \"vars\" smaller"));
    }
    let name = written.name.clone();
    let (description, version) = (readable(&written.description), readable(&written.version));
    let first = match expect {
        Expect::Absent => {
            let id = ServerId::random().to_string();
            Statement::new(INSERT, [id, name.clone(), description, version, details])
        }
        Expect::Revision(Revision(revision)) => {
            Statement::new(UPDATE, [description, version, details, name.clone(), revision.to_string(), digest])
        }
    };
    let mut batch = vec![first];
    for (upsert, chunks) in [(UPSERT_TOOLS, tools), (UPSERT_RESOURCES, resources), (UPSERT_PROMPTS, prompts)] {
        let write = |rows| Statement::new(upsert, [rows, name.clone(), write_id.to_owned()]);
        batch.extend(chunks.into_iter().map(write));
    }
    let delete = |sql| Statement::new(sql, [name.clone(), write_id.to_owned(), write_id.to_owned()]);
    batch.extend(DELETE_OLD.map(delete));
    batch.push(Statement::new(select_server!("name = ?"), [name.clone()]));
    Ok(batch)
}

/// A text for a column; `definition_rows` keeps the original where it differs.
fn readable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn page_statement(options: &ListOptions, few_are_old: bool) -> Statement {
    // `+` keeps the planner off the index of the column behind it.
    let order = if few_are_old { "+name" } else { "name" };
    let mut sql = String::from(
        "SELECT id, name, description, version, details ->> '$.definition.template', details ->> '$.revision', status,
         details -> '$.live', created_at, updated_at FROM mcp_servers WHERE ",
    );
    sql.push_str(order);
    sql.push_str(" > ?");
    let mut params = vec![options.after.as_ref().map_or_else(String::new, ToString::to_string)];
    if let Some(status) = options.status {
        sql.push_str(if few_are_old { " AND +status = ?" } else { " AND status = ?" });
        params.push(status.as_str().to_owned());
    }
    if options.not_updated_since.is_some() {
        sql.push_str(if few_are_old { " AND updated_at < ?" } else { " AND +updated_at < ?" });
        params.push(old(options));
    }
    sql.push_str(" ORDER BY ");
    sql.push_str(order);
    sql.push_str(" LIMIT CAST(? AS INTEGER)");
    params.push((options.limit + 1).to_string());
    Statement { sql: sql.into(), params }
}

fn old(options: &ListOptions) -> String {
    options.not_updated_since.map(clock_stamp).unwrap_or_default()
}

/// A server's row without its definition.
struct Head {
    id: ServerId,
    name: ServerName,
    revision: Revision,
    digest: String,
    write_id: String,
    rest: Rest,
}

/// What a record takes over as it is.
struct Rest {
    status: crate::registry::RecordStatus,
    live: Option<LiveState>,
    container_id: Option<String>,
    created_at: time::OffsetDateTime,
    updated_at: time::OffsetDateTime,
}

impl Head {
    fn read(row: Row<'_>) -> Result<Self> {
        Ok(Self {
            name: row.parsed(0)?,
            id: ServerId(row.parsed(4)?),
            revision: Revision(row.integer(8)?),
            digest: row.text(9)?.to_owned(),
            write_id: row.text(10)?.to_owned(),
            rest: Rest {
                status: row.word(5)?,
                container_id: row.optional_text(7)?.map(str::to_owned),
                live: row.json(11)?,
                created_at: row.time(12)?,
                updated_at: row.time(13)?,
            },
        })
    }

    fn into_record(self, definition: crate::ServerDefinition) -> ServerRecord {
        let Rest { status, live, container_id, created_at, updated_at } = self.rest;
        let Self { id, name, revision, .. } = self;
        ServerRecord { id, name, revision, status, definition, live, container_id, created_at, updated_at }
    }
}

fn summary(row: Row<'_>) -> Result<ServerSummary> {
    Ok(ServerSummary {
        id: ServerId(row.parsed(0)?),
        name: row.parsed(1)?,
        description: row.text(2)?.to_owned(),
        version: row.text(3)?.to_owned(),
        template: row.parsed(4)?,
        revision: Revision(row.integer(5)?),
        status: row.word(6)?,
        live: row.json(7)?,
        created_at: row.time(8)?,
        updated_at: row.time(9)?,
    })
}
