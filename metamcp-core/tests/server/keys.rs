//! API keys at the guard: how often the registry is asked about them, and what happens when it does not answer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use metamcp_core::memory::{MemoryBuilder, MemoryRegistry};
use metamcp_core::server::{HttpConfig, serve_http};
use metamcp_core::{Error, ErrorKind, MockRegistry, Registry, Scope};
use reqwest::Client;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::guard::{Guarded, LIMIT, call_message, header};
use super::memory;

/// A guarded server whose registry counts how often it is asked for a key, and can fail.
struct Setup {
    guarded: Guarded,
    registry: Arc<MemoryRegistry>,
    looked_up: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
}

macro_rules! forward {
    ($mock:ident, $memory:ident: $($expect:ident $method:ident($($arg:ident),*);)*) => {$(
        let memory = Arc::clone(&$memory);
        $mock.$expect().returning(move |$($arg),*| memory.$method($($arg),*).now_or_never().unwrap());
    )*};
}

impl Setup {
    async fn start(config: HttpConfig) -> Self {
        let (looked_up, is_down) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (memory, mut mock) = (Arc::new(MemoryRegistry::new()), MockRegistry::new());
        forward!(mock, memory:
            expect_put_api_key put_api_key(key);
            expect_list_api_keys list_api_keys();
            expect_put_server put_server(definition, expect);
            expect_get_server get_server(key);
            expect_get_revision get_revision(key);
            expect_list_versions list_versions(id);
            expect_list_connections list_connections(id);
            expect_lease_server lease_server(key, holder, ttl);
            expect_renew_lease renew_lease(lease, ttl);
            expect_release_lease release_lease(lease);
            expect_append_audit append_audit(entry);
            expect_list_audit list_audit(limit);
        );
        let (count, down, keys) = (Arc::clone(&looked_up), Arc::clone(&is_down), Arc::clone(&memory));
        mock.expect_find_api_key().returning(move |hash| {
            count.fetch_add(1, Ordering::SeqCst);
            if down.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "the registry does not answer"));
            }
            keys.find_api_key(hash).now_or_never().unwrap()
        });
        let meta = memory::meta_on(Arc::new(mock), Arc::new(MemoryBuilder::new())).await;
        let server = serve_http(meta.clone(), config).await.unwrap();
        let guarded = Guarded { meta, server, http: Client::new() };
        Self { guarded, registry: memory, looked_up, is_down }
    }

    fn looked_up(&self) -> usize {
        self.looked_up.load(Ordering::SeqCst)
    }

    async fn status(&self, key: &str) -> u16 {
        self.guarded.post(key, &tools()).send().await.unwrap().status().as_u16()
    }
}

fn tools() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })
}

fn wrong(n: u32) -> String {
    format!("mmk_{n:064x}")
}

#[tokio::test]
async fn what_has_not_the_form_of_a_key_is_not_looked_up() {
    let setup = Setup::start(HttpConfig::new()).await;
    let long = wrong(1) + "0";
    for n in 0..1_000 {
        assert_eq!(setup.status(&format!("mmk_{n}")).await, 401);
    }
    for key in ["mmk_", "a", &long, &wrong(1)[1..], &wrong(0xabc).replace("abc", "ABC"), "a.b.c"] {
        assert_eq!(setup.status(key).await, 401, "{key}");
    }
    assert_eq!(setup.looked_up(), 0);
}

#[tokio::test]
async fn a_key_that_has_expired_is_none() {
    let setup = Setup::start(HttpConfig::new()).await;
    let (_, key) = setup.guarded.key(&[Scope::Read]).await;
    let mut record = setup.registry.list_api_keys().await.unwrap().remove(0);
    for (end, expected) in [(OffsetDateTime::UNIX_EPOCH, 401), (OffsetDateTime::now_utc() + LIMIT, 200)] {
        record.expires_at = Some(end);
        setup.registry.put_api_key(&record).await.unwrap();
        // A server that has not looked it up yet.
        let server = serve_http(setup.guarded.meta.clone(), HttpConfig::new()).await.unwrap();
        let request = setup.guarded.http.post(server.url().clone()).bearer_auth(key.expose_secret());
        let request = request.header("accept", "application/json, text/event-stream").json(&tools());
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{end}");
    }
}

