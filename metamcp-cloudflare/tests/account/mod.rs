//! An emulated account.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
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
        let options = Options { token: Some(TOKEN.to_owned()), toolchain_dir: Some(toolchain()), ..Options::default() };
        Self { emulator: Emulator::start(options).await.unwrap() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }

    pub(crate) fn client_with(&self, token: &str) -> Client {
        Client::new(self.config_with(token)).unwrap()
    }

    pub(crate) fn config(&self) -> CloudflareConfig {
        self.config_with(TOKEN)
    }

    fn config_with(&self, token: &str) -> CloudflareConfig {
        let config = CloudflareConfig::new(ID, token.into()).unwrap();
        let config = config.with_base_url(&self.emulator.base_url()).unwrap();
        let config = config.with_workers_dev_url(&self.emulator.workers_dev_url()).unwrap();
        let retry = RetryPolicy { attempts: 4, total: Duration::from_secs(20) };
        config.with_retry(retry).with_toolchain_dir(toolchain())
    }
}

fn toolchain() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")
}
