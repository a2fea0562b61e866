//! Tools of all servers, without their schemas and bodies.

use super::row::Row;
use super::{SqlExecutor, SqlRegistry, Statement};
use crate::Result;
use crate::registry::{ToolPlace, ToolSummary};

/// By the index of servers' names, and below each by that of its tools' names.
const SELECT: &str = "SELECT s.name, s.description, t.name, t.description, s.details ->> '$.live' IS NOT NULL
     FROM mcp_servers AS s CROSS JOIN mcp_tools AS t ON t.server_id = s.id
     WHERE s.name >= ? AND (s.name > ? OR t.name > ?) ORDER BY s.name, t.name LIMIT CAST(? AS INTEGER)";

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn read_tools(&self, after: Option<ToolPlace>, limit: u32) -> Result<Vec<ToolSummary>> {
        ToolSummary::check_limit(limit)?;
        let (server, tool) = after.map_or_else(Default::default, |place| (place.server.to_string(), place.tool));
        let select = Statement::new(SELECT, [server.clone(), server, tool, limit.to_string()]);
        let [rows] = self.run([select]).await?;
        rows.iter().map(|row| summary(Row(row))).collect()
    }
}

fn summary(row: Row<'_>) -> Result<ToolSummary> {
    Ok(ToolSummary {
        server: row.parsed(0)?,
        server_description: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        description: row.text(3)?.to_owned(),
        live: row.integer(4)? != 0,
    })
}
