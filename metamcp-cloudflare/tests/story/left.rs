//! What there is in an account.

use metamcp_cloudflare::{D1Executor, WorkersKvCache};
use metamcp_core::KvCache;
use metamcp_core::registry::sql::{SqlExecutor, SqlValue, Statement};
use serde_json::Value;

use crate::account::{self, Account};

/// Whatever servers had: scripts, Durable Objects, keys of the cache, and rows of the database.
pub(crate) async fn left(account: &Account) -> Vec<String> {
    let scripts = scripts(account).await.into_iter().map(|name| format!("script {name}"));
    let objects = durable_objects(account).await.into_iter().map(|name| format!("Durable Objects {name}"));
    let cache = WorkersKvCache::open(account.client(), "META_MCP_KV").await.unwrap();
    let keys = cache.list("").await.unwrap().into_iter().map(|key| format!("key {key}"));
    scripts.chain(objects).chain(keys).chain(tables_with_rows(account).await).collect()
}

/// Scripts of the account and of its dispatch namespaces.
pub(crate) async fn scripts(account: &Account) -> Vec<String> {
    let mut names = listed(account, "workers/scripts", "id").await;
    for namespace in listed(account, "workers/dispatch/namespaces", "namespace_name").await {
        names.extend(listed(account, &format!("workers/dispatch/namespaces/{namespace}/scripts"), "id").await);
    }
    names
}

pub(crate) async fn durable_objects(account: &Account) -> Vec<String> {
    listed(account, "workers/durable_objects/namespaces", "name").await
}

async fn listed(account: &Account, path: &str, name: &str) -> Vec<String> {
    let url = format!("{}/accounts/{}/{path}", account.emulator.base_url(), account::ID);
    let listed = reqwest::Client::new().get(url).bearer_auth(account::TOKEN).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    listed["result"].as_array().unwrap().iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

/// Without those of migrations, of modules, which are shared and stay for a day, and of where servers are published.
async fn tables_with_rows(account: &Account) -> Vec<String> {
    let database = D1Executor::open(account.client(), "meta-mcp-db").await.unwrap();
    let select = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
        AND name NOT IN ('d1_migrations', 'worker_modules', 'worker_placement')";
    let names = column(&database, Statement::new(select, [])).await;
    let mut found = Vec::new();
    for name in names {
        let rows = column(&database, Statement::new(format!("SELECT 'row' FROM {name}"), [])).await.len();
        if rows > 0 {
            found.push(format!("{rows} rows of {name}"));
        }
    }
    found
}

/// The texts in the first column.
pub(crate) async fn column(database: &D1Executor, select: Statement) -> Vec<String> {
    let rows = database.execute(vec![select]).await.unwrap();
    let text = |row: &Vec<SqlValue>| match row.first() {
        Some(SqlValue::Text(text)) => text.clone(),
        other => panic!("{other:?} is no text"),
    };
    rows[0].iter().map(text).collect()
}
