//! How many servers there are.

use std::time::Duration;

use super::exposition::{Exposition, Kind};
use crate::registry::ListOptions;
use crate::{MetaMcp, Result};

/// Most pages of servers that are counted; of more nothing is said, since a scrape has to stay cheap.
const MAX_PAGES: usize = 10;
const PAGE: u32 = 1_000;
/// How long the registry may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Servers with a version that is live, and without one.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::server) struct Servers {
    live: u64,
    not_live: u64,
}

impl Servers {
    /// Counts them. `None` if there are very many, or if the registry does not answer: the other metrics go on.
    pub(in crate::server) async fn count(meta: &MetaMcp) -> Option<Self> {
        match tokio::time::timeout(LIMIT, count(meta)).await {
            Ok(Ok(servers)) => servers,
            Ok(Err(error)) => {
                tracing::warn!(%error, "servers could not be counted");
                None
            }
            Err(_) => {
                tracing::warn!("servers could not be counted in time");
                None
            }
        }
    }

    pub(super) fn render(self, text: &mut Exposition) {
        text.family("metamcp_servers", Kind::Gauge, "Servers in the registry, by whether a version is live.");
        text.sample("metamcp_servers", &[("live", "true")], self.live);
        text.sample("metamcp_servers", &[("live", "false")], self.not_live);
    }
}

async fn count(meta: &MetaMcp) -> Result<Option<Servers>> {
    let (mut servers, mut options) = (Servers::default(), ListOptions { limit: PAGE, ..ListOptions::default() });
    for _ in 0..MAX_PAGES {
        let page = meta.servers().list(&options).await?;
        for server in page.items {
            *if server.live.is_some() { &mut servers.live } else { &mut servers.not_live } += 1;
        }
        options.after = page.next;
        if options.after.is_none() {
            return Ok(Some(servers));
        }
    }
    Ok(None)
}
