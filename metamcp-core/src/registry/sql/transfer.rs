//! A whole registry as SQL text, out of one database and into another.
//!
//! Each statement ends with `;` at a line's end and holds no such end inside: values travel as JSON, whose texts
//! have no line ends. None is longer than D1 takes.

use std::fmt::Write;

use serde_json::{Value, json};

use super::migrations::{CREATE_TABLE, MIGRATIONS, statements};
use super::versions::parts;
use super::{Rows, SqlExecutor, SqlRegistry, SqlValue, Statement};
use crate::{Error, ErrorKind, Result};

const HEAD: &str = "-- A registry of Meta-MCP, to be run in an empty database.\n";
/// Longest statement that is read; D1 takes 100 KB.
const STATEMENT_BYTES: usize = 95_000;
/// Longest text that is written with its row, and longest piece of a longer one, which is appended to its row.
const TEXT_BYTES: usize = 1_000;
const PIECE_BYTES: usize = 15_000;
/// How much of an import is one batch: D1 gives one 30 s.
const BATCH_BYTES: usize = 1_000_000;

struct Table {
    name: &'static str,
    /// Of its columns, those that tell rows apart come first; so many they are.
    key: usize,
    columns: &'static str,
}

const fn table(name: &'static str, key: usize, columns: &'static str) -> Table {
    Table { name, key, columns }
}

/// All but the leases, which belong to programs that run. Rows that others refer to come first.
const TABLES: [Table; 10] = [
    table(
        "mcp_servers",
        1,
        "id, name, description, version, created_at, updated_at, status, deployment_url, container_id, details",
    ),
    table(
        "mcp_tools",
        1,
        "id, server_id, name, description, parameters, implementation, created_at, updated_at, details",
    ),
    table(
        "mcp_resources",
        1,
        "id, server_id, uri, name, description, mime_type, implementation, created_at, updated_at, details",
    ),
    table("mcp_prompts", 1, "id, server_id, name, description, template, arguments, created_at, updated_at, details"),
    table(
        "mcp_client_connections",
        1,
        "id, name, server_id, config, capabilities, tools_count, resources_count, prompts_count, last_connected, \
         created_at, updated_at, details",
    ),
    table("mcp_versions", 1, "id, server_id, version, revision, artifact, created_at, updated_at"),
    table("mcp_version_parts", 2, "version_id, position, content"),
    table(
        "mcp_deployments",
        1,
        "sequence, id, server_id, kind, step, revision, version, previous, error, write_id, created_at, updated_at",
    ),
    table(
        "mcp_api_keys",
        1,
        "sequence, id, name, hash, scopes, servers, expires_at, revoked_at, created_at, updated_at",
    ),
    table(
        "mcp_audit",
        1,
        "sequence, id, at, actor, action, outcome, subject, server, before, after, created_at, updated_at",
    ),
];

impl<E: SqlExecutor> SqlRegistry<E> {
    /// The whole registry but its leases, as it is at one moment, as SQL for an empty database of SQLite or D1:
    /// [`SqlRegistry::import`] takes it, and `wrangler d1 execute DATABASE --remote --file FILE` does.
    ///
    /// It holds what the registry holds: definitions, versions, the state of deployments, hashes of API keys, the audit
    /// log, and no secrets. It is made in memory; what D1 answers at once (32 MB) is a limit there, beyond which
    /// `wrangler d1 export` serves.
    pub async fn export(&self) -> Result<String> {
        let select = |table: &Table| {
            let Table { name, columns, .. } = table;
            Statement::new(format!("SELECT {columns} FROM {name} ORDER BY {}", table.key().join(", ")), [])
        };
        let rows = self.executor.execute(TABLES.iter().map(select).collect()).await;
        let rows = rows.map_err(|error| error.with_operation("export registry"))?;
        let mut text = String::from(HEAD);
        for (_, migration) in MIGRATIONS {
            text.extend(statements(migration).flat_map(|sql| [sql, ";\n"]));
        }
        for (table, rows) in TABLES.iter().zip(&rows) {
            table.write(rows, &mut text)?;
        }
        // Last: a database that holds a part of an export opens nowhere.
        text.extend([CREATE_TABLE, ";\n"]);
        for (name, _) in MIGRATIONS {
            push(&mut text, format_args!("INSERT INTO d1_migrations (name) VALUES ({})", literal(name)));
        }
        Ok(text)
    }

    /// Fills an empty database with an export and opens it. The text is run as it is, so it has to be from
    /// somebody who may write to the database.
    ///
    /// [`ErrorKind::AlreadyExists`] if the database holds a registry, [`ErrorKind::ConfigInvalid`] if the text is
    /// no export. After an error in the middle the database is of no use and has to be removed.
    pub async fn import(executor: E, sql: &str) -> Result<Self> {
        let statements = parse(sql).map_err(|error| error.with_operation("import registry"))?;
        let present =
            Statement::new("SELECT count(*) FROM sqlite_master WHERE name IN ('mcp_servers', 'd1_migrations')", []);
        let found = executor.execute(vec![present]).await.map_err(|error| error.with_operation("import registry"))?;
        if found.first().and_then(|rows| rows.first()?.first()) != Some(&SqlValue::Integer(0)) {
            return Err(Error::new(ErrorKind::AlreadyExists, "the database holds a registry already")
                .with_operation("import registry")
                .with_help("import into an empty database"));
        }
        for batch in batches(statements) {
            executor.execute(batch).await.map_err(|error| {
                error
                    .with_operation("import registry")
                    .with_help("the database now holds a part: remove it and import into another")
            })?;
        }
        Self::open(executor).await
    }
}

