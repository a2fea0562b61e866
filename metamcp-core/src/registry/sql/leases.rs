//! Leases by the database's clock.

use std::time::Duration;

use uuid::Uuid;

use super::row::Row;
use super::servers::{select_server, server_record};
use super::{Rows, SqlExecutor, SqlRegistry, Statement, into_array, now};
use crate::name::ServerKey;
use crate::registry::{Lease, ServerRecord, check_lease, lease_lost, lease_taken, server_lease};
use crate::{Error, ErrorKind, Result};

/// The token lets a repeated batch find the lease it took itself.
macro_rules! acquire {
    ($names:literal) => {
        concat!(
            "INSERT INTO mcp_leases (name, holder, token, fence, expires_at, created_at, updated_at)
             SELECT name, ?, ?, 1, ",
            now!("?"),
            ", ",
            now!(),
            ", ",
            now!(),
            " FROM (",
            $names,
            ") WHERE true ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token,
             fence = fence + (token <> excluded.token), expires_at = excluded.expires_at,
             updated_at = excluded.updated_at
             WHERE expires_at <= ",
            now!(),
            " OR token = excluded.token RETURNING fence, expires_at"
        )
    };
}

const ACQUIRE: &str = acquire!("SELECT ? AS name");
const RENEW: &str = concat!(
    "UPDATE mcp_leases SET expires_at = ",
    now!("?"),
    ", updated_at = ",
    now!(),
    " WHERE name = ? AND fence = CAST(? AS INTEGER) AND expires_at > ",
    now!(),
    " RETURNING fence, expires_at"
);
/// The end of a lease that was given back: over by any clock, also by one that is set back afterwards.
macro_rules! over {
    () => {
        "'1970-01-01T00:00:00.000Z'"
    };
}

/// The row stays, so that the next fencing number is higher.
const RELEASE: &str = concat!(
    "UPDATE mcp_leases SET expires_at = ",
    over!(),
    ", updated_at = ",
    now!(),
    " WHERE name = ? AND fence = CAST(? AS INTEGER) AND expires_at > ",
    now!()
);
const EXPIRE_ALL: &str =
    concat!("UPDATE mcp_leases SET expires_at = ", over!(), ", updated_at = ", now!(), " WHERE expires_at > ", now!());

macro_rules! select_holder {
    ($name:literal) => {
        concat!("SELECT holder FROM mcp_leases WHERE name = ", $name, " AND expires_at > ", now!())
    };
}

/// Who holds a lease that is not over.
pub(super) const SELECT_HOLDER: &str = select_holder!("?");

/// Taking a server's own lease, and who holds it.
const LEASE_BY_ID: [&str; 2] =
    [acquire!("SELECT 'server:' || id AS name FROM mcp_servers WHERE id = ?"), select_holder!("'server:' || ?")];
const LEASE_BY_NAME: [&str; 2] = [
    acquire!("SELECT 'server:' || id AS name FROM mcp_servers WHERE name = ?"),
    select_holder!("'server:' || (SELECT id FROM mcp_servers WHERE name = ?)"),
];

impl<E: SqlExecutor> SqlRegistry<E> {
    /// Ends every lease. Only for a caller that knows all holders to be gone, as the one owner of a data directory
    /// does; elsewhere leases run out by themselves.
    pub async fn expire_leases(&self) -> Result<()> {
        let [_] = self.run([Statement::new(EXPIRE_ALL, [])]).await?;
        Ok(())
    }

    pub(super) async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        check_lease(name, holder, ttl)?;
        let params = [holder.to_owned(), Uuid::new_v4().to_string(), modifier(ttl), name.to_owned()];
        let [acquired, present] =
            self.run([Statement::new(ACQUIRE, params), Statement::new(SELECT_HOLDER, [name.to_owned()])]).await?;
        taken(name, holder, &acquired, &present)
    }

    pub(super) async fn take_server_lease(
        &self,
        key: &ServerKey,
        holder: &str,
        ttl: Duration,
    ) -> Result<(ServerRecord, Lease)> {
        // The name is short; only the database knows it yet.
        check_lease("server", holder, ttl)?;
        let [acquire, select_holder] = match key {
            ServerKey::Id(_) => LEASE_BY_ID,
            ServerKey::Name(_) => LEASE_BY_NAME,
        };
        let params = [holder.to_owned(), Uuid::new_v4().to_string(), modifier(ttl), key.to_string()];
        let mut batch = vec![Statement::new(acquire, params), Statement::new(select_holder, [key.to_string()])];
        batch.extend(select_server(key));
        let [acquired, present, server @ ..] = into_array::<6>(self.executor.execute(batch).await?)?;
        let record = server_record(key, &server)?;
        let lease = taken(&server_lease(record.id), holder, &acquired, &present)?;
        Ok((record, lease))
    }

    pub(super) async fn extend_lease(&self, held: &Lease, ttl: Duration) -> Result<Lease> {
        check_lease(&held.name, &held.holder, ttl)?;
        let params = [modifier(ttl), held.name.clone(), held.fence.to_string()];
        let [renewed, present] =
            self.run([Statement::new(RENEW, params), Statement::new(SELECT_HOLDER, [held.name.clone()])]).await?;
        if let Some(row) = renewed.first() {
            return lease(&held.name, &held.holder, Row(row));
        }
        Err(lease_lost(held, present.first().map(|row| Row(row).text(0)).transpose()?))
    }

    pub(super) async fn end_lease(&self, held: &Lease) -> Result<()> {
        self.run([release(held)]).await?;
        Ok(())
    }
}

pub(super) fn release(held: &Lease) -> Statement {
    Statement::new(RELEASE, [held.name.clone(), held.fence.to_string()])
}

/// The lease that was acquired, or who holds it.
fn taken(name: &str, holder: &str, acquired: &Rows, present: &Rows) -> Result<Lease> {
    if let Some(row) = acquired.first() {
        return lease(name, holder, Row(row));
    }
    // Nobody, if it ended between the two statements.
    let present = present.first().map(|row| Row(row).text(0)).transpose()?;
    Err(lease_taken(name, present.unwrap_or("nobody any more")))
}

fn lease(name: &str, holder: &str, row: Row<'_>) -> Result<Lease> {
    let (fence, expires_at) = (row.integer(0)?, row.time(1)?);
    if fence == 0 {
        return Err(Error::new(ErrorKind::Unexpected, format!("lease {name:?} has no fencing number")));
    }
    Ok(Lease { name: name.to_owned(), holder: holder.to_owned(), fence, expires_at })
}

/// A duration as `strftime` adds it.
fn modifier(ttl: Duration) -> String {
    format!("+{}.{:03} seconds", ttl.as_secs(), ttl.subsec_millis())
}
