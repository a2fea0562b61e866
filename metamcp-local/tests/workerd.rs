//! The life of a server's versions on the local publisher.

mod support;

use metamcp_core::{ErrorKind, LogOptions, Publisher};
use serde_json::json;
use support::{Local, artifact, call, open, server, worker};

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_version_answers_through_the_gateway_once_it_is_activated() {
    let local = Local::open().await;
    let weather = server("weather");
    let staged =
        local.publisher.stage(&weather, &artifact(&weather, &worker("hello() { return 'one'; }"))).await.unwrap();
    assert_eq!(local.publisher.endpoint(&weather).await.unwrap_err().kind(), ErrorKind::NotFound);
    let endpoint = local.publisher.activate(&weather, &staged.version).await.unwrap();
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "one");
    assert!(endpoint.url.path().ends_with("/weather/mcp"));
}
