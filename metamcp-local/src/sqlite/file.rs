//! Opening a database file that only its owner can read.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use metamcp_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode};

use super::database_error;

/// Opens the file in WAL mode, creating it with mode 0600; SQLite gives its side files the same mode.
pub(crate) fn open_private(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    make_private(path).map_err(|source| {
        Error::new(ErrorKind::ConfigInvalid, format!("cannot open the database {}", path.display()))
            .with_source(source)
            .with_help("choose a folder that you may write to")
    })?;
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(busy_timeout)?;
        switch_to_wal(&connection, busy_timeout)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| {
        let cause = database_error(&error);
        Error::new(cause.kind(), format!("cannot open the database {}", path.display())).with_source(cause)
    })
}

fn make_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut permissions = file.metadata()?.permissions();
    // A file from elsewhere may be open to others.
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    Ok(())
}

/// SQLite does not wait for its busy timeout when two programs switch a new file to WAL at once.
fn switch_to_wal(connection: &Connection, limit: Duration) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
