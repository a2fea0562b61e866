//! Leases by the database's clock.

use std::time::Duration;

use uuid::Uuid;

use super::row::Row;
use super::{SqlExecutor, SqlRegistry, Statement, now};
use crate::registry::{Lease, check_lease, lease_lost, lease_taken};
use crate::{Error, ErrorKind, Result};

/// The token lets a repeated batch find the lease it took itself.
const ACQUIRE: &str = concat!(
    "INSERT INTO mcp_leases (name, holder, token, fence, expires_at, created_at, updated_at)
     VALUES (?, ?, ?, 1, ",
    now!("?"),
    ", ",
    now!(),
    ", ",
    now!(),
    ") ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token,
     fence = fence + (token <> excluded.token), expires_at = excluded.expires_at, updated_at = excluded.updated_at
     WHERE expires_at <= ",
    now!(),
    " OR token = excluded.token RETURNING fence, expires_at"
);
const RENEW: &str = concat!(
    "UPDATE mcp_leases SET expires_at = ",
    now!("?"),
    ", updated_at = ",
    now!(),
    " WHERE name = ? AND fence = CAST(? AS INTEGER) AND expires_at > ",
    now!(),
    " RETURNING fence, expires_at"
);
/// The row stays, so that the next fencing number is higher.
const RELEASE: &str = concat!(
    "UPDATE mcp_leases SET expires_at = ",
    now!(),
    ", updated_at = ",
    now!(),
    " WHERE name = ? AND fence = CAST(? AS INTEGER) AND expires_at > ",
    now!()
);
const EXPIRE_ALL: &str =
    concat!("UPDATE mcp_leases SET expires_at = ", now!(), ", updated_at = ", now!(), " WHERE expires_at > ", now!());
const SELECT_HOLDER: &str = concat!("SELECT holder FROM mcp_leases WHERE name = ? AND expires_at > ", now!());

impl<E: SqlExecutor> SqlRegistry<E> {
    /// Ends every lease. Only for a caller that knows all holders to be gone, as the one owner of a data directory
    /// does; elsewhere leases run out by themselves.
    pub async fn expire_leases(&self) -> Result<()> {
        let [_] = self.run([Statement::new(EXPIRE_ALL, [])]).await?;
        Ok(())
    }

    pub(super) async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        check_lease(name, holder, ttl)?;
        let token = Uuid::new_v4().to_string();
        let params = [name.to_owned(), holder.to_owned(), token, modifier(ttl)];
        let [acquired, present] =
            self.run([Statement::new(ACQUIRE, params), Statement::new(SELECT_HOLDER, [name.to_owned()])]).await?;
        if let Some(row) = acquired.first() {
            return lease(name, holder, Row(row));
        }
        // Nobody, if it ended between the two statements.
        let present = present.first().map(|row| Row(row).text(0)).transpose()?;
        Err(lease_taken(name, present.unwrap_or("nobody any more")))
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
        self.run([Statement::new(RELEASE, [held.name.clone(), held.fence.to_string()])]).await?;
        Ok(())
    }
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
