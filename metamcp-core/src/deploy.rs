//! [`Deployments`]: makes servers live, takes them back to older versions, and tells how they are.

mod activate;
mod call_limits;
mod pipeline;
mod reconcile;
mod remove;
mod rollback;
mod tool_call;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Span;
use tracing::field::{Empty, display};
use url::Url;

pub(crate) use call_limits::{CallTerms, KnownLimits};
pub use reconcile::ReconcileReport;
pub use remove::{CleanupMode, CleanupOptions, CleanupReport};
pub(crate) use tool_call::call_connected;
pub use tool_call::{MAX_RESULT_BYTES, ToolAnswer, ToolTest};

use crate::event::EventSink;
use crate::lease::HeldLease;
use crate::meta_mcp::Backends;
use crate::name::{ServerId, ServerKey, ServerName, VersionId};
use crate::publisher::{LogLine, LogOptions};
use crate::registry::{DeploymentRecord, LiveState, RecordStatus, Revision, ServerRecord, VersionRecord};
use crate::trace::{traced, verb};
use crate::validate::ValidDefinition;
use crate::validated::validated;
use crate::verify::{Depth, Verification, verify};
use crate::{Error, ErrorKind, Result};

/// How long a verification may take beside the calls it makes.
const VERIFY_LIMIT: Duration = Duration::from_secs(20);
/// Versions that are kept for a rollback, as on Cloudflare.
const KEPT_VERSIONS: usize = 100;

/// Everything about live servers. Cheap to clone.
///
/// What deploys, tests, rolls back or removes a server has it for itself: another one, of this program or another, waits
/// until that has ended. After 35 seconds, longer than a program that crashed keeps a server from others, it is
/// [`ErrorKind::Conflict`], which names the holder, and nothing was begun. The free server goes to whoever asks next, in
/// no order; each asks at growing intervals, once a second at last. Where events are reported, [`DeployEvent::Waiting`] is
/// one. The work, and with it the waiting, goes on if the returned future is dropped.
///
/// [`DeployEvent::Waiting`]: crate::DeployEvent::Waiting
#[derive(Debug, Clone)]
pub struct Deployments {
    backends: Arc<Backends>,
    holder: Arc<str>,
    limits: Arc<KnownLimits>,
}

/// A server that is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Deployment {
    /// Id of the server.
    pub server_id: ServerId,
    /// Name of the server.
    pub name: ServerName,
    /// Where MCP clients connect.
    pub url: Url,
    /// The version that is served.
    pub version: VersionId,
    /// The revision that version was made from.
    pub revision: Revision,
    /// What the check of the live endpoint saw.
    pub verification: Verification,
}

impl Deployment {
    /// A version of a server that answers as it should.
    fn new(
        record: &ServerRecord,
        url: Url,
        version: &VersionId,
        revision: Revision,
        verification: Verification,
    ) -> Self {
        let (server_id, name, version) = (record.id, record.name.clone(), version.clone());
        Self { server_id, name, url, version, revision, verification }
    }

    /// What the registry keeps of it.
    fn live_state(&self) -> LiveState {
        LiveState {
            status: RecordStatus::Deployed,
            url: self.url.clone(),
            version: self.version.clone(),
            revision: self.revision,
        }
    }
}

impl Deployments {
    pub(crate) fn new(backends: Arc<Backends>, holder: Arc<str>, limits: Arc<KnownLimits>) -> Self {
        Self { backends, holder, limits }
    }

    /// Makes the newest revision of a server live and checks it.
    ///
    /// A version is built and staged, its preview is checked, then it becomes live and is checked again. After a
    /// failure the version that was live before still is, or is again, with two exceptions that stay pending for
    /// [`Deployments::reconcile`]: the new version is live and checked, and only that could not be recorded; or another
    /// program may have deployed the server meanwhile, and then nothing is undone. Deploying what is already live
    /// changes nothing.
    ///
    /// [`ErrorKind::VerificationFailed`], [`ErrorKind::BuildFailed`], [`ErrorKind::Unsupported`] say why a version did
    /// not become live.
    pub async fn deploy(&self, key: &ServerKey) -> Result<Deployment> {
        self.deploy_with_events(key, EventSink::default()).await
    }

