//! [`Call`]: what a tool is given beside its arguments.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::access::Access;
use super::visible;
use crate::name::{ServerKey, ServerName};
use crate::registry::ListOptions;
use crate::validate::nearest;
use crate::{Error, ErrorKind, MetaMcp, Result};

/// Characters of what a call is about that are written down.
const MAX_SUBJECT: usize = 256;

/// Servers among whose names one is looked for that was probably meant.
const LOOKED_AT: u32 = 1_000;

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
    /// Arguments that were given as `null`.
    nulls: Arc<[String]>,
    /// What it is about, for the audit log.
    subject: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    steps: AtomicU32,
}

impl Call {
    pub(super) fn new(meta: MetaMcp, access: Arc<Access>) -> Self {
        Self { meta, access, progress: None, nulls: Arc::default(), subject: Arc::default() }
    }

    /// Says what the call is about, beside the server, where that shows only in its work: such as the id of what was
    /// made. Nothing that is secret.
    pub(super) fn is_about(&self, subject: impl Into<String>) {
        let subject: String = subject.into();
        let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let subject = subject.chars().take(MAX_SUBJECT).map(shown).collect();
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Some(subject);
    }

    /// What the call is about, as far as that is known.
    pub(super) fn subject(&self) -> Option<String> {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports progress to a caller who asked for it.
    pub(super) fn with_progress(mut self, peer: Peer<RoleServer>, token: Option<ProgressToken>) -> Self {
        self.progress = token.map(|token| Arc::new(Progress { peer, token, steps: AtomicU32::new(0) }));
        self
    }

    /// Says which arguments were given as `null`.
    pub(super) fn with_nulls(mut self, nulls: Vec<String>) -> Self {
        self.nulls = nulls.into();
        self
    }

    /// Arguments that were given as `null`: for most tools the same as left out.
    pub(super) fn nulls(&self) -> &[String] {
        &self.nulls
    }

    /// The server that the caller names; [`ErrorKind::PermissionDenied`] if the caller is limited to others.
    pub(super) async fn server(&self, named: &ServerArg) -> Result<ServerKey> {
        let key: ServerKey = named
            .0
            .parse()
            .map_err(|error: crate::NameError| Error::from(error).with_help("list_mcp_servers shows ids and names"))?;
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

    /// An error about a server of this name; where there is no such server, with the name that was probably meant,
    /// among those that the caller may see.
    pub(super) async fn meant(&self, server: &str, error: Error) -> Error {
        if let Ok(key) = server.parse::<ServerKey>()
            && !matches!(self.meta.servers().get(&key).await, Err(error) if error.kind() == ErrorKind::NotFound)
        {
            return error;
        }
        let options = ListOptions { limit: LOOKED_AT, ..ListOptions::default() };
        let Ok(page) = visible::page(&self.meta, &self.access, &options).await else { return error };
        match nearest(server, page.items.iter().map(|server| server.name.as_str())) {
            Some(near) => error.with_help(format!("did you mean {near:?}?")),
            None => error,
        }
    }

    fn allowed(&self, name: &ServerName) -> Result<()> {
        if self.access.may_use(name) {
            return Ok(());
        }
        let message = format!("{} may not use server {name}", self.access.actor());
        Err(Error::new(ErrorKind::PermissionDenied, message).with_help("list_mcp_servers shows those it may use"))
    }

    /// Does the work, and tells a caller who asked for progress every so often that it goes on: clients and proxies
    /// give up on what says nothing.
    pub(super) async fn report_while<T>(&self, work: impl Future<Output = T>, interval: Duration) -> T {
        let mut work = pin!(work);
        if self.progress.is_none() {
            return work.await;
        }
        let started = Instant::now();
        loop {
            match timeout(interval, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.report(format!("still running, {} s", started.elapsed().as_secs())).await,
            }
        }
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
