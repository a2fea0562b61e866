//! [`D1Executor`]: the registry's SQL on Cloudflare's D1.

use std::fmt::Debug;

use async_trait::async_trait;
use metamcp_core::registry::sql::{Rows, SqlExecutor, SqlRegistry, SqlValue, Statement};
use metamcp_core::{Error, ErrorKind, Result};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::{Call, Client, Collection, Repeat, segment};

/// The registry in a D1 database.
pub type D1Registry = SqlRegistry<D1Executor>;

/// D1's limits: <https://developers.cloudflare.com/d1/platform/limits/>.
const PARAMETERS: usize = 100;
const STATEMENT_BYTES: usize = 100_000;
const PARAMETER_BYTES: usize = 2_000_000;
/// Databases by name.
const DATABASES: Collection = Collection { path: "d1/database", name_field: "name", has_filter: true, per_page: 100 };

/// Runs SQL on one D1 database over the REST API: each batch is one request and one transaction.
#[derive(Debug, Clone)]
pub struct D1Executor {
    client: Client,
    database_id: String,
}

#[derive(Serialize)]
struct Batch<'a> {
    batch: Vec<BatchStatement<'a>>,
}

#[derive(Serialize)]
struct BatchStatement<'a> {
    sql: &'a str,
    params: &'a [String],
}

#[derive(Deserialize)]
struct StatementResult {
    results: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    rows: Vec<Vec<SqlValue>>,
}

impl D1Executor {
    /// The database of this name in the client's account; it is created if there is none.
    pub async fn open(client: Client, name: &str) -> Result<Self> {
        let database_id = client.find_or_create(DATABASES, name).await?;
        Ok(Self { client, database_id })
    }

    /// The database with this id, which has to be there: for a token that may not list or create any.
    pub fn with_database(client: Client, database_id: impl Into<String>) -> Self {
        Self { client, database_id: database_id.into() }
    }

    /// The database's id, as `wrangler.jsonc` names it.
    pub fn database_id(&self) -> &str {
        &self.database_id
    }
}

#[async_trait]
impl SqlExecutor for D1Executor {
    async fn execute(&self, batch: Vec<Statement>) -> Result<Vec<Rows>> {
        check_limits(&batch)?;
        let statements =
            batch.iter().map(|statement| BatchStatement { sql: &statement.sql, params: &statement.params });
        // The registry's batches may run twice with one outcome, so a lost answer is no reason to fail.
        let call = Call::new(Method::POST, format!("d1/database/{}/raw", segment(&self.database_id)), Repeat::Safe)
            .with_json(&Batch { batch: statements.collect() });
        let results: Vec<StatementResult> = self.client.call(&call).await?.result;
        if results.len() != batch.len() {
            let message = format!("D1 answered {} of {} statements", results.len(), batch.len());
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        Ok(results.into_iter().map(|result| result.results.map_or_else(Rows::new, |table| table.rows)).collect())
    }
}

/// What D1 would refuse, in words that say what to do.
fn check_limits(batch: &[Statement]) -> Result<()> {
    for statement in batch {
        let longest = statement.params.iter().map(String::len).max().unwrap_or_default();
        let problem = if statement.params.len() > PARAMETERS {
            format!("has {} parameters, D1 takes {PARAMETERS}", statement.params.len())
        } else if statement.sql.len() > STATEMENT_BYTES {
            format!("is {} bytes long, D1 takes {STATEMENT_BYTES}", statement.sql.len())
        } else if longest > PARAMETER_BYTES {
            format!("has a value of {longest} bytes, D1 takes {PARAMETER_BYTES}: make the definition smaller")
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::LimitExceeded, format!("a statement {problem}")));
    }
    Ok(())
}
