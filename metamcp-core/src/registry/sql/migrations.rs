//! Numbered migrations, recorded as wrangler records them, so that `wrangler d1 migrations list` and `apply`
//! work beside this program.

use std::collections::BTreeSet;

use super::row::Row;
use super::{SqlExecutor, Statement};
use crate::{Error, ErrorKind, Result};

/// Name and text of each migration, in order. One that has been released is never edited.
///
/// Put into a project's `migrations` folder, they are what `wrangler d1 migrations` finds applied.
pub const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_initial.sql", include_str!("../migrations/0001_initial.sql")),
    ("0002_audit_outcome.sql", include_str!("../migrations/0002_audit_outcome.sql")),
];

pub(super) const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS d1_migrations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT UNIQUE,
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)";

/// Applies what is missing, each migration with its record in one batch. Of two programs that do so at once,
/// the second one's batch fails whole, as the record's name is unique; it then goes on with the next.
pub(super) async fn migrate(executor: &impl SqlExecutor) -> Result<()> {
    let done = applied(executor).await?;
    if let Some(unknown) = done.iter().find(|name| MIGRATIONS.iter().all(|(known, _)| known != name)) {
        let message = format!("the database has migration {unknown:?}, which this version does not know");
        return Err(Error::new(ErrorKind::ConfigInvalid, message).with_help("update Meta-MCP, or use another database"));
    }
    for (name, text) in MIGRATIONS.iter().filter(|(name, _)| !done.contains(*name)) {
        if let Err(error) = executor.execute(batch(name, text)).await
            && !applied(executor).await?.contains(*name)
        {
            return Err(error);
        }
    }
    Ok(())
}

async fn applied(executor: &impl SqlExecutor) -> Result<BTreeSet<String>> {
    let select = "SELECT name FROM d1_migrations ORDER BY id";
    let results = executor.execute(vec![Statement::new(CREATE_TABLE, []), Statement::new(select, [])]).await?;
    results.last().into_iter().flatten().map(|row| Row(row).text(0).map(str::to_owned)).collect()
}

fn batch(name: &str, text: &'static str) -> Vec<Statement> {
    let record = Statement::new("INSERT INTO d1_migrations (name) VALUES (?)", [name.to_owned()]);
    std::iter::once(record).chain(statements(text).map(|sql| Statement::new(sql, []))).collect()
}

pub(super) fn statements(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split(";\n").map(str::trim).filter(|sql| !sql.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_in_order_and_cut_into_single_statements() {
        for (index, (name, text)) in MIGRATIONS.iter().enumerate() {
            assert!(name.starts_with(&format!("{:04}_", index + 1)), "{name}");
            let is_one = |sql: &str| ["CREATE", "ALTER", "UPDATE"].iter().any(|verb| sql.contains(verb));
            assert!(statements(text).all(is_one), "{name}");
        }
    }
}
