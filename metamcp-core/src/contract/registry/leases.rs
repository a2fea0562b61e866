use std::time::Duration;

use super::fixture::{MINUTE, some_server, unique_name};
use crate::ErrorKind;
use crate::registry::{Registry, server_lease};

/// The refused one learns whom to wait for.
pub async fn a_held_lease_refuses_others_and_names_its_holder(registry: &dyn Registry) {
    let name = unique_name().to_string();
    let held = registry.acquire_lease(&name, "it's 'me'", MINUTE).await.unwrap();
    assert_eq!((held.name.as_str(), held.holder.as_str()), (name.as_str(), "it's 'me'"));
    for holder in ["other", "it's 'me'"] {
        let error = registry.acquire_lease(&name, holder, MINUTE).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, true));
        assert!(error.message().contains("it's 'me'"), "{error}");
    }
    registry.acquire_lease(&unique_name().to_string(), "other", MINUTE).await.unwrap();
    registry.release_lease(&held).await.unwrap();
}

/// Through release and expiry.
pub async fn fencing_numbers_only_grow(registry: &dyn Registry) {
    let name = unique_name().to_string();
    let mut last = 0;
    for ttl in [Duration::ZERO, MINUTE, Duration::ZERO, MINUTE] {
        let lease = registry.acquire_lease(&name, "contract", ttl).await.unwrap();
        assert!(lease.fence > last, "{} after {last}", lease.fence);
        last = lease.fence;
        registry.release_lease(&lease).await.unwrap();
    }
}

/// Renewing keeps the fencing number and moves the end.
pub async fn only_a_held_lease_is_renewed(registry: &dyn Registry) {
    let name = unique_name().to_string();
    let lease = registry.acquire_lease(&name, "contract", MINUTE).await.unwrap();
    let renewed = registry.renew_lease(&lease, 10 * MINUTE).await.unwrap();
    assert_eq!((renewed.fence, &renewed.holder), (lease.fence, &lease.holder));
    assert!(renewed.expires_at > lease.expires_at);
    registry.release_lease(&renewed).await.unwrap();
    assert_eq!(registry.renew_lease(&renewed, MINUTE).await.unwrap_err().kind(), ErrorKind::Conflict);
    let over = registry.acquire_lease(&name, "contract", Duration::ZERO).await.unwrap();
    assert_eq!(registry.renew_lease(&over, MINUTE).await.unwrap_err().kind(), ErrorKind::Conflict);
}

/// Releasing late is no way to take somebody else's lease away.
pub async fn releasing_a_lost_lease_leaves_the_new_holder_alone(registry: &dyn Registry) {
    let name = unique_name().to_string();
    let lost = registry.acquire_lease(&name, "slow", Duration::ZERO).await.unwrap();
    let held = registry.acquire_lease(&name, "quick", MINUTE).await.unwrap();
    registry.release_lease(&lost).await.unwrap();
    registry.release_lease(&lost).await.unwrap();
    assert_eq!(registry.acquire_lease(&name, "third", MINUTE).await.unwrap_err().kind(), ErrorKind::Conflict);
    registry.renew_lease(&held, MINUTE).await.unwrap();
    registry.release_lease(&held).await.unwrap();
}

/// Of many at once exactly one holds it.
pub async fn of_racing_acquirers_one_wins(registry: &dyn Registry) {
    let name = unique_name().to_string();
    let holders: Vec<String> = (0..8).map(|n| format!("holder {n}")).collect();
    let acquire = holders.iter().map(|holder| registry.acquire_lease(&name, holder, MINUTE));
    let results = futures::future::join_all(acquire).await;
    let won: Vec<_> = results.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    let lost = results.iter().filter_map(|result| result.as_ref().err());
    assert!(lost.clone().all(|error| error.kind() == ErrorKind::Conflict && error.message().contains(&won[0].holder)));
    registry.release_lease(won[0]).await.unwrap();
}

/// By id and by name it is the one lease of the server, which comes as it is under the lease.
pub async fn leasing_a_server_reads_it(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let (read, held) = registry.lease_server(&server.name.clone().into(), "first", MINUTE).await.unwrap();
    assert_eq!((&read, held.name.as_str(), held.holder.as_str()), (&server, &*server_lease(server.id), "first"));
    for key in [server.id.into(), server.name.clone().into()] {
        let error = registry.lease_server(&key, "second", MINUTE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("first"), "{error}");
    }
    assert_eq!(registry.acquire_lease(&held.name, "third", MINUTE).await.unwrap_err().kind(), ErrorKind::Conflict);
    registry.release_lease(&held).await.unwrap();
    let (_, next) = registry.lease_server(&server.id.into(), "second", MINUTE).await.unwrap();
    assert!(next.fence > held.fence);
    assert_eq!(
        registry.lease_server(&server.id.into(), "", MINUTE).await.unwrap_err().kind(),
        ErrorKind::LimitExceeded
    );
    registry.remove_server(server.id).await.unwrap();
    for key in [server.id.into(), server.name.into()] {
        let gone = registry.lease_server(&key, "late", MINUTE).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}

/// A lease that never ends would lock everybody out after a crash.
pub async fn leases_out_of_bounds_are_refused(registry: &dyn Registry) {
    let long = "x".repeat(513);
    let day = Duration::from_secs(86_400);
    for (name, holder, ttl) in
        [("", "a", MINUTE), ("a", "", MINUTE), (&long, "a", MINUTE), ("a\0", "a", MINUTE), ("a", "a", 2 * day)]
    {
        let error = registry.acquire_lease(name, holder, ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{name:?} {holder:?} {ttl:?}");
    }
}

/// Nobody is held up by who worked on a server that is gone.
pub async fn a_server_takes_its_lease_along(registry: &dyn Registry) {
    let server = some_server(registry).await;
    let name = server_lease(server.id);
    let held = registry.acquire_lease(&name, "remover", MINUTE).await.unwrap();
    registry.remove_server(server.id).await.unwrap();
    assert_eq!(registry.renew_lease(&held, MINUTE).await.unwrap_err().kind(), ErrorKind::Conflict);
    registry.release_lease(&held).await.unwrap();
    let other = registry.acquire_lease(&name, "late", MINUTE).await.unwrap();
    registry.release_lease(&other).await.unwrap();
}
