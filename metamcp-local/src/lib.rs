#![doc = include_str!("../README.md")]
//!
//! [`open`] is the one call. [`WorkerdPublisher`] runs every server in a supervised workerd process of its own, behind
//! one HTTP gateway at `http://127.0.0.1:PORT/<server-name>/mcp`.
//!
//! *Invariant:* only `config.rs` reads the environment, and only `workerd/process.rs` starts workerd.

mod config;
mod gateway;
mod kv;
mod open;
mod owner;
mod sqlite;
mod workerd;

pub use config::{Isolation, LocalConfig, ServiceWorker};
pub use kv::SqliteKvCache;
pub use open::{backends, open};
pub use owner::{DataDirectory, control_socket};
pub use sqlite::{SqliteExecutor, SqliteRegistry};
pub use workerd::{WorkerdConfig, WorkerdPublisher};

/// The README's Rust example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
