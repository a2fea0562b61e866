//! Several programs work on the same servers: what one of them has finished, no other undoes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answering;
mod meanwhile;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use meanwhile::Meanwhile;
use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryPublisher, MemoryRegistry};
use metamcp_core::registry::{DeploymentStep, Lease, RecordStatus, Registry};
use metamcp_core::{
    Backends, CleanupMode, CleanupOptions, CleanupReport, DeployEvent, Deployment, Error, ErrorKind, EventSink,
    MetaMcp, MockBuilder, MockPublisher, Publisher, ReconcileReport, ServerDefinition, ServerId, ServerKey, VersionId,
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume};

/// Longer than any lease lasts that nobody renews.
const MINUTE: Duration = Duration::from_secs(60);

/// What all programs share.
#[derive(Debug, Clone)]
struct World {
    registry: Arc<MemoryRegistry>,
    publisher: Arc<MemoryPublisher>,
}

/// A program at whose calls others act.
struct Program {
    meta: MetaMcp,
    registry: Arc<Meanwhile<dyn Registry>>,
    publisher: Arc<Meanwhile<dyn Publisher>>,
}

impl World {
    async fn new() -> Self {
        Self { registry: Arc::new(MemoryRegistry::new()), publisher: answering::publisher().await }
    }

    /// One in which version 1 is live, and the definition of a version 2 is written.
    async fn with_a_server() -> (Self, Deployment) {
        let world = Self::new().await;
        let meta = world.program().meta;
        meta.servers().create(&definition(1)).await.unwrap();
        let first = meta.deployments().deploy(&key()).await.unwrap();
        write(&meta, 2).await;
        (world, first)
    }

    fn program(&self) -> Program {
        let registry = Meanwhile::<dyn Registry>::new(self.registry.clone());
        let publisher = Meanwhile::<dyn Publisher>::new(self.publisher.clone());
        let meta = MetaMcp::new(Backends {
            registry: registry.clone(),
            cache: Arc::new(MemoryKvCache::new()),
            builder: Arc::new(MemoryBuilder::new()),
            publisher: publisher.clone(),
        });
        Program { meta, registry, publisher }
    }

    /// Takes the server over from whoever works on it, as if their lease had run out, and deploys version 3.
    async fn take_over(self, id: ServerId) {
        self.clone().end(id).await;
        let meta = self.program().meta;
        write(&meta, 3).await;
        meta.deployments().deploy(&key()).await.unwrap();
    }

    /// The same for somebody who finds out by the clock.
    async fn take_over_in_a_minute(self, id: ServerId) {
        self.take_over(id).await;
        pause();
        advance(MINUTE).await;
        resume();
    }

    /// Ends the lease of whoever works on the server.
    async fn end(self, id: ServerId) {
        for fence in 1..=9 {
            let (name, holder) = (format!("server:{id}"), String::new());
            let lease = Lease { name, holder, fence, expires_at: OffsetDateTime::now_utc() };
            self.registry.release_lease(&lease).await.unwrap();
        }
    }

    /// The version that is served, which has to be the one that is recorded.
    async fn live(&self) -> VersionId {
        let record = self.registry.get_server(&key()).await.unwrap();
        let live = record.live.unwrap();
        assert_eq!(live.status, RecordStatus::Deployed);
        let published = self.publisher.list_versions(&self.server().await).await.unwrap();
        let served = published.into_iter().find(|version| version.active).unwrap().version;
        assert_eq!(served, live.version, "another version is served than is recorded");
        served
    }

    /// The revision that the live version was made from.
    async fn live_revision(&self) -> u64 {
        let version = self.live().await;
        let id = self.server().await.id;
        self.registry.get_version(id, &version).await.unwrap().revision.0
    }

    async fn server(&self) -> metamcp_core::ServerRef {
        self.registry.get_server(&key()).await.unwrap().reference()
    }
}

impl Program {
    fn assert_all_happened(&self) {
        assert!(self.registry.is_over() && self.publisher.is_over(), "a call was not made at which others were to act");
    }
}

fn key() -> ServerKey {
    "shared".parse().unwrap()
}

