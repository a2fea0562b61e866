//! A database as Workers see it: the requests that workerd's own API of D1 makes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Query, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use rusqlite::types::Value as SqlValue;
use serde::Deserialize;
use serde_json::{Value, json};

use super::run::{self, RowForm};
use crate::State;
use crate::answer::Refusal;

#[derive(Deserialize)]
#[serde(untagged)]
enum Statements {
    Many(Vec<Bound>),
    One(Bound),
}

#[derive(Deserialize)]
struct Bound {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(default)]
    results_format: String,
}

pub(crate) async fn serve_binding(state: &Arc<State>, id: &str, request: Request) -> Response {
    let arrays = Query::<Parameters>::try_from_uri(request.uri())
        .is_ok_and(|parameters| parameters.results_format == "ROWS_AND_COLUMNS");
    let form = if arrays { RowForm::Arrays } else { RowForm::Objects };
    let statements = match Json::<Statements>::from_request(request, state).await {
        Ok(Json(statements)) => statements,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match execute(state, id, statements, form) {
        Ok(results) => Json(results).into_response(),
        // D1 says so with a status that is no failure.
        Err(refusal) => Json(json!({ "success": false, "error": refusal.message })).into_response(),
    }
}

/// Everything as one transaction.
fn execute(state: &State, id: &str, statements: Statements, form: RowForm) -> Result<Value, Refusal> {
    let statements = match statements {
        Statements::Many(many) => many,
        Statements::One(one) => vec![one],
    };
    state.databases.inside(id, |_, database| {
        let transaction = database.connection.transaction().map_err(|error| run::refusal(&error))?;
        let mut results = Vec::new();
        for Bound { sql, params } in statements {
            let params: Vec<SqlValue> = params.unwrap_or_default().iter().map(value).collect();
            run::run_text(&transaction, &sql, &params, form, &mut results)?;
        }
        transaction.commit().map_err(|error| run::refusal(&error))?;
        Ok(Value::Array(results))
    })
}

/// Bytes come as an array of numbers.
fn value(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Bool(flag) => SqlValue::Integer(i64::from(*flag)),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| SqlValue::Real(number.as_f64().unwrap_or_default()), SqlValue::Integer)
        }
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Array(bytes) => {
            let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()).unwrap_or_default();
            SqlValue::Blob(bytes.iter().map(byte).collect())
        }
        Value::Object(_) => SqlValue::Text(value.to_string()),
    }
}
