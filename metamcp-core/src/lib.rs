//! Meta-MCP: describe an MCP server as data, get a live, verified endpoint.
//!
//! ```text
//! ServerDefinition ─validate→ ValidDefinition ─put→ Registry
//!         ValidDefinition ─generate→ SourceTree ─build→ Artifact ─stage→ Staged ─activate→ live ─verify→ Verification
//! ```
//!
//! This crate has the definitions, the checks, the code generator, the four traits a backend implements
//! ([`Registry`], [`KvCache`], [`Builder`], [`Publisher`]) and the deploy pipeline over them.
//!
//! Everything is in `tracing` spans, named like the verb that is called: `deploy`, and below it `generate`, `build`,
//! `stage`, `verify`, `activate`; what a registry or a cache is asked at level debug. Each ends with the fields `outcome`
//! (`ok` or [`ErrorKind::as_str`]) and `ms`. None holds a body, an argument, a command line or a secret.

mod artifact;
mod builder;
#[cfg(feature = "bundle")]
pub mod bundle;
mod canonical;
mod codegen;
mod connection;
#[cfg(feature = "contract")]
#[expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these functions are tests")]
pub mod contract;
mod definition;
mod deploy;
pub mod edit;
mod environments;
mod error;
mod event;
mod keys;
pub mod kv_cache;
mod lease;
pub mod memory;
mod meta_mcp;
mod name;
mod number;
#[cfg(feature = "openapi")]
mod openapi;
mod publisher;
pub mod registry;
mod saga;
mod secrets;
#[cfg(feature = "server")]
pub mod server;
mod servers;
mod settings;
mod source_tree;
mod template;
mod trace;
mod validate;
mod verify;

pub use artifact::{Artifact, Module, ModuleKind};
pub use builder::{
    Builder, Command, CommandOutput, Environment, EnvironmentInfo, OutputChunk, OutputStream, report_queue_place,
    with_queue_report,
};
#[cfg(feature = "mock")]
pub use builder::{MockBuilder, MockEnvironment};
pub use codegen::generate;
pub use connection::{ConnectTransport, Connections, Drift, PinnedServer, TrustedHosts};
pub use definition::{
    Auth, Binding, BindingKind, CacheHint, CacheScope, Limits, Probe, PromptArgument, PromptDefinition,
    ResourceDefinition, ServerDefinition, ToolDefinition, ToolExample,
};
pub use deploy::{
    CleanupMode, CleanupOptions, CleanupReport, Deployment, Deployments, ReconcileReport, ToolAnswer, ToolTest,
};
pub use environments::Environments;
pub use error::{Error, ErrorKind, Result};
pub use event::{DeployEvent, EventSink};
pub use keys::{ApiKeys, NewApiKey, Scope};
#[cfg(feature = "mock")]
pub use kv_cache::MockKvCache;
pub use kv_cache::{KvCache, Ttl};
pub use meta_mcp::{Backends, MetaMcp};
pub use name::{EnvName, ItemName, NameError, ServerId, ServerKey, ServerName, TemplateKind, VersionId};
#[cfg(feature = "openapi")]
pub use openapi::{ApiImport, ImportOptions, SkippedOperation};
#[cfg(feature = "mock")]
pub use publisher::MockPublisher;
pub use publisher::{Endpoint, LogLine, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged};
#[cfg(feature = "mock")]
pub use registry::MockRegistry;
pub use registry::Registry;
pub use secrets::Secrets;
pub use servers::{FoundTool, Servers};
pub use settings::{COMPATIBILITY_DATE, COMPATIBILITY_FLAGS, DurableObjectClass, WorkerSettings};
pub use source_tree::{Digest, SourceTree};
pub use template::{TemplateManifest, TemplateTool};
pub use validate::{
    EffectiveLimits, EgressRule, Problem, ResourceAddress, ValidDefinition, ValidPrompt, ValidPromptSource,
    ValidResource, ValidTool, ValidationErrors, definition_schema, validate, validate_json,
};
pub use verify::{Depth, Verification, verify};
