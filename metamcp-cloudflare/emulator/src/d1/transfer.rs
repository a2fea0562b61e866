//! Import and export of a database as SQL, in the steps that wrangler takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State as Shared};
use axum::response::IntoResponse;
use axum::routing::put;
use axum::{Json, Router};
use bytes::Bytes;
use http::header;
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::At;
use super::run::{RowForm, refusal, run_text};
use crate::State;
use crate::answer::{Answer, Refusal, success};

/// Files on their way, by name: with the digest that their sender announced.
#[derive(Debug, Default)]
pub(super) struct Transfers(Mutex<BTreeMap<String, Transfer>>);

#[derive(Debug, Clone, Default)]
struct Transfer {
    etag: String,
    content: Bytes,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub(super) enum Import {
    Init { etag: String },
    Ingest { filename: String },
    Poll {},
}

impl Transfers {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Transfer>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where files are put and fetched: signed URLs on the real service.
pub(crate) fn transfer_routes() -> Router<Arc<State>> {
    Router::new().route("/__emulator/transfers/{name}", put(upload).get(download))
}

pub(super) async fn import(Shared(state): Shared<Arc<State>>, Path((_, key)): At, Json(step): Json<Import>) -> Answer {
    match step {
        Import::Init { etag } => {
            let filename = format!("{}.sql", Uuid::new_v4().simple());
            let upload_url = url(&state, &filename);
            state
                .databases
                .transfers
                .with(|transfers| transfers.insert(filename.clone(), Transfer { etag, content: Bytes::new() }));
            Ok(success(json!({ "filename": filename, "upload_url": upload_url })))
        }
        Import::Ingest { filename } => {
            let file = state.databases.transfers.with(|transfers| transfers.remove(&filename));
            let file = file.ok_or_else(|| Refusal::new(400, 7_400, "no such upload"))?;
            let count = state.databases.inside(&key, |_, database| ingest(&mut database.connection, &file.content))?;
            Ok(success(json!({
                "success": true, "type": "import", "status": "complete", "at_bookmark": "0", "messages": [],
                "result": { "num_queries": count, "final_bookmark": "0", "meta": { "duration": 0.0, "changes": 0, "size_after": 0, "rows_read": 0, "rows_written": 0, "served_by": "emulator" } }
            })))
        }
        Import::Poll {} => Ok(success(
            json!({ "success": false, "type": "import", "status": "error", "error": "Not currently importing anything.", "messages": [] }),
        )),
    }
}

fn ingest(connection: &mut Connection, file: &Bytes) -> Result<usize, Refusal> {
    let sql = std::str::from_utf8(file).map_err(|error| Refusal::new(400, 7_500, error.to_string()))?;
    let transaction = connection.transaction().map_err(|error| refusal(&error))?;
    let mut results = Vec::new();
    run_text(&transaction, sql, &[] as &[&str], RowForm::Arrays, &mut results)?;
    transaction.commit().map_err(|error| refusal(&error))?;
    Ok(results.len())
}

pub(super) async fn export(Shared(state): Shared<Arc<State>>, Path((_, key)): At) -> Answer {
    let dump =
        state.databases.inside(&key, |_, database| dump(&database.connection).map_err(|error| refusal(&error)))?;
    let filename = format!("{}.sql", Uuid::new_v4().simple());
    let signed_url = url(&state, &filename);
    state
        .databases
        .transfers
        .with(|transfers| transfers.insert(filename.clone(), Transfer { etag: String::new(), content: dump.into() }));
    Ok(success(json!({
        "success": true, "type": "export", "status": "complete", "at_bookmark": "0", "messages": [],
        "result": { "filename": filename, "signed_url": signed_url }
    })))
}

/// The whole database as SQL that makes it again.
fn dump(connection: &Connection) -> rusqlite::Result<String> {
    let mut sql = String::from("PRAGMA defer_foreign_keys=TRUE;\n");
    let schema = "SELECT name, sql, type FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
                  ORDER BY type = 'table' DESC, rowid";
    let mut select = connection.prepare(schema)?;
    let items = select
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    for item in items {
        let (name, create, kind) = item?;
        sql.push_str(&create);
        sql.push_str(";\n");
        if kind == "table" {
            dump_rows(connection, &name, &mut sql)?;
        }
    }
    Ok(sql)
}

fn dump_rows(connection: &Connection, table: &str, sql: &mut String) -> rusqlite::Result<()> {
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let mut names = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
    let names = names.query_map([table], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let values: Vec<_> = names.iter().map(|name| format!("quote(\"{}\")", name.replace('"', "\"\""))).collect();
    let mut select = connection.prepare(&format!("SELECT {} FROM {quoted}", values.join(" || ',' || ")))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        sql.extend(["INSERT INTO ", &quoted, " VALUES(", &row.get::<_, String>(0)?, ");\n"]);
    }
    Ok(())
}

async fn upload(Shared(state): Shared<Arc<State>>, Path(name): Path<String>, content: Bytes) -> Answer {
    let etag = state.databases.transfers.with(|transfers| {
        let transfer = transfers.get_mut(&name)?;
        transfer.content = content;
        Some(format!("\"{}\"", transfer.etag))
    });
    let etag = etag.ok_or_else(|| Refusal::new(404, 7_400, "no such upload"))?;
    Ok([(header::ETAG, etag)].into_response())
}

async fn download(Shared(state): Shared<Arc<State>>, Path(name): Path<String>) -> Answer {
    let found = state.databases.transfers.with(|transfers| transfers.remove(&name));
    Ok(found.ok_or_else(|| Refusal::new(404, 7_400, "no such export"))?.content.into_response())
}

fn url(state: &State, name: &str) -> String {
    format!("http://{}/__emulator/transfers/{name}", state.address)
}
