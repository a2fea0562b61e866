//! An emulated account.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use metamcp_cloudflare::{Client, CloudflareConfig, RetryPolicy};
use metamcp_cloudflare_emulator::{Emulator, Options};

/// An emulator of its own, and what its clients need to know.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) emulator: Emulator,
}

/// Any account: the emulator has one.
pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef";
/// The only token it accepts.
pub(crate) const TOKEN: &str = "emulator-token";

impl Account {
    pub(crate) async fn start() -> Self {
        let toolchain_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain");
        let options =
            Options { token: Some(TOKEN.to_owned()), toolchain_dir: Some(toolchain_dir), ..Options::default() };
        Self { emulator: Emulator::start(options).await.unwrap() }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(TOKEN)
    }

    pub(crate) fn client_with(&self, token: &str) -> Client {
        let config = CloudflareConfig::new(ID, token.into()).unwrap();
        let config = config.with_base_url(&self.emulator.base_url()).unwrap();
        let config = config.with_workers_dev_url(&self.emulator.workers_dev_url()).unwrap();
        Client::new(config.with_retry(RetryPolicy { attempts: 4, total: Duration::from_secs(20) })).unwrap()
    }
}