    /// [`Deployments::deploy`] that reports each step; see [`EventSink::channel`].
    pub async fn deploy_with_events(&self, key: &ServerKey, events: EventSink) -> Result<Deployment> {
        let (this, key) = (self.clone(), key.clone());
        let span = verb!(INFO, "deploy", server = %key, id = Empty, revision = Empty, version = Empty);
        let ended = span.clone();
        run_to_its_end(span, async move {
            let deployment = pipeline::deploy(&this, &key, events).await?;
            ended.record("id", display(deployment.server_id)).record("revision", deployment.revision.0);
            ended.record("version", display(&deployment.version));
            Ok(deployment)
        })
        .await
    }

    /// Makes an older version live again and checks it. The working definition stays as it is.
    ///
    /// [`ErrorKind::NotFound`] for a version that is not (or no longer) kept. If the old version fails its check, the
    /// one that was live before is live again, with the same exceptions as in [`Deployments::deploy`].
    pub async fn rollback(&self, key: &ServerKey, version: &VersionId) -> Result<Deployment> {
        self.rollback_with_events(key, version, EventSink::default()).await
    }

    /// [`Deployments::rollback`] that reports each step; see [`EventSink::channel`].
    pub async fn rollback_with_events(
        &self,
        key: &ServerKey,
        version: &VersionId,
        events: EventSink,
    ) -> Result<Deployment> {
        let (this, key, version) = (self.clone(), key.clone(), version.clone());
        let span = verb!(INFO, "rollback", server = %key, %version);
        run_to_its_end(span, async move { rollback::rollback(&this, &key, &version, events).await }).await
    }

    /// Takes a server down and removes it with its versions, state and secrets. Idempotent after a crash: what
    /// was begun is finished by [`Deployments::reconcile`]. [`ErrorKind::NotFound`] if there is none.
    pub async fn remove(&self, key: &ServerKey) -> Result<()> {
        self.remove_with_events(key, EventSink::default()).await
    }

    /// [`Deployments::remove`] that reports whether it has to wait; see [`EventSink::channel`].
    pub async fn remove_with_events(&self, key: &ServerKey, events: EventSink) -> Result<()> {
        self.remove_if(key, events, |_| true).await.map(drop)
    }

    /// Removes servers that did not change for a time. By default only tells which it would remove. One that is changed
    /// before its turn comes stays.
    pub async fn cleanup_old_servers(&self, options: CleanupOptions) -> Result<CleanupReport> {
        traced(verb!(INFO, "cleanup_old_servers"), Box::pin(remove::cleanup(self, options))).await
    }

    /// Finishes or undoes what a crash left, and brings registry and target into agreement: afterwards there is no
    /// live server without a record and no record of a live server without one. What another program works on is
    /// left alone and listed as pending.
    pub async fn reconcile(&self) -> Result<ReconcileReport> {
        let this = self.clone();
        run_to_its_end(verb!(INFO, "reconcile"), async move { reconcile::reconcile(&this).await }).await
    }

    /// Versions that can be rolled back to, newest first.
    pub async fn versions(&self, key: &ServerKey) -> Result<Vec<VersionRecord>> {
        traced(verb!(DEBUG, "versions", server = %key), async move {
            let record = self.backends.registry.get_server(key).await?;
            self.backends.registry.list_versions(record.id).await
        })
        .await
    }

    /// Deployments of a server and how they ended, newest first, at most `limit`.
    pub async fn history(&self, key: &ServerKey, limit: u32) -> Result<Vec<DeploymentRecord>> {
        traced(verb!(DEBUG, "history", server = %key), async move {
            let (id, _) = self.backends.registry.get_revision(key).await?;
            self.backends.registry.list_deployments(id, limit).await
        })
        .await
    }

    /// Checks the live endpoint against the definition its version was made from.
    /// [`ErrorKind::NotFound`] if nothing is live; [`ErrorKind::Conflict`] if another version is than was deployed.
    pub async fn verify(&self, key: &ServerKey) -> Result<Verification> {
        let record = self.backends.registry.get_server(key).await?;
        let Some(live) = &record.live else { return Err(not_live(&record)) };
        let snapshot = snapshot(&self.backends, record.id, &live.version).await?;
        let server = record.reference();
        let published = self.backends.publisher.list_versions(&server).await?;
        if let Some(other) = published.into_iter().find(|seen| seen.active && seen.version != live.version) {
            return Err(other_is_live(&other.version, live));
        }
        let endpoint = self.backends.publisher.endpoint(&server).await?;
        verify(&endpoint, &snapshot, Depth::Calls, verify_limit(&snapshot)).await
    }

