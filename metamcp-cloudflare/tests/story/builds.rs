//! The build cache on Workers KV.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use metamcp_cloudflare_emulator::Options;
use metamcp_core::{Artifact, Backends, Builder, MetaMcp, Result, SourceTree, WorkerSettings};

use crate::account::Account;
use crate::left::left;
use crate::{ask, change, create_and_deploy, definition, key};

/// A builder whose work is worth keeping, and how often it worked.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Builder>,
    builds: AtomicU32,
}

#[async_trait]
impl Builder for Counted {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        self.builds.fetch_add(1, Ordering::Relaxed);
        self.inner.build(source, settings).await
    }

    fn fingerprint(&self) -> Option<String> {
        Some("counted".to_owned())
    }
}

/// Deploys one version, another one and the first again; returns the number of builds.
async fn there_and_back(account: &Account) -> u32 {
    let backends = metamcp_cloudflare::backends(account.config()).await.unwrap();
    let builder = Arc::new(Counted { inner: backends.builder.clone(), builds: AtomicU32::new(0) });
    let meta = MetaMcp::new(Backends { builder: builder.clone(), ..backends });
    let deployed = create_and_deploy(&meta, &definition("kept", "one")).await.unwrap();
    for answer in ["two", "one"] {
        change(&meta, definition("kept", answer)).await;
        meta.deployments().deploy(&key("kept")).await.unwrap();
        assert_eq!(ask(deployed.url.as_str(), "version").await, answer);
    }
    meta.deployments().remove(&key("kept")).await.unwrap();
    builder.builds.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_before_is_not_built_again_and_goes_with_its_server() {
    let account = Account::start().await;
    assert_eq!(there_and_back(&account).await, 2);
    assert_eq!(left(&account).await, Vec::<String>::new());
}

/// The cache never shows what was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_cache_only_costs_time() {
    let options = Options { kv_staleness: Duration::from_secs(86_400), ..Options::default() };
    let account = Account::start_with(options).await;
    assert_eq!(there_and_back(&account).await, 3);
}
