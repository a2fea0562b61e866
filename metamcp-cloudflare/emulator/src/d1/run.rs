//! Statements under D1's rules.

use std::time::Instant;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, Statement, ToSql, Transaction, params_from_iter};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::Refusal;

/// <https://developers.cloudflare.com/d1/platform/limits/>
const PARAMETERS: i32 = 100;
const STATEMENT_BYTES: usize = 100_000;
const VALUE_BYTES: i32 = 2_000_000;
const COLUMNS: i32 = 100;
const FUNCTION_ARGUMENTS: i32 = 32;
const PATTERN_BYTES: i32 = 50;

/// What is asked for: texts only as parameters, as Cloudflare's own local API has it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Body {
    Batch { batch: Vec<One> },
    One(One),
}

#[derive(Deserialize)]
pub(super) struct One {
    sql: String,
    #[serde(default)]
    params: Option<Vec<String>>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowForm {
    /// By name of the column.
    Objects,
    /// Beside the list of columns.
    Arrays,
}

/// An empty database with D1's limits; foreign keys are on.
pub(super) fn open() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_COLUMN, COLUMNS)?;
    connection.set_limit(Limit::SQLITE_LIMIT_FUNCTION_ARG, FUNCTION_ARGUMENTS)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES)?;
    Ok(connection)
}

/// Runs everything as one transaction; one result for each statement.
pub(super) fn run(connection: &mut Connection, body: Body, form: RowForm) -> Result<Value, Refusal> {
    let transaction = connection.transaction().map_err(|error| refusal(&error))?;
    let mut results = Vec::new();
    let statements = match body {
        Body::Batch { batch } if batch.iter().any(|one| one.sql.len() > STATEMENT_BYTES) => {
            return Err(Refusal::new(400, 7_500, "statement too long: SQLITE_TOOBIG"));
        }
        Body::Batch { batch } => batch,
        Body::One(one) => vec![one],
    };
    for One { sql, params } in statements {
        run_text(&transaction, &sql, &params.unwrap_or_default(), form, &mut results)?;
    }
    transaction.commit().map_err(|error| refusal(&error))?;
    Ok(Value::Array(results))
}

/// A text may hold several statements; parameters are for one.
pub(super) fn run_text(
    transaction: &Transaction<'_>,
    sql: &str,
    params: &[impl ToSql],
    form: RowForm,
    results: &mut Vec<Value>,
) -> Result<(), Refusal> {
    let mut batch = Batch::new(transaction, sql);
    while let Some(mut statement) = batch.next().map_err(|error| refusal(&error))? {
        check(&statement)?;
        results.push(run_one(transaction, &mut statement, params, form).map_err(|error| refusal(&error))?);
    }
    Ok(())
}

fn check(statement: &Statement<'_>) -> Result<(), Refusal> {
    let sql = statement.expanded_sql().unwrap_or_default();
    let word =
        sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_uppercase();
    if matches!(word.as_str(), "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE") {
        let message = "To execute a transaction, please use the state.storage.transaction() or state.storage.transactionSync() APIs instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements.";
        return Err(Refusal::new(400, 7_500, message));
    }
    if matches!(word.as_str(), "ATTACH" | "DETACH" | "VACUUM") {
        return Err(Refusal::new(400, 7_500, "not authorized: SQLITE_AUTH"));
    }
    Ok(())
}

fn run_one(
    transaction: &Transaction<'_>,
    statement: &mut Statement<'_>,
    params: &[impl ToSql],
    form: RowForm,
) -> rusqlite::Result<Value> {
    let (started, before) = (Instant::now(), transaction.total_changes());
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut rows = statement.query(params_from_iter(params))?;
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|column| row.get_ref(column).map(value));
        read.push(values.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    drop(rows);
    let changes = transaction.total_changes() - before;
    let meta = json!({
        "served_by": "emulator", "served_by_region": "WEUR", "served_by_primary": true,
        "duration": started.elapsed().as_secs_f64() * 1_000.0, "changes": changes,
        "last_row_id": transaction.last_insert_rowid(), "changed_db": changes > 0,
        "rows_read": read.len(), "rows_written": changes
    });
    let results = match form {
        RowForm::Arrays => json!({ "columns": columns, "rows": read }),
        RowForm::Objects => {
            read.into_iter().map(|row| Value::Object(columns.iter().cloned().zip(row).collect::<Map<_, _>>())).collect()
        }
    };
    Ok(json!({ "success": true, "results": results, "meta": meta }))
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => bytes.into(),
    }
}

/// What SQLite says, in D1's words.
pub(super) fn refusal(error: &rusqlite::Error) -> Refusal {
    let (text, code) = match error {
        rusqlite::Error::SqliteFailure(failure, text) => {
            let code = match failure.code {
                ErrorCode::ConstraintViolation => "SQLITE_CONSTRAINT",
                ErrorCode::TooBig => "SQLITE_TOOBIG",
                ErrorCode::DatabaseBusy => "SQLITE_BUSY",
                _ => "SQLITE_ERROR",
            };
            (text.clone().unwrap_or_else(|| failure.to_string()), code)
        }
        rusqlite::Error::SqlInputError { msg, .. } => (msg.clone(), "SQLITE_ERROR"),
        rusqlite::Error::InvalidParameterCount(..) => {
            ("Wrong number of parameter bindings for SQL query.".to_owned(), "SQLITE_RANGE")
        }
        other => (other.to_string(), "SQLITE_ERROR"),
    };
    Refusal::new(400, 7_500, format!("{text}: {code}"))
}
