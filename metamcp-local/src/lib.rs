#![doc = include_str!("../README.md")]
//!
//! [`open`] is the one call. [`WorkerdPublisher`] runs every server in a supervised workerd process of its own, behind
//! one HTTP gateway at `http://127.0.0.1:PORT/<server-name>/mcp`.
//!
//! *Invariant:* only `config.rs` reads the environment, only `workerd/shell.rs` starts a workerd of this machine's, and
//! only `docker/` talks to a Docker engine, whose containers have a workerd of their own.

mod blocking;
mod config;
#[cfg(feature = "docker")]
mod docker;
mod gateway;
mod kv;
#[cfg(feature = "docker")]
mod local_builder;
mod open;
mod owner;
mod sqlite;
mod workerd;

pub use config::{Isolation, LocalConfig, ServiceWorker};
#[cfg(feature = "docker")]
pub use docker::{ContainerLimits, DockerBuilder, DockerConfig, NpmAccess};
pub use kv::SqliteKvCache;
#[cfg(feature = "docker")]
pub use local_builder::LocalBuilder;
pub use open::{backends, open};
pub use owner::{DataDirectory, control_socket};
pub use sqlite::{SqliteExecutor, SqliteRegistry};
pub use workerd::{WorkerdConfig, WorkerdPublisher};

/// The README's Rust example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
