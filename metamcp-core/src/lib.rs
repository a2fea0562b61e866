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
pub mod contract;
mod definition;
pub mod edit;
mod error;
pub mod kv_cache;
mod name;
mod publisher;
pub mod registry;
mod settings;
mod source_tree;
mod validate;

pub use builder::{Artifact, Builder, Command, CommandOutput, Environment, EnvironmentInfo, Module, ModuleKind};
pub(crate) use canonical::canonical_json;
pub use definition::{
    Auth, Binding, BindingKind, Limits, Probe, PromptArgument, PromptDefinition, ResourceDefinition, ServerDefinition,
    ToolDefinition, ToolExample,
};
pub use error::{Error, ErrorKind, Result};
pub use kv_cache::{KvCache, Ttl};
pub use name::{EnvName, ItemName, NameError, ServerId, ServerKey, ServerName, TemplateKind, VersionId};
pub use publisher::{Endpoint, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged};
pub use registry::Registry;
pub use settings::{COMPATIBILITY_DATE, DurableObjectClass, WorkerSettings};
pub use source_tree::{Digest, SourceTree};
pub use validate::{
    EffectiveLimits, EgressRule, Problem, ResourceAddress, ValidDefinition, ValidPrompt, ValidPromptSource,
    ValidResource, ValidTool, ValidationErrors, definition_schema, validate, validate_json,
};
