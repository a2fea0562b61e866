//! D1: databases of an account, each a SQLite database in memory.

mod binding;
mod run;
mod transfer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, State as Shared};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::State;
use crate::answer::{Answer, Refusal, page, success};
use run::{Body, RowForm};

pub(crate) use binding::serve_binding;
pub(crate) use transfer::transfer_routes;

const PER_PAGE: usize = 10_000;

/// The databases of an account.
#[derive(Debug, Default)]
pub(crate) struct Databases {
    by_id: Mutex<BTreeMap<String, Database>>,
    transfers: transfer::Transfers,
}

#[derive(Debug)]
struct Database {
    name: String,
    created_at: String,
    connection: Connection,
}

#[derive(Deserialize)]
struct NewDatabase {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    name: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

impl Databases {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Database>) -> T) -> T {
        work(&mut self.by_id.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a database of this id.
    pub(crate) fn exists(&self, id: &str) -> bool {
        self.with(|databases| databases.contains_key(id))
    }

    /// A database by id, or by name as wrangler asks for it.
    fn inside<T>(&self, key: &str, work: impl FnOnce(&str, &mut Database) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.with(|databases| {
            let found = databases.iter_mut().find(|(id, database)| *id == key || database.name == key);
            let (id, database) =
                found.ok_or_else(|| Refusal::new(404, 7_404, format!("The database {key} could not be found")))?;
            work(id, database)
        })
    }
}

impl Database {
    fn described(&self, id: &str) -> Value {
        let size = self.connection.query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |row| row.get::<_, i64>(0),
        );
        let tables = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get::<_, i64>(0));
        json!({
            "uuid": id, "name": self.name, "version": "production", "created_at": self.created_at,
            "num_tables": tables.unwrap_or_default(), "file_size": size.unwrap_or_default(), "running_in_region": "WEUR"
        })
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/d1/database", get(list).post(create))
        .route("/d1/database/{database}", get(describe).delete(remove))
        .route("/d1/database/{database}/query", post(query))
        .route("/d1/database/{database}/raw", post(raw))
        .route("/d1/database/{database}/import", post(transfer::import))
        .route("/d1/database/{database}/export", post(transfer::export))
}

type At = Path<(String, String)>;

async fn list(Shared(state): Shared<Arc<State>>, Query(listing): Query<Listing>) -> Response {
    let wanted = |name: &str| listing.name.as_deref().is_none_or(|part| name.contains(part));
    let found = state.databases.with(|databases| {
        let found = databases.iter().filter(|(_, database)| wanted(&database.name));
        found.map(|(id, database)| database.described(id)).collect()
    });
    page(found, listing.page, listing.per_page.or(Some(100)), PER_PAGE)
}

async fn create(Shared(state): Shared<Arc<State>>, Json(body): Json<NewDatabase>) -> Answer {
    let name = body.name.filter(|name| !name.is_empty()).ok_or_else(|| Refusal::new(400, 7_400, "name is required"))?;
    state.databases.with(|databases| {
        if databases.values().any(|database| database.name == name) {
            return Err(Refusal::new(400, 7_502, format!("Database with name '{name}' already exists")));
        }
        let connection = run::open().map_err(|error| run::refusal(&error))?;
        let created_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let (id, database) = (Uuid::new_v4().to_string(), Database { name, created_at, connection });
        let described = database.described(&id);
        databases.insert(id, database);
        Ok(success(described))
    })
}

async fn describe(Shared(state): Shared<Arc<State>>, Path((_, key)): At) -> Answer {
    state.databases.inside(&key, |id, database| Ok(success(database.described(id))))
}

async fn remove(Shared(state): Shared<Arc<State>>, Path((_, key)): At) -> Answer {
    let id = state.databases.inside(&key, |id, _| Ok(id.to_owned()))?;
    state.databases.with(|databases| databases.remove(&id));
    Ok(success(Value::Null))
}

async fn query(Shared(state): Shared<Arc<State>>, Path((_, key)): At, Json(body): Json<Value>) -> Answer {
    execute(&state, &key, body, RowForm::Objects)
}

async fn raw(Shared(state): Shared<Arc<State>>, Path((_, key)): At, Json(body): Json<Value>) -> Answer {
    execute(&state, &key, body, RowForm::Arrays)
}

fn execute(state: &State, key: &str, body: Value, form: RowForm) -> Answer {
    let body: Body =
        serde_json::from_value(body).map_err(|error| Refusal::new(400, 7_400, format!("invalid request: {error}")))?;
    state.databases.inside(key, |_, database| run::run(&mut database.connection, body, form).map(success))
}
