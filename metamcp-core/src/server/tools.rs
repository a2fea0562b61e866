//! What each tool does: arguments in, a facet's method, a short answer out.

pub(super) mod connections;
pub(super) mod deployments;
pub(super) mod environments;
pub(super) mod items;
pub(super) mod keys;
pub(super) mod openapi;
pub(super) mod projects;
pub(super) mod secrets;
pub(super) mod servers;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::ServerArg;

/// The arguments of a tool that is about one server and nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OneServer {
    pub(super) server_id: ServerArg,
}

/// The answer of a tool that either did it or says why not.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    pub(super) success: bool,
}

impl Done {
    pub(super) const YES: Self = Self { success: true };
}