    /// The newest lines a server wrote, oldest first.
    pub async fn logs(&self, key: &ServerKey, options: LogOptions) -> Result<Vec<LogLine>> {
        traced(verb!(DEBUG, "logs", server = %key), async move {
            let record = self.backends.registry.get_server(key).await?;
            self.backends.publisher.logs(&record.reference(), options).await
        })
        .await
    }

    /// Calls a tool of the live version.
    ///
    /// A tool that fails is an answer with `is_error`. [`ErrorKind::NotFound`] if nothing is live or the live version
    /// has no such tool; [`ErrorKind::TimedOut`] after the tool's own limit. Where the tool may have done its work although
    /// there is no answer, the error says so, and is retryable only if the tool's annotations have `readOnlyHint` or
    /// `idempotentHint`.
    pub async fn call_tool(&self, key: &ServerKey, tool: &str, arguments: Map<String, Value>) -> Result<ToolAnswer> {
        let span = verb!(DEBUG, "call_tool", server = %key, tool);
        traced(span, Box::pin(tool_call::call(self, key, tool, arguments))).await
    }

    /// Tries a tool of the working definition without deploying it: stages a version, calls it and discards it.
    /// What is live stays as it is. Nothing is recorded.
    ///
    /// [`ErrorKind::NotFound`] if the definition has no such tool; [`ErrorKind::Unsupported`] where the target has no
    /// previews.
    pub async fn test_tool(&self, key: &ServerKey, tool: &str, arguments: Map<String, Value>) -> Result<ToolTest> {
        self.test_tool_with_events(key, tool, arguments, EventSink::default()).await
    }

    /// [`Deployments::test_tool`] that reports each step; see [`EventSink::channel`].
    pub async fn test_tool_with_events(
        &self,
        key: &ServerKey,
        tool: &str,
        arguments: Map<String, Value>,
        events: EventSink,
    ) -> Result<ToolTest> {
        let (this, key, tool) = (self.clone(), key.clone(), tool.to_owned());
        let span = verb!(INFO, "test_tool", server = %key, tool);
        run_to_its_end(span, async move { tool_call::test(&this, &key, &tool, arguments, events).await }).await
    }

    /// Removes a server, if it is wanted once nobody else may change what is live of it; says whether it was.
    async fn remove_if(
        &self,
        key: &ServerKey,
        events: EventSink,
        is_wanted: impl FnOnce(&ServerRecord) -> bool + Send + 'static,
    ) -> Result<bool> {
        let (this, key) = (self.clone(), key.clone());
        let span = verb!(INFO, "remove", server = %key);
        run_to_its_end(span, async move { remove::remove_if(&this, &key, events, is_wanted).await }).await
    }

    /// A server under its lease: nobody else changes what is live of it meanwhile. Waits for whoever does now.
    async fn lease(&self, key: &ServerKey, events: &EventSink) -> Result<(ServerRecord, HeldLease)> {
        HeldLease::of_server(self.backends.registry.clone(), key, &self.holder, events).await
    }

    /// [`Deployments::lease`] for what leaves a server alone that somebody else has.
    async fn lease_now(&self, key: &ServerKey) -> Result<(ServerRecord, HeldLease)> {
        HeldLease::of_server_now(self.backends.registry.clone(), key, &self.holder).await
    }
}

/// The definition a version was made from, checked again: it was valid when it was recorded.
async fn snapshot(backends: &Backends, server: ServerId, version: &VersionId) -> Result<ValidDefinition> {
    let recorded = backends.registry.get_version(server, version).await?;
    validated(recorded.definition).await
}

fn verify_limit(definition: &ValidDefinition) -> Duration {
    let calls = definition.tools().iter().map(|tool| tool.examples.len() as u64).sum::<u64>() + 1;
    VERIFY_LIMIT + Duration::from_millis(definition.limits().timeout_ms.saturating_mul(calls).min(300_000))
}

fn not_live(record: &ServerRecord) -> Error {
    Error::new(ErrorKind::NotFound, format!("server {} is not live", record.name)).with_help("deploy it first")
}

/// The error of a target on which somebody made another version live.
fn other_is_live(other: &VersionId, recorded: &LiveState) -> Error {
    let message = format!("version {other} is live, {} was deployed", recorded.version);
    Error::new(ErrorKind::Conflict, message).with_help("deploy or roll back")
}

/// Runs what changes a server in a task of its own, so that a caller who goes away does not leave it half done.
pub(crate) async fn run_to_its_end<T: Send + 'static>(
    span: Span,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = tokio::spawn(traced(span, Box::pin(work)));
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Unexpected, "the task that changes the server did not end").with_source(error))
    })
}
