//! Connections to external MCP servers.

use serde_json::json;
use uuid::Uuid;

use super::row::{Row, stamp};
use super::{SqlExecutor, SqlRegistry, Statement, now};
use crate::name::ServerId;
use crate::registry::{ClientConnection, connection_exists, server_not_found};
use crate::{Error, ErrorKind, Result};

const UPSERT: &str = concat!(
    "INSERT INTO mcp_client_connections
     (id, name, server_id, config, capabilities, tools_count, resources_count, prompts_count, last_connected,
     created_at, updated_at)
     SELECT c ->> 'id', c ->> 'name', s.id, c ->> 'config', c ->> 'capabilities', c ->> 'tools', c ->> 'resources',
     c ->> 'prompts', c ->> 'lastConnected', ",
    now!(),
    ", ",
    now!(),
    " FROM (SELECT ? AS c) CROSS JOIN mcp_servers AS s WHERE s.id = ?
     AND NOT EXISTS (SELECT 1 FROM mcp_client_connections AS o WHERE o.name = c ->> 'name' AND o.id <> c ->> 'id')
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, server_id = excluded.server_id, config = excluded.config,
     capabilities = excluded.capabilities, tools_count = excluded.tools_count,
     resources_count = excluded.resources_count, prompts_count = excluded.prompts_count,
     last_connected = excluded.last_connected, updated_at = excluded.updated_at
     RETURNING id"
);

impl<E: SqlExecutor> SqlRegistry<E> {
    pub(super) async fn write_connection(&self, connection: &ClientConnection) -> Result<()> {
        let server = connection.server_id.to_string();
        let text = json!({
            "id": connection.id,
            "name": connection.name,
            "config": connection.config.to_string(),
            "capabilities": connection.capabilities.to_string(),
            "tools": connection.tools_count,
            "resources": connection.resources_count,
            "prompts": connection.prompts_count,
            "lastConnected": connection.last_connected.map(stamp),
        })
        .to_string();
        if text.len() > super::MAX_PARAMETER_BYTES {
            let message = format!("connection {:?} takes {} bytes", connection.name, text.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_help("pin fewer definitions"));
        }
        let [written, present] = self
            .run([
                Statement::new(UPSERT, [text, server.clone()]),
                Statement::new("SELECT 1 FROM mcp_servers WHERE id = ?", [server]),
            ])
            .await?;
        match (written.is_empty(), present.is_empty()) {
            (false, _) => Ok(()),
            (true, true) => Err(server_not_found(&connection.server_id.into())),
            (true, false) => Err(connection_exists(&connection.name)),
        }
    }

    pub(super) async fn read_connections(&self, id: ServerId) -> Result<Vec<ClientConnection>> {
        let sql = "SELECT id, name, server_id, config, capabilities, tools_count, resources_count, prompts_count,
             last_connected FROM mcp_client_connections WHERE server_id = ? ORDER BY name";
        let [rows] = self.run([Statement::new(sql, [id.to_string()])]).await?;
        rows.iter().map(|row| record(Row(row))).collect()
    }

    pub(super) async fn delete_connection(&self, id: Uuid) -> Result<()> {
        self.run([Statement::new("DELETE FROM mcp_client_connections WHERE id = ?", [id.to_string()])]).await?;
        Ok(())
    }
}

fn record(row: Row<'_>) -> Result<ClientConnection> {
    let count = |column| {
        let number = row.integer(column)?;
        u32::try_from(number)
            .map_err(|_| Error::new(ErrorKind::Unexpected, format!("the database counts {number} items")))
    };
    Ok(ClientConnection {
        id: row.parsed(0)?,
        name: row.text(1)?.to_owned(),
        server_id: ServerId(row.parsed(2)?),
        config: row.json(3)?,
        capabilities: row.json(4)?,
        tools_count: count(5)?,
        resources_count: count(6)?,
        prompts_count: count(7)?,
        last_connected: row.optional_time(8)?,
    })
}
