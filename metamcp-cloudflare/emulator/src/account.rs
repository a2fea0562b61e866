//! Who calls, and what wrangler asks about them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::AUTHORIZATION;
use serde_json::json;

use crate::State;
use crate::answer::{Refusal, page, success};

/// The account that a client finds when it does not name one.
const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn routes() -> Router<Arc<State>> {
    let account = || json!({ "id": ACCOUNT, "name": "emulator" });
    Router::new()
        .route("/user/tokens/verify", get(async || success(json!({ "id": "emulator", "status": "active" }))))
        .route("/user", get(async || success(json!({ "id": "emulator", "email": "emulator@example.com" }))))
        .route("/accounts", get(move || async move { page(vec![account()], None, None, 50) }))
        .route(
            "/memberships",
            get(move || async move { page(vec![json!({ "id": "emulator", "account": account() })], None, None, 50) }),
        )
}

/// 401 without the token.
pub(crate) async fn authenticate(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let known = state.token.as_deref().map_or(!token.is_empty(), |expected| token == expected);
    if known { next.run(request).await } else { Refusal::new(401, 10_000, "Authentication error").into_response() }
}
