//! [`SqliteExecutor`]: the registry's SQL on a file of this machine.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::registry::sql::{Rows, SqlExecutor, SqlRegistry, SqlValue, Statement};
use metamcp_core::{Error, ErrorKind, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params_from_iter};

pub(crate) use file::open_private;

use crate::blocking::blocking;

/// The registry in a SQLite file.
pub type SqliteRegistry = SqlRegistry<SqliteExecutor>;

/// How long a statement waits for another program's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept; the registry has fewer than a hundred.
const CACHED_STATEMENTS: usize = 128;

/// Runs SQL on one SQLite file, which only its owner can read (mode 0600).
///
/// One connection, used in turn, in WAL mode: a batch is on disk before it is acknowledged, as far as a killed
/// program goes. With `synchronous=NORMAL` a power cut may take the last acknowledged batches back, never half
/// of one and never an earlier one; since it ends everything that ran here too, the saving (one disk flush for
/// every step of a deployment) is worth that.
#[derive(Debug, Clone)]
pub struct SqliteExecutor {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteExecutor {
    /// Opens or creates the file. [`ErrorKind::ConfigInvalid`] if it is no database or cannot be opened.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let connection = blocking(move || connect(&path)).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }
}

#[async_trait]
impl SqlExecutor for SqliteExecutor {
    async fn execute(&self, batch: Vec<Statement>) -> Result<Vec<Rows>> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            // A thread that panicked in a transaction has rolled it back while unwinding.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            run_batch(&mut connection, &batch).map_err(|error| database_error(&error))
        })
        .await
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = open_private(path, BUSY_TIMEOUT)?;
    let set_up = || {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(())
    };
    set_up().map_err(|error: rusqlite::Error| database_error(&error))?;
    Ok(connection)
}

/// One statement is a transaction by itself. Of several the first write takes the lock at once, since a
/// transaction that began by reading cannot wait for it.
fn run_batch(connection: &mut Connection, batch: &[Statement]) -> rusqlite::Result<Vec<Rows>> {
    if let [statement] = batch {
        return Ok(vec![run(connection, statement)?]);
    }
    let mut reads_only = true;
    for statement in batch {
        // A statement of a migration may name a table that the one before it creates.
        reads_only &= connection.prepare_cached(&statement.sql).is_ok_and(|prepared| prepared.readonly());
    }
    let behavior = if reads_only { TransactionBehavior::Deferred } else { TransactionBehavior::Immediate };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let results = batch.iter().map(|statement| run(&transaction, statement)).collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(results)
}

fn run(connection: &Connection, statement: &Statement) -> rusqlite::Result<Rows> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    let columns = prepared.column_count();
    let mut rows = prepared.query(params_from_iter(&statement.params))?;
    let mut result = Rows::new();
    while let Some(row) = rows.next()? {
        result.push((0..columns).map(|column| value(row.get_ref(column)?)).collect::<rusqlite::Result<_>>()?);
    }
    Ok(result)
}

fn value(value: ValueRef<'_>) -> rusqlite::Result<SqlValue> {
    Ok(match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Text(_) => SqlValue::Text(value.as_str()?.to_owned()),
        ValueRef::Blob(_) => return Err(rusqlite::Error::InvalidQuery),
    })
}

/// What SQLite said, as an error a caller can decide by.
pub(crate) fn database_error(error: &rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure | ErrorCode::DiskFull,
        ) => ErrorKind::Unavailable,
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ErrorKind::ConfigInvalid
        }
        Some(ErrorCode::TooBig) => ErrorKind::LimitExceeded,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, format!("database: {error}"))
}
