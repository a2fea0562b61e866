//! Meta-MCP on this machine.

mod kv;
mod sqlite;

pub use kv::SqliteKvCache;
pub use sqlite::{SqliteExecutor, SqliteRegistry};
