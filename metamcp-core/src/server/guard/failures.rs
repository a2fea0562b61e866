//! [`Failures`]: how often a peer may try keys that are wrong.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::Refusal;

const MINUTE: Duration = Duration::from_secs(60);
/// Peers that are remembered at once; more make that all are forgotten.
const MAX_PEERS: usize = 10_000;

/// Counts wrong keys by the address they come from. As many as fit into a minute may come at once.
#[derive(Debug)]
pub(super) struct Failures {
    /// The share of a minute that one takes.
    each: Duration,
    /// Until when what a peer has tried fills its minutes.
    peers: Mutex<HashMap<IpAddr, Instant>>,
}

/// One try, which counts as a failure unless it is forgiven.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    failures: &'a Failures,
    peer: IpAddr,
}

impl Failures {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self { each: MINUTE / per_minute.get(), peers: Mutex::default() }
    }

    /// Lets a peer try once more, or says when it may.
    pub(super) fn begin(&self, peer: IpAddr) -> Result<Attempt<'_>, Refusal> {
        let (peer, now) = (network(peer), Instant::now());
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, filled| *filled > now);
            if peers.len() >= MAX_PEERS {
                peers.clear();
            }
        }
        let filled = peers.entry(peer).or_insert(now);
        let next = (*filled).max(now) + self.each;
        if let Some(wait) = (next - now).checked_sub(MINUTE).filter(|wait| !wait.is_zero()) {
            return Err(Refusal::TooManyWrong { seconds: wait.as_secs() + 1 });
        }
        *filled = next;
        drop(peers);
        Ok(Attempt { failures: self, peer })
    }
}

impl Attempt<'_> {
    /// It was no failure.
    pub(super) fn forgive(self) {
        let mut peers = self.failures.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filled) = peers.get_mut(&self.peer) {
            *filled = filled.checked_sub(self.failures.each).unwrap_or(*filled);
        }
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures::new(NonZeroU32::new(3).unwrap())
    }

    fn tries(failures: &Failures, peer: &str) -> usize {
        (0..10).filter(|_| failures.begin(peer.parse().unwrap()).is_ok()).count()
    }

    #[test]
    fn each_peer_has_tries_of_its_own() {
        let failures = failures();
        assert_eq!(tries(&failures, "192.0.2.1"), 3);
        assert_eq!(tries(&failures, "::ffff:192.0.2.1"), 0);
        assert_eq!(tries(&failures, "192.0.2.2"), 3);
        assert_eq!(tries(&failures, "2001:db8::1"), 3);
        assert_eq!(tries(&failures, "2001:db8::2"), 0);
        assert_eq!(tries(&failures, "2001:db8:0:1::1"), 3);
        let Err(Refusal::TooManyWrong { seconds }) = failures.begin("192.0.2.1".parse().unwrap()).map(|_| ()) else {
            panic!("it is one too many")
        };
        assert!((1..=21).contains(&seconds), "{seconds}");
    }

    #[test]
    fn what_is_forgiven_does_not_count() {
        let failures = failures();
        let peer = "192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            failures.begin(peer).unwrap().forgive();
        }
        assert_eq!(tries(&failures, "192.0.2.1"), 3);
    }

    #[test]
    fn a_crowd_of_peers_takes_bounded_room() {
        let failures = failures();
        for n in 0..25_000_u32 {
            failures.begin(std::net::Ipv4Addr::from(n).into()).unwrap();
        }
        assert!(failures.peers.lock().unwrap().len() <= MAX_PEERS);
    }
}
