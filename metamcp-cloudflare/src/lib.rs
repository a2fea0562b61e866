#![doc = include_str!("../README.md")]

mod config;
mod error;

pub use config::CloudflareConfig;
pub use error::{ApiError, error_from_response};