/// Each revision has a tool of its own, by which a check tells it from others.
fn definition(revision: u64) -> ServerDefinition {
    serde_json::from_value(json!({
        "name": "shared", "description": "Is deployed by several programs.",
        "tools": [{ "name": format!("tool_{revision}"), "description": "A tool.", "implementation": "return 1;" }]
    }))
    .unwrap()
}

async fn write(meta: &MetaMcp, revision: u64) {
    let record = meta.servers().edit(&key(), |_| Ok(definition(revision))).await.unwrap();
    assert_eq!(record.revision.0, revision);
}

/// What a reconciliation reports that did this and nothing else.
fn changed(change: impl FnOnce(&mut ReconcileReport)) -> ReconcileReport {
    let mut report = ReconcileReport::default();
    change(&mut report);
    report
}

/// Somebody's deployment of version 2, which stops at a call until it is let go on.
struct Halfway {
    go: Arc<Notify>,
    deploying: JoinHandle<Deployment>,
}

impl Halfway {
    async fn at(other: Program, method: &'static str) -> Self {
        let (there, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arriving, waiting) = (there.clone(), go.clone());
        other.publisher.after(method, async move {
            arriving.notify_one();
            waiting.notified().await;
        });
        let deploying = tokio::spawn(async move { other.meta.deployments().deploy(&key()).await.unwrap() });
        there.notified().await;
        Self { go, deploying }
    }

    async fn finish(self) {
        self.go.notify_one();
        self.deploying.await.unwrap();
    }
}

#[tokio::test]
async fn a_deployment_that_ends_while_another_program_reconciles_stays_live() {
    let (world, _) = World::with_a_server().await;
    let halfway = Halfway::at(world.program(), "activate").await;
    let reconciling = world.program();
    reconciling.registry.after("list_servers", halfway.finish());
    let report = reconciling.meta.deployments().reconcile().await.unwrap();
    reconciling.assert_all_happened();
    assert_eq!(world.live_revision().await, 2);
    assert_eq!(report.reactivated, []);
    assert_eq!(report.pending.len(), 1, "when it was listed it was under way: {report:?}");
    assert_eq!(reconciling.meta.deployments().reconcile().await.unwrap(), ReconcileReport::default());
}

#[tokio::test]
async fn a_deployment_waits_for_another_programs_and_says_so() {
    let (world, _) = World::with_a_server().await;
    let halfway = Halfway::at(world.program(), "stage").await;
    let (events, mut seen) = EventSink::channel();
    let meta = world.program().meta;
    let waiting = tokio::spawn(async move { meta.deployments().deploy_with_events(&key(), events).await });
    assert_eq!(seen.next().await, Some(DeployEvent::Waiting));
    halfway.finish().await;
    assert_eq!(waiting.await.unwrap().unwrap().version, world.live().await);
    assert_eq!(world.live_revision().await, 2);
    let rest: Vec<_> = seen.collect().await;
    let wanted = |event: &DeployEvent| matches!(event, DeployEvent::Started { .. });
    assert!(rest.first().is_some_and(wanted) && !rest.contains(&DeployEvent::Waiting), "{rest:?}");
}

#[tokio::test]
async fn a_deployment_that_ends_after_it_was_listed_as_pending_is_not_undone() {
    let (world, _) = World::with_a_server().await;
    let halfway = Halfway::at(world.program(), "stage").await;
    let reconciling = world.program();
    reconciling.registry.after("pending_deployments", halfway.finish());
    let report = reconciling.meta.deployments().reconcile().await.unwrap();
    reconciling.assert_all_happened();
    assert_eq!(report, ReconcileReport::default());
    assert_eq!(world.live_revision().await, 2);
    let last = reconciling.meta.deployments().history(&key(), 1).await.unwrap().remove(0);
    assert_eq!((last.step, last.version), (DeploymentStep::Live, Some(world.live().await)));
}

