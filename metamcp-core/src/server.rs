//! Meta-MCP itself as an MCP server: the whole API as tools, over stdio and Unix sockets.
//!
//! [`MetaMcpServer`] is an rmcp server over any [`MetaMcp`](crate::MetaMcp). [`serve_stdio`] trusts whoever started
//! the process.
//!
//! *Invariant:* a tool only translates: it reads its arguments, calls a method of a facet, and shows the answer. Which
//! tools there are, and which [`Scope`](crate::Scope) each needs, is one table (`table.rs`).

mod access;
mod audit;
mod call;
mod local;
mod mcp;
mod schema;
mod table;
mod tool;
mod tools;

pub use access::Access;
pub use local::{bridge_stdio, serve_socket, serve_stdio};
pub use mcp::MetaMcpServer;
