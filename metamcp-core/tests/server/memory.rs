//! Meta-MCP on the memory backends, with something that answers at the URLs of the memory publisher.

use std::sync::Arc;

use metamcp_core::memory::{MemoryBuilder, MemoryKvCache, MemoryRegistry};
use metamcp_core::{Backends, Builder, MetaMcp, Registry};

use super::answering;

/// Meta-MCP whose deployments are answered, as long as the test's runtime lives.
pub(crate) async fn meta() -> MetaMcp {
    meta_with(Arc::new(MemoryBuilder::new())).await
}

/// The same with another builder.
pub(crate) async fn meta_with(builder: Arc<dyn Builder>) -> MetaMcp {
    meta_on(Arc::new(MemoryRegistry::new()), builder).await
}

/// The same with another registry, too.
pub(crate) async fn meta_on(registry: Arc<dyn Registry>, builder: Arc<dyn Builder>) -> MetaMcp {
    let publisher = answering::publisher().await;
    MetaMcp::new(Backends { registry, cache: Arc::new(MemoryKvCache::new()), builder, publisher })
}
