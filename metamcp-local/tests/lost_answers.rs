//! An executor repeats a batch whose answer was lost: the registry says and holds the same as if it had come.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use metamcp_core::contract::Subject;
use metamcp_core::registry::sql::{Rows, SqlExecutor, SqlRegistry, Statement};
use metamcp_core::registry::{
    DeploymentId, DeploymentKind, DeploymentRecord, DeploymentStep, Expect, LiveState, RecordStatus, Registry,
    ServerRecord,
};
use metamcp_core::{Result, ServerDefinition, ServerKey, validate};
use metamcp_local::{SqliteExecutor, SqliteRegistry};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

mod registry {
    metamcp_core::registry_contract!(super::registry());
}

/// Loses the first answer to every batch.
struct Lossy {
    inner: SqliteExecutor,
    /// What others do until the next batch is repeated.
    meanwhile: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lossy").finish_non_exhaustive()
    }
}

#[async_trait]
impl SqlExecutor for Lossy {
    async fn execute(&self, batch: Vec<Statement>) -> Result<Vec<Rows>> {
        // The one that may say something else: that there is nothing to remove.
        if !batch[0].sql.starts_with("DELETE FROM mcp_servers ") {
            self.inner.execute(batch.clone()).await?;
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(act) = meanwhile {
                act.await;
            }
        }
        self.inner.execute(batch).await
    }
}

async fn lossy(path: &Path) -> Lossy {
    Lossy { inner: SqliteExecutor::open(path).await.unwrap(), meanwhile: Arc::default() }
}

async fn registry() -> Subject<dyn Registry> {
    let folder = tempfile::tempdir().unwrap();
    let executor = lossy(&folder.path().join("registry.db")).await;
    Subject::<dyn Registry>::new(Arc::new(SqlRegistry::open(executor).await.unwrap())).keeping(folder)
}

fn ended(server: &ServerRecord, version: &str) -> (DeploymentRecord, LiveState) {
    let version: metamcp_core::VersionId = version.parse().unwrap();
    let deployment = DeploymentRecord {
        id: DeploymentId(Uuid::new_v4()),
        server: server.reference(),
        kind: DeploymentKind::Deploy,
        step: DeploymentStep::Live,
        revision: server.revision,
        version: Some(version.clone()),
        previous: None,
        error: None,
        created_at: OffsetDateTime::now_utc(),
    };
    let url = "http://127.0.0.1:8080/shared/mcp".parse().unwrap();
    (deployment, LiveState { status: RecordStatus::Deployed, url, version, revision: server.revision })
}

/// Makes a version live, as one program among several.
async fn deploy(registry: &dyn Registry, key: &ServerKey, version: &str) -> Result<()> {
    let (server, lease) = registry.lease_server(key, version, Duration::from_secs(60)).await?;
    let (deployment, live) = ended(&server, version);
    registry.finish_deployment(&deployment, Some(live), &lease).await
}

#[tokio::test]
async fn what_others_made_live_before_a_batch_is_repeated_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let executor = lossy(&path).await;
    let meanwhile = executor.meanwhile.clone();
    let ours = SqlRegistry::open(executor).await.unwrap();
    let others = SqliteRegistry::open(SqliteExecutor::open(&path).await.unwrap()).await.unwrap();
    let definition: ServerDefinition =
        serde_json::from_value(json!({ "name": "shared", "description": "Is deployed by two programs." })).unwrap();
    ours.put_server(&validate(&definition).unwrap(), Expect::Absent).await.unwrap();
    let key: ServerKey = "shared".parse().unwrap();

    let (server, lease) = ours.lease_server(&key, "ours", Duration::from_secs(60)).await.unwrap();
    let (deployment, live) = ended(&server, "v1");
    let theirs = key.clone();
    *meanwhile.lock().unwrap() = Some(Box::pin(async move { deploy(&others, &theirs, "v2").await.unwrap() }));
    ours.finish_deployment(&deployment, Some(live), &lease).await.expect("it was written before theirs");
    assert_eq!(ours.get_server(&key).await.unwrap().live.unwrap().version.as_str(), "v2");
}
