//! [`Call`]: what a tool is given beside its arguments.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::access::Access;
use crate::name::{ServerKey, ServerName};
use crate::{Error, ErrorKind, MetaMcp, Result};

/// How a call names a server. What it names is only told by [`Call::server`], which checks that the caller may use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ServerArg(String);

impl JsonSchema for ServerArg {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ServerArg".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // That it is an id or a name is said once, in the server's instructions, not in forty tools.
        json_schema!({ "type": "string" })
    }
}

/// One call of a tool: what it works on, who calls, and where progress goes.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) meta: MetaMcp,
    pub(super) access: Arc<Access>,
    progress: Option<Arc<Progress>>,
}

#[derive(Debug)]
struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    steps: AtomicU32,
}

impl Call {
    pub(super) fn new(meta: MetaMcp, access: Arc<Access>) -> Self {
        Self { meta, access, progress: None }
    }

    /// Reports progress to a caller who asked for it.
    pub(super) fn with_progress(mut self, peer: Peer<RoleServer>, token: Option<ProgressToken>) -> Self {
        self.progress = token.map(|token| Arc::new(Progress { peer, token, steps: AtomicU32::new(0) }));
        self
    }

    /// The server that the caller names; [`ErrorKind::PermissionDenied`] if the caller is limited to others.
    pub(super) async fn server(&self, named: &ServerArg) -> Result<ServerKey> {
        let key: ServerKey = named.0.parse().map_err(|error: crate::NameError| {
            Error::new(ErrorKind::NotFound, error.to_string()).with_help("list_mcp_servers shows ids and names")
        })?;
        if self.access.is_limited() {
            match &key {
                ServerKey::Name(name) => self.allowed(name)?,
                ServerKey::Id(_) => self.allowed(&self.meta.servers().get(&key).await?.name)?,
            }
        }
        Ok(key)
    }

    /// A name for a new server; [`ErrorKind::PermissionDenied`] if the caller is limited to others.
    pub(super) fn new_server(&self, name: &str) -> Result<()> {
        // A name that is none is the validation's to refuse, with all other problems.
        name.parse::<ServerName>().map_or(Ok(()), |name| self.allowed(&name))
    }

    /// Refuses a caller who is limited to some servers, for work that is about all of them or none.
    pub(super) fn unlimited(&self) -> Result<()> {
        if self.access.is_limited() {
            let message =
                format!("{} is limited to some servers, and this is not about one of them", self.access.actor());
            return Err(Error::new(ErrorKind::PermissionDenied, message).with_help("use a key without server patterns"));
        }
        Ok(())
    }

    fn allowed(&self, name: &ServerName) -> Result<()> {
        if self.access.may_use(name) {
            return Ok(());
        }
        let message = format!("{} may not use server {name}", self.access.actor());
        Err(Error::new(ErrorKind::PermissionDenied, message).with_help("list_mcp_servers shows those it may use"))
    }

    /// Tells a caller who asked for it how far the work is.
    pub(super) async fn report(&self, message: impl Into<String>) {
        let Some(progress) = &self.progress else { return };
        let step = progress.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let params = ProgressNotificationParam::new(progress.token.clone(), f64::from(step)).with_message(message);
        if let Err(error) = progress.peer.notify_progress(params).await {
            tracing::debug!(%error, "progress could not be reported");
        }
    }
}
