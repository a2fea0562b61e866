#![doc = include_str!("../README.md")]

mod client;
mod config;
mod containers;
mod d1;
mod error;
mod kv;
mod open;
mod workers;

pub use client::Client;
pub use config::{CloudflareConfig, Placement, RetryPolicy};
pub use containers::{
    ContainerBuilder, ContainerManagerConfig, ContainerManagerPlan, ContainerManagerSetup, deploy_container_manager,
};
pub use d1::{D1Executor, D1Registry};
pub use kv::WorkersKvCache;
pub use open::{backends, open};
pub use workers::{DispatchPublisher, WorkerPublisher};
