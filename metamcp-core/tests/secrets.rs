//! Secrets are changed while nobody else changes what is live.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryPublisher, MemoryRegistry};
use metamcp_core::registry::Lease;
use metamcp_core::{Backends, EnvName, ErrorKind, MetaMcp, Registry, ServerDefinition, ServerKey};
use serde_json::json;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3_600);

fn key() -> ServerKey {
    "guarded".parse().unwrap()
}

fn name() -> EnvName {
    "TOKEN".parse().unwrap()
}

/// With a server that declares the secret, and its registry, for somebody else.
async fn meta() -> (MetaMcp, Arc<MemoryRegistry>) {
    let registry = Arc::new(MemoryRegistry::new());
    let meta = MetaMcp::new(Backends {
        registry: registry.clone(),
        cache: Arc::new(MemoryKvCache::new()),
        builder: Arc::new(MemoryBuilder::new()),
        publisher: Arc::new(MemoryPublisher::new()),
    });
    let definition = json!({ "name": "guarded", "description": "Has a secret.", "secrets": ["TOKEN"] });
    let definition: ServerDefinition = serde_json::from_value(definition).unwrap();
    meta.servers().create(&definition).await.unwrap();
    (meta, registry)
}

async fn lease(registry: &MemoryRegistry) -> Lease {
    registry.lease_server(&key(), "somebody else", HOUR).await.unwrap().1
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_another_one_to_end() {
    let (meta, registry) = meta().await;
    let held = lease(&registry).await;
    let setting = tokio::spawn({
        let meta = meta.clone();
        async move { meta.secrets().set(&key(), &name(), "s3cret".into()).await }
    });
    sleep(Duration::from_secs(3)).await;
    assert!(!setting.is_finished());
    assert_eq!(meta.secrets().list(&key()).await.unwrap(), []);
    registry.release_lease(&held).await.unwrap();
    setting.await.unwrap().unwrap();
    assert_eq!(meta.secrets().list(&key()).await.unwrap(), [name()]);
    // And gives the server back.
    lease(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_waits_in_vain_says_for_whom() {
    let (meta, registry) = meta().await;
    let held = lease(&registry).await;
    let begun = Instant::now();
    for error in [
        meta.secrets().set(&key(), &name(), "s3cret".into()).await.unwrap_err(),
        meta.secrets().remove(&key(), &name()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.to_string().contains("somebody else") && error.help().unwrap().contains("did not end"),
            "{error}"
        );
    }
    assert!(begun.elapsed() < HOUR);
    registry.release_lease(&held).await.unwrap();
    meta.secrets().remove(&key(), &name()).await.unwrap();
}

#[tokio::test]
async fn an_undeclared_secret_is_refused_and_holds_nobody_up() {
    let (meta, registry) = meta().await;
    let error = meta.secrets().set(&key(), &"OTHER".parse().unwrap(), "s3cret".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    lease(&registry).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_leaves_nothing_half_done() {
    let (meta, registry) = meta().await;
    let held = lease(&registry).await;
    let (meta_clone, limit) = (meta.clone(), Duration::from_secs(1));
    let set = async move { meta_clone.secrets().set(&key(), &name(), "s3cret".into()).await };
    assert!(tokio::time::timeout(limit, set).await.is_err());
    registry.release_lease(&held).await.unwrap();
    let until = Instant::now() + HOUR;
    while meta.secrets().list(&key()).await.unwrap().is_empty() {
        assert!(Instant::now() < until, "the secret is not set");
        sleep(Duration::from_millis(100)).await;
    }
}