#[tokio::test]
async fn a_server_that_is_removed_after_its_deployment_was_listed_as_pending_is_no_difference() {
    let (world, first) = World::with_a_server().await;
    let stopped = world.program();
    stopped.registry.before("finish_deployment", world.clone().end(first.server_id));
    stopped.meta.deployments().deploy(&key()).await.unwrap_err();
    let (reconciling, other) = (world.program(), world.program());
    reconciling
        .registry
        .after("pending_deployments", async move { other.meta.deployments().remove(&key()).await.unwrap() });
    assert_eq!(reconciling.meta.deployments().reconcile().await.unwrap(), ReconcileReport::default());
    reconciling.assert_all_happened();
}

#[tokio::test]
async fn what_is_recorded_and_not_served_is_live_again() {
    let (world, first) = World::with_a_server().await;
    let second = world.program().meta.deployments().deploy(&key()).await.unwrap();
    world.publisher.activate(&world.server().await, &first.version).await.unwrap();
    let meta = world.program().meta;
    let report = meta.deployments().reconcile().await.unwrap();
    assert_eq!(report, changed(|report| report.reactivated.push(second.name)));
    assert_eq!(world.live().await, second.version);
}

#[tokio::test]
async fn a_rollback_whose_step_is_refused_undoes_nothing() {
    let (world, first) = World::with_a_server().await;
    let other = world.program();
    other.meta.deployments().deploy(&key()).await.unwrap();
    other.registry.before("put_deployment", world.clone().take_over(first.server_id));
    let error = other.meta.deployments().rollback(&key(), &first.version).await.unwrap_err();
    other.assert_all_happened();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.live_revision().await, 3);
    assert_eq!(other.meta.deployments().reconcile().await.unwrap(), ReconcileReport::default());
}

#[tokio::test]
async fn a_deployment_that_lost_its_lease_while_it_was_checked_undoes_nothing() {
    let (world, first) = World::with_a_server().await;
    let other = world.program();
    other.publisher.after("activate", world.clone().take_over_in_a_minute(first.server_id));
    let error = other.meta.deployments().deploy(&key()).await.unwrap_err();
    other.assert_all_happened();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed, "{error}");
    assert_eq!(world.live_revision().await, 3);
    // What it left is for reconciliation to undo.
    assert_eq!(world.publisher.list_versions(&world.server().await).await.unwrap().len(), 3);
    let report = other.meta.deployments().reconcile().await.unwrap();
    assert_eq!(report, changed(|report| report.undone.push(first.name)));
    assert_eq!(world.publisher.list_versions(&world.server().await).await.unwrap().len(), 2);
    assert_eq!(world.live_revision().await, 3);
}

#[tokio::test]
async fn a_rollback_that_lost_its_lease_while_it_was_checked_undoes_nothing() {
    let (world, first) = World::with_a_server().await;
    let other = world.program();
    other.meta.deployments().deploy(&key()).await.unwrap();
    other.publisher.after("activate", world.clone().take_over_in_a_minute(first.server_id));
    let error = other.meta.deployments().rollback(&key(), &first.version).await.unwrap_err();
    other.assert_all_happened();
    assert_eq!(error.kind(), ErrorKind::VerificationFailed, "{error}");
    assert_eq!(world.live_revision().await, 3);
}

#[tokio::test]
async fn a_deployment_that_lost_its_lease_before_it_was_live_never_is() {
    let (world, first) = World::with_a_server().await;
    let other = world.program();
    other.registry.after("put_version", world.clone().take_over_in_a_minute(first.server_id));
    let error = other.meta.deployments().deploy(&key()).await.unwrap_err();
    other.assert_all_happened();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.live_revision().await, 3);
}

