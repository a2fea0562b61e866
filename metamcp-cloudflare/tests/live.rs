//! The same promises on a real account, for whoever has one:
//!
//! ```sh
//! CLOUDFLARE_ACCOUNT_ID=… CLOUDFLARE_API_TOKEN=… cargo test -p metamcp-cloudflare --test live -- --ignored --test-threads 1
//! ```
//!
//! One at a time, for the API takes 1,200 requests in five minutes. They make a D1 database and a Workers KV namespace
//! of their own, `meta-mcp-live-test` and `META_MCP_LIVE_TEST`, and take down the Workers that they deploy. With
//! `CLOUDFLARE_API_BASE_URL` and `METAMCP_WORKERS_DEV_URL` an emulator takes the account's place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

mod real_account {
    use std::sync::Arc;

    use metamcp_cloudflare::{Client, CloudflareConfig, D1Executor, D1Registry, WorkerPublisher, WorkersKvCache};
    use metamcp_core::contract::Subject;
    use metamcp_core::{KvCache, Publisher, Registry, ServerDefinition, ServerKey};
    use serde_json::{Map, json};

    const DATABASE: &str = "meta-mcp-live-test";
    const NAMESPACE: &str = "META_MCP_LIVE_TEST";

    mod registry {
        metamcp_core::registry_contract!(ignore = "needs an account of Cloudflare", super::registry());
    }

    mod kv_cache {
        metamcp_core::kv_cache_contract!(ignore = "needs an account of Cloudflare", super::kv_cache());
    }

    mod publisher {
        metamcp_core::publisher_contract!(
            ignore = "needs an account of Cloudflare",
            super::publisher(),
            crate::account::artifact
        );
    }

    fn config() -> CloudflareConfig {
        CloudflareConfig::from_env().unwrap().with_database(DATABASE).with_namespace(NAMESPACE)
    }

    async fn database(client: &Client) -> D1Executor {
        D1Executor::open(client.clone(), DATABASE).await.unwrap()
    }

    async fn registry() -> Subject<dyn Registry> {
        let executor = database(&Client::new(config()).unwrap()).await;
        Subject::<dyn Registry>::new(Arc::new(D1Registry::open(executor).await.unwrap()))
    }

    async fn kv_cache() -> Subject<dyn KvCache> {
        let cache = WorkersKvCache::open(Client::new(config()).unwrap(), NAMESPACE).await.unwrap();
        Subject::<dyn KvCache>::new(Arc::new(cache))
    }

    async fn publisher() -> Subject<dyn Publisher> {
        let client = Client::new(config()).unwrap();
        let database = database(&client).await;
        Subject::<dyn Publisher>::new(Arc::new(WorkerPublisher::open(client, database).await.unwrap()))
    }

    fn definition(answer: u32) -> ServerDefinition {
        serde_json::from_value(json!({
            "name": "meta-mcp-live-test", "description": "Tells its number.",
            "tools": [{
                "name": "number", "description": "Its number.", "implementation": format!("return {answer};"),
                "examples": [{ "expected": answer }]
            }]
        }))
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs an account of Cloudflare"]
    async fn a_server_lives_and_dies() {
        let meta = metamcp_cloudflare::open(config()).await.unwrap();
        let key: ServerKey = "meta-mcp-live-test".parse().unwrap();
        meta.servers().create(&definition(1)).await.unwrap();
        let first = meta.deployments().deploy(&key).await.unwrap();
        meta.servers().edit(&key, |_| Ok(definition(2))).await.unwrap();
        meta.deployments().deploy(&key).await.unwrap();
        let answer = meta.deployments().call_tool(&key, "number", Map::new()).await.unwrap();
        assert_eq!(answer.content[0]["text"], "2");
        meta.deployments().rollback(&key, &first.version).await.unwrap();
        meta.deployments().remove(&key).await.unwrap();
        meta.close().await.unwrap();
    }
}
