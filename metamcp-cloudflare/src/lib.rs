#![doc = include_str!("../README.md")]

mod client;
mod config;
mod d1;
mod error;
mod kv;
mod open;
mod workers;

pub use client::Client;
pub use config::{CloudflareConfig, RetryPolicy};
pub use d1::{D1Executor, D1Registry};
pub use error::{ApiError, error_from_response};
pub use kv::WorkersKvCache;
pub use open::{backends, open};
pub use workers::WorkerPublisher;
