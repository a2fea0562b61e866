//! Meta-MCP: describe an MCP server as data, get a live, verified endpoint.
//!
//! ```text
//! ServerDefinition ─validate→ ValidDefinition ─put→ Registry
//!         ValidDefinition ─generate→ SourceTree ─build→ Artifact ─stage→ Staged ─activate→ live ─verify→ Verification
//! ```
//!
//! This crate has the definitions, the checks, the code generator, the four traits a backend implements
//! ([`Registry`], [`KvCache`], [`Builder`], [`Publisher`]) and the deploy pipeline over them.

mod builder;
mod canonical;
#[cfg(feature = "contract")]
#[expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these functions are tests")]
pub mod contract;
mod definition;
mod error;
pub mod kv_cache;
pub mod memory;
mod name;
mod publisher;
pub mod registry;
mod settings;
mod source_tree;
mod validate;

pub use builder::{Artifact, Builder, Command, CommandOutput, Environment, EnvironmentInfo, Module, ModuleKind};
#[cfg(feature = "mock")]
pub use builder::{MockBuilder, MockEnvironment};
pub(crate) use canonical::canonical_json;
pub use definition::{
    Auth, Binding, BindingKind, Limits, Probe, PromptArgument, PromptDefinition, ResourceDefinition, ServerDefinition,
    ToolDefinition, ToolExample,
};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "mock")]
pub use kv_cache::MockKvCache;
pub use kv_cache::{KvCache, Ttl};
pub use name::{EnvName, ItemName, NameError, ServerId, ServerKey, ServerName, TemplateKind, VersionId};
#[cfg(feature = "mock")]
pub use publisher::MockPublisher;
pub use publisher::{Endpoint, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged};
#[cfg(feature = "mock")]
pub use registry::MockRegistry;
pub use registry::Registry;
pub use settings::{COMPATIBILITY_DATE, DurableObjectClass, WorkerSettings};
pub use source_tree::{Digest, SourceTree};
pub use validate::{
    EffectiveLimits, EgressRule, Problem, ResourceAddress, ValidDefinition, ValidPrompt, ValidPromptSource,
    ValidResource, ValidTool, ValidationErrors, validate,
};
