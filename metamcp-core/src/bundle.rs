//! The pinned JavaScript toolchain, and the [`Builder`](crate::Builder) for servers without npm dependencies.
//!
//! The runtime and a template's entry point are bundled once; what differs from server to server is data and
//! plain modules, so building a server is copying.

mod builder;
mod esbuild;
mod imports;
mod packages;
mod toolchain;
mod worker;

pub use builder::BundleBuilder;
pub use imports::package_imports;
pub use packages::{add_packages, package_modules};
pub use toolchain::Toolchain;
