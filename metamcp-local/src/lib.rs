//! Meta-MCP on this machine.

mod sqlite;

pub use sqlite::{SqliteExecutor, SqliteRegistry};