impl Table {
    fn key(&self) -> Vec<&'static str> {
        self.columns.split(", ").take(self.key).collect()
    }

    fn write(&self, rows: &Rows, text: &mut String) -> Result<()> {
        for row in rows {
            let mut appended = Vec::new();
            let mut inserted = Vec::with_capacity(row.len());
            for (column, value) in self.columns.split(", ").zip(row) {
                match value {
                    SqlValue::Null => inserted.push(Value::Null),
                    SqlValue::Integer(number) => inserted.push(json!(number)),
                    SqlValue::Real(number) => inserted.push(json!(number)),
                    SqlValue::Text(long) if long.len() > TEXT_BYTES => {
                        inserted.push(json!(""));
                        appended.push((column, long));
                    }
                    SqlValue::Text(short) => inserted.push(json!(short)),
                }
            }
            let values: Vec<_> = (0..row.len()).map(|index| format!("r ->> {index}")).collect();
            push(
                text,
                format_args!(
                    "INSERT INTO {} ({}) SELECT {} FROM (SELECT {} AS r)",
                    self.name,
                    self.columns,
                    values.join(", "),
                    literal(&Value::from(inserted).to_string())
                ),
            );
            self.append(row, &appended, text)?;
        }
        Ok(())
    }

    fn append(&self, row: &[SqlValue], columns: &[(&str, &String)], text: &mut String) -> Result<()> {
        let mut of_row = Vec::new();
        for (column, value) in self.key().into_iter().zip(row) {
            of_row.push(match value {
                SqlValue::Integer(number) => format!("{column} = {number}"),
                SqlValue::Text(id) => format!("{column} = {}", literal(id)),
                SqlValue::Null | SqlValue::Real(_) => {
                    let message = format!("table {} has a row without a key", self.name);
                    return Err(Error::new(ErrorKind::Unexpected, message));
                }
            });
        }
        let of_row = of_row.join(" AND ");
        for (column, long) in columns {
            for piece in parts(long, PIECE_BYTES) {
                let piece = literal(&json!(piece).to_string());
                let name = self.name;
                push(text, format_args!("UPDATE {name} SET {column} = {column} || ({piece} ->> '$') WHERE {of_row}"));
            }
        }
        Ok(())
    }
}

fn push(text: &mut String, statement: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    if writeln!(text, "{statement};").is_err() {
        tracing::error!("a statement could not be written to memory");
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn parse(sql: &str) -> Result<Vec<&str>> {
    let Some(body) = sql.strip_prefix(HEAD) else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the text is no export of a registry")
            .with_help("take what `export` returned, whole and unchanged"));
    };
    let Some(body) = body.strip_suffix(";\n") else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the export is cut off at its end"));
    };
    let statements: Vec<_> = body.split(";\n").collect();
    match statements.iter().find(|statement| statement.len() > STATEMENT_BYTES) {
        Some(long) => {
            let message =
                format!("the export has a statement of {} bytes, at most {STATEMENT_BYTES} are taken", long.len());
            Err(Error::new(ErrorKind::LimitExceeded, message))
        }
        None => Ok(statements),
    }
}

/// Statements in batches of a bounded size, in order.
fn batches(statements: Vec<&str>) -> Vec<Vec<Statement>> {
    let mut batches: Vec<Vec<Statement>> = Vec::new();
    let mut size = BATCH_BYTES;
    for sql in statements {
        size += sql.len();
        if size > BATCH_BYTES {
            batches.push(Vec::new());
            size = sql.len();
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(Statement::new(sql.to_owned(), []));
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest statement: every character of a piece is written as six, and quotes are doubled.
    #[test]
    fn pieces_fit_into_statements_whatever_is_in_them() {
        for character in ['\u{1}', '\'', '"', '€', 'a'] {
            let long = character.to_string().repeat(100_000);
            let row = [SqlValue::Integer(1), SqlValue::Integer(0), SqlValue::Text(long)];
            let mut text = String::from(HEAD);
            table("mcp_version_parts", 2, "version_id, position, content")
                .write(&vec![row.to_vec()], &mut text)
                .unwrap();
            let columns = TABLES.iter().map(|table| table.columns.split(", ").count()).max().unwrap();
            let wide = vec![SqlValue::Text(character.to_string().repeat(TEXT_BYTES / character.len_utf8())); columns];
            TABLES
                .iter()
                .find(|table| table.columns.split(", ").count() == columns)
                .unwrap()
                .write(&vec![wide], &mut text)
                .unwrap();
            assert!(parse(&text).is_ok(), "{character:?}: {:?}", parse(&text).err());
        }
    }

    #[test]
    fn what_is_no_export_or_was_cut_is_refused() {
        for text in ["", "DROP TABLE mcp_servers;\n", &HEAD[..20], &format!("{HEAD}INSERT INTO mcp")] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::ConfigInvalid);
        }
    }
}