#[tokio::test]
async fn what_became_live_and_could_not_be_recorded_says_so_and_is_settled_later() {
    let (world, first) = World::with_a_server().await;
    for operation in ["deploy", "rollback"] {
        let other = world.program();
        other.registry.before("finish_deployment", world.clone().end(first.server_id));
        let deployments = other.meta.deployments();
        let error = match operation {
            "deploy" => deployments.deploy(&key()).await,
            _ => deployments.rollback(&key(), &first.version).await,
        };
        let error = error.unwrap_err();
        other.assert_all_happened();
        assert!(error.to_string().starts_with(&format!("{operation}: ")), "{error}");
        assert!(error.help().unwrap().contains("`reconcile`"), "{error}");
        let report = deployments.reconcile().await.unwrap();
        assert_eq!(report, changed(|report| report.finished.push(first.name.clone())));
        assert_eq!(world.live_revision().await, if operation == "deploy" { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_removal_that_did_not_end_does_not_take_down_what_was_deployed_since() {
    let (world, _) = World::with_a_server().await;
    let deployments = world.program().meta.deployments();
    let fail = async || {
        world.publisher.fail_next("unpublish", Error::new(ErrorKind::Unavailable, "the target is down"));
        deployments.remove(&key()).await.unwrap_err()
    };
    // Of the new revision, and then once more of what is live already.
    for _ in 0..2 {
        let error = fail().await;
        let help = error.help().unwrap();
        assert!(help.contains("`reconcile`") && help.contains("deploy it to keep it"), "{error}");
        let deployed = deployments.deploy(&key()).await.unwrap();
        let report = deployments.reconcile().await.unwrap();
        assert_eq!(report, changed(|report| report.undone.push(deployed.name)));
        assert_eq!((world.live().await, world.live_revision().await), (deployed.version, 2));
        assert_eq!(deployments.reconcile().await.unwrap(), ReconcileReport::default());
    }
    // Where nothing was, it is finished.
    fail().await;
    let name = world.server().await.name;
    assert_eq!(deployments.reconcile().await.unwrap(), changed(|report| report.finished.push(name)));
    assert_eq!(world.registry.get_server(&key()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_removal_of_which_the_answer_was_lost_is_one() {
    let (world, first) = World::with_a_server().await;
    let removing = world.program();
    let registry = world.registry.clone();
    removing.registry.before("remove_server", async move { registry.remove_server(first.server_id).await.unwrap() });
    removing.meta.deployments().remove(&key()).await.unwrap();
    removing.assert_all_happened();
    assert_eq!(world.registry.get_server(&key()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

fn cleanup(older_than: Duration) -> CleanupOptions {
    let mut options = CleanupOptions::default();
    (options.older_than, options.mode) = (older_than, CleanupMode::Remove);
    options
}

#[tokio::test]
async fn a_server_that_is_changed_during_a_cleanup_stays() {
    let (world, first) = World::with_a_server().await;
    let (cleaning, other) = (world.program(), world.program());
    cleaning.registry.after("list_servers", async move { write(&other.meta, 3).await });
    let deployments = cleaning.meta.deployments();
    let report = deployments.cleanup_old_servers(cleanup(Duration::ZERO)).await.unwrap();
    cleaning.assert_all_happened();
    let found = [first.name];
    assert_eq!((&report.found[..], report.removed, report.failed), (&found[..], vec![], vec![]));
    assert_eq!(report.live, found);
    assert_eq!(world.live_revision().await, 1);
    let report = deployments.cleanup_old_servers(cleanup(Duration::ZERO)).await.unwrap();
    assert_eq!((report.found, report.removed, report.failed), (found.to_vec(), found.to_vec(), vec![]));
}

#[tokio::test]
async fn nothing_is_older_than_the_calendar() {
    let (world, _) = World::with_a_server().await;
    let deployments = world.program().meta.deployments();
    for age in [Duration::MAX, Duration::from_secs(1_000_000 * 365 * 86_400)] {
        assert_eq!(deployments.cleanup_old_servers(cleanup(age)).await.unwrap(), CleanupReport::default());
    }
}

#[tokio::test]
async fn all_is_closed_although_the_builder_cannot_be() {
    let mut builder = MockBuilder::new();
    builder.expect_close().returning(|| Err(Error::new(ErrorKind::Unavailable, "the engine is down")));
    let mut publisher = MockPublisher::new();
    publisher.expect_close().times(1).returning(|| Ok(()));
    let meta = MetaMcp::new(Backends {
        registry: Arc::new(MemoryRegistry::new()),
        cache: Arc::new(MemoryKvCache::new()),
        builder: Arc::new(builder),
        publisher: Arc::new(publisher),
    });
    let error = meta.close().await.unwrap_err();
    assert_eq!(error.message(), "the engine is down");
}
