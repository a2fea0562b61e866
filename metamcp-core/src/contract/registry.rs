//! Promises of [`Registry`](crate::Registry).

mod access;
mod content;
mod deployments;
mod fixture;
mod leases;
mod listing;
mod servers;

pub use access::*;
pub use content::*;
pub use deployments::*;
pub use leases::*;
pub use listing::*;
pub use servers::*;
