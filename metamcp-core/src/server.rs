//! Meta-MCP itself as an MCP server: the whole API as tools, over stdio, Unix sockets and guarded HTTP.
//!
//! [`MetaMcpServer`] is an rmcp server over any [`MetaMcp`](crate::MetaMcp). [`serve_stdio`] trusts whoever started
//! the process; [`serve_http`] stands behind a guard: authentication (401), scope (403), rate (429), size and time limits.
//!
//! *Invariant:* a tool only translates: it reads its arguments, calls a method of a facet, and shows the answer. Which
//! tools there are, and which [`Scope`](crate::Scope) each needs, is one table (`table.rs`).

mod access;
mod audit;
mod bridge;
mod call;
mod elicit;
mod guard;
mod http;
mod listen;
mod local;
mod malformed;
mod mcp;
mod metrics;
mod oauth;
mod reach;
mod resources;
mod schema;
mod secret_page;
mod standard_streams;
mod table;
mod tool;
mod tools;
#[cfg(feature = "otel")]
mod trace_parent;
mod traced_call;
mod visible;

pub use access::Access;
pub use bridge::bridge_stdio;
pub use http::{Authentication, HttpConfig, HttpServer, serve_http};
pub use local::{serve_socket, serve_stdio};
pub use mcp::MetaMcpServer;
pub use oauth::OAuthConfig;
