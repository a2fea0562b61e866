//! A mock forces what a working backend does not show.

use metamcp_core::{Error, ErrorKind, KvCache, MockBuilder, MockEnvironment, MockKvCache, MockPublisher, MockRegistry};

#[tokio::test]
async fn a_mock_forces_an_error() {
    let mut cache = MockKvCache::new();
    cache.expect_get().returning(|_| Err(Error::new(ErrorKind::Unavailable, "the cache is down")));
    let cache: &dyn KvCache = &cache;
    assert!(cache.get("config:1").await.unwrap_err().is_retryable());
}

#[test]
fn every_trait_has_a_mock() {
    let names = [
        format!("{:?}", MockRegistry::new()),
        format!("{:?}", MockBuilder::new()),
        format!("{:?}", MockEnvironment::new()),
        format!("{:?}", MockPublisher::new()),
    ];
    assert!(names.iter().all(|name| name.starts_with("Mock")), "{names:?}");
}