#[tokio::test]
async fn wrong_keys_of_one_address_are_looked_up_a_few_times_and_then_wait() {
    let few = NonZeroU32::new(20).unwrap();
    let setup = Setup::start(HttpConfig::new().with_wrong_keys_per_minute(few)).await;
    let (_, known) = setup.guarded.key(&[Scope::Read]).await;
    assert_eq!(setup.status(known.expose_secret()).await, 200);
    let before = setup.looked_up();
    let (mut unauthenticated, mut waits) = (0, 0);
    for n in 0..1_000 {
        let response = setup.guarded.post(&wrong(n), &tools()).send().await.unwrap();
        match response.status().as_u16() {
            401 => unauthenticated += 1,
            429 => {
                let seconds: u64 = header(&response, "retry-after").parse().unwrap();
                assert!((1..=4).contains(&seconds), "{seconds}");
                waits += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(unauthenticated >= 20 && waits > 0, "{unauthenticated} {waits}");
    assert_eq!(setup.looked_up() - before, unauthenticated);
    // Whoever was let in before still is, also once that has to be looked up again.
    let begun = Instant::now();
    timeout(LIMIT, async {
        while setup.looked_up() == before + unauthenticated {
            assert_eq!(setup.status(known.expose_secret()).await, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("nothing was looked up in {:?}", begun.elapsed()));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn wrong_keys_of_one_address_are_nothing_to_others() {
    let one = NonZeroU32::new(1).unwrap();
    let setup = Setup::start(HttpConfig::new().with_wrong_keys_per_minute(one)).await;
    assert_eq!((setup.status(&wrong(1)).await, setup.status(&wrong(2)).await), (401, 429));
    let other = Client::builder().local_address("127.0.0.2".parse::<std::net::IpAddr>().unwrap()).build().unwrap();
    let (_, key) = setup.guarded.key(&[Scope::Read]).await;
    let request = other.post(setup.guarded.server.url().clone()).bearer_auth(key.expose_secret());
    let request = request.header("accept", "application/json, text/event-stream").json(&tools());
    assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn requests_of_one_key_share_their_look_ups() {
    let setup = Setup::start(HttpConfig::new()).await;
    let (_, key) = setup.guarded.key(&[Scope::Read]).await;
    let begun = Instant::now();
    let at_once = join_all((0..50).map(|_| setup.status(key.expose_secret()))).await;
    assert_eq!(at_once, [200; 50]);
    for _ in 0..50 {
        assert_eq!(setup.status(key.expose_secret()).await, 200);
    }
    // One for each two seconds that this may have taken.
    let most = 1 + begun.elapsed().as_secs() / 2;
    assert!(setup.looked_up() as u64 <= most, "{} in {:?}", setup.looked_up(), begun.elapsed());
}

#[tokio::test]
async fn while_keys_cannot_be_looked_up_nobody_new_gets_in() {
    let setup = Setup::start(HttpConfig::new()).await;
    let (_, key) = setup.guarded.key(&[Scope::Read]).await;
    setup.is_down.store(true, Ordering::SeqCst);
    let response = setup.guarded.post(key.expose_secret(), &tools()).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 503);
    assert!(!header(&response, "retry-after").is_empty());
    assert!(response.text().await.unwrap().contains("keys cannot be looked up now"));
    // What failed is not remembered.
    setup.is_down.store(false, Ordering::SeqCst);
    assert_eq!(setup.status(key.expose_secret()).await, 200);
}

#[tokio::test]
async fn a_call_ends_once_nobody_can_say_that_its_key_holds() {
    let setup = Setup::start(HttpConfig::new().with_unconfirmed_limit(Duration::from_secs(3))).await;
    let (_, key) = setup.guarded.key(&[Scope::Admin]).await;
    let definition = json!({
        "name": "slow", "description": "Hangs.",
        "tools": [{ "name": "wait", "description": "Hangs.", "implementation": "return 'hang';" }]
    });
    let imported = setup.guarded.call(&key, "import_server", json!({ "definition": definition })).await;
    assert_eq!(imported.status().as_u16(), 200);
    let message = call_message("test_mcp_tool", &json!({ "serverId": "slow", "toolName": "wait" }));
    let call = setup.guarded.post(key.expose_secret(), &message).send();
    let go_down = async {
        while setup.guarded.meta.audit(1).await.unwrap()[0].action != "test_mcp_tool" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        setup.is_down.store(true, Ordering::SeqCst);
    };
    let (response, ()) = timeout(LIMIT, async { tokio::join!(call, go_down) }).await.unwrap();
    assert_eq!(response.unwrap().status().as_u16(), 503);
}
