//! Meta-MCP on this machine: a definition becomes a live MCP endpoint in milliseconds.
//!
//! [`WorkerdPublisher`] runs every server in a supervised workerd process of its own, behind one HTTP gateway at
//! `http://127.0.0.1:PORT/<server-name>/mcp`.
//!
//! *Invariant:* only `config.rs` reads the environment, and only `workerd/process.rs` starts workerd.

mod config;
mod gateway;
mod owner;
mod workerd;

pub use config::{Isolation, LocalConfig, ServiceWorker};
pub use owner::DataDirectory;
pub use workerd::{WorkerdConfig, WorkerdPublisher};
