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
//! [`MetaMcp`] is the place to start: it has an example. Linux and macOS; on Windows, WSL.
//!
//! # Spans
//!
//! Every call of [`MetaMcp`]'s facets is a `tracing` span: `deploy`, and below it `generate`, `build`, `stage`,
//! `verify`, `activate`; `servers.create`, `secrets.set` and so on for the other facets. What changes something has
//! level info; what only reads has level debug, and so has what a registry or a cache is asked. Each span ends with the
//! fields `outcome` (`ok` or [`ErrorKind::as_str`]) and `ms`. No span holds a body, an argument, a command line or a
//! secret.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `rustls` (default) | TLS of [`verify()`] and of connections by rustls, with the platform's certificates |
//! | `native-tls` | the same by the platform's own library |
//! | `bundle` | the pinned JavaScript toolchain, and the builder for servers without npm packages |
//! | `openapi` | tools from `OpenAPI` documents: `ApiImport` |
//! | `server` | Meta-MCP itself as an MCP server, over stdio, Unix sockets and guarded HTTP |
//! | `otel` | the server's calls as parts of their callers' OpenTelemetry traces |
//! | `contract` | the suites that every backend has to pass: `registry_contract!` and three more |
//! | `mock` | mockall mocks of the four traits |

#[cfg(not(unix))]
compile_error!("metamcp-core runs on Linux and macOS; on Windows use WSL");

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
mod egress_lists;
mod environments;
mod error;
mod event;
mod ip;
mod json_size;
mod keys;
pub mod kv_cache;
mod lease;
pub mod memory;
mod meta_mcp;
mod name;
mod number;
#[cfg(feature = "openapi")]
mod openapi;
mod private_egress;
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
mod text;
mod trace;
mod validate;
mod validated;
mod verify;

pub use artifact::{Artifact, Module, ModuleKind};
pub use builder::{
    Builder, Command, CommandOutput, Environment, EnvironmentInfo, OutputChunk, OutputStream, report_queue_place,
    with_queue_report,
};
#[cfg(feature = "mock")]
pub use builder::{MockBuilder, MockEnvironment};
pub use codegen::{generate, generate_empty};
pub use connection::{ConnectTransport, Connections, Drift, Offer, OfferedTool, PinnedServer, TrustedHosts};
pub use definition::{
    Auth, Binding, BindingKind, CacheHint, CacheScope, Limits, Probe, PromptArgument, PromptDefinition,
    ResourceDefinition, ServerDefinition, ToolDefinition, ToolExample,
};
pub use deploy::{
    CleanupMode, CleanupOptions, CleanupReport, Deployment, Deployments, MAX_RESULT_BYTES, ReconcileReport, ToolAnswer,
    ToolTest,
};
pub use egress_lists::{EgressBlock, EgressLists};
pub use environments::Environments;
pub use error::{Error, ErrorKind, Result};
pub use event::{DeployEvent, EventSink};
pub use keys::{ApiKeys, NewApiKey, Scope};
#[cfg(feature = "mock")]
pub use kv_cache::MockKvCache;
pub use kv_cache::{KvCache, Ttl};
pub use lease::LEASE_TIME;
pub use meta_mcp::{Backends, MetaMcp};
pub use name::{EnvName, ItemName, NameError, ServerId, ServerKey, ServerName, TemplateKind, VersionId};
#[cfg(feature = "openapi")]
pub use openapi::{ApiImport, ImportOptions, SkippedOperation};
pub use private_egress::PrivateEgress;
#[cfg(feature = "mock")]
pub use publisher::MockPublisher;
pub use publisher::{
    Endpoint, LogLine, LogListener, LogOptions, PublishedServer, PublishedVersion, Publisher, ServerRef, Staged,
};
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
// Types of other crates that stand in signatures here: a caller needs these very versions of them.
#[doc(no_inline)]
pub use {
    secrecy::{ExposeSecret, SecretString},
    time::OffsetDateTime,
    url::Url,
    uuid::Uuid,
};
