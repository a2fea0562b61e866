//! The TypeScript runtime and the server templates, embedded.
//!
//! Beside each template's folder stands its rendered sample, so that the folder is a real project. Files that have
//! a `.hbs` sibling are output and are not embedded.

/// A file by its path relative to the tree it belongs to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct File {
    /// Relative path.
    pub path: &'static str,
    /// Its text.
    pub content: &'static str,
}

/// A template: files that are the same for all of its servers, what it brings beside them, and its rendered README.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Template {
    /// Name, which is also the folder's.
    pub name: &'static str,
    /// Verbatim files, relative to the project.
    pub files: &'static [File],
    /// `template.json`: its summary, its own tools, its Durable Objects and the schema of its options.
    pub manifest: &'static str,
    /// Handlebars source of `README.md`.
    pub readme: &'static str,
}

macro_rules! files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(File { path: $path, content: include_str!(concat!($folder, $path)) }),*]
    };
}

macro_rules! template {
    ($name:literal: $($path:literal),* $(,)?) => {
        Template {
            name: $name,
            files: &[$(File { path: $path, content: include_str!(concat!($name, "/", $path)) }),*],
            manifest: include_str!(concat!($name, "/template.json")),
            readme: include_str!(concat!($name, "/README.md.hbs")),
        }
    };
}

/// What speaks MCP in every generated server, relative to `src/runtime/`.
pub const RUNTIME: &[File] = files!("runtime/src/": "answer.ts", "arguments.ts", "backoff.ts", "binary.ts", "body.ts", "call.ts", "catalog.ts", "concurrency.ts", "context.ts", "definition.ts", "environment.ts", "extension.ts", "failure.ts", "fan-out.ts", "guard.ts", "handler.ts", "input.ts", "json.ts", "legacy.ts", "lockdown.ts", "log.ts", "object-call.ts", "plain-call.ts", "pool.ts", "prompt.ts", "protocol-problem.ts", "resource.ts", "result.ts", "schema.ts", "schema-assertion.ts", "schema-compile.ts", "schema-document.ts", "schema-format.ts", "schema-hostname.ts", "schema-pattern.ts", "schema-pattern-run.ts", "schema-run.ts", "schema-value.ts", "server.ts", "session.ts", "session-binding.ts", "session-directory.ts", "session-events.ts", "session-route.ts", "subscription.ts", "tool.ts", "uncaught.ts", "uri-template.ts");

/// Handlebars source of every project's `src/bodies.js`.
pub const BODIES: &str = include_str!("runtime/bodies.js.hbs");
/// Handlebars source of every module in a project's `src/bodies/`.
pub const BODY: &str = include_str!("runtime/body.js.hbs");

/// `remote-mcp-authless`: the plain stateless server.
pub const REMOTE_MCP_AUTHLESS: Template = template!("remote-mcp-authless": "src/index.ts", "tsconfig.json");

/// `orchestrator-workers`: splits jobs into sub-tasks over a pool of tools.
pub const ORCHESTRATOR_WORKERS: Template = template!("orchestrator-workers": "src/index.ts", "src/job.ts", "src/options.ts", "src/orchestrator.ts", "src/plan.ts", "src/store.ts", "src/tools.ts", "tsconfig.json");

/// `agent-scheduler`: calls tools by the clock.
pub const AGENT_SCHEDULER: Template = template!("agent-scheduler": "src/index.ts", "src/options.ts", "src/scheduler.ts", "src/store.ts", "src/timing.ts", "src/tools.ts", "tsconfig.json");
/// `tool-calling`: tools that call tools, and many of them at once.
pub const TOOL_CALLING: Template =
    template!("tool-calling": "src/attempts.ts", "src/batch.ts", "src/index.ts", "tsconfig.json");
/// `routing`: serves the tools of other MCP servers beside its own.
pub const ROUTING: Template = template!("routing": "src/balance.ts", "src/connection.ts", "src/exchange.ts", "src/failure.ts", "src/headers.ts", "src/index.ts", "src/options.ts", "src/pin.ts", "src/replica.ts", "src/router.ts", "src/status.ts", "src/stream.ts", "src/tool-list.ts", "src/upstream.ts", "tsconfig.json");
/// `parallelisation`: one tool over many inputs, or many tools over one input.
pub const PARALLELISATION: Template =
    template!("parallelisation": "src/index.ts", "src/parallel.ts", "src/vote.ts", "tsconfig.json");

/// `agent-task-manager`: a task queue and workflow.
pub const AGENT_TASK_MANAGER: Template = template!("agent-task-manager": "src/attempt.ts", "src/index.ts", "src/ledger.ts", "src/queue.ts", "src/queue-binding.ts", "src/reference.ts", "src/store.ts", "src/task.ts", "src/tasks.ts", "src/tools.ts", "tsconfig.json");

/// All templates.
pub const TEMPLATES: &[Template] = &[
    REMOTE_MCP_AUTHLESS,
    ORCHESTRATOR_WORKERS,
    AGENT_SCHEDULER,
    TOOL_CALLING,
    ROUTING,
    PARALLELISATION,
    AGENT_TASK_MANAGER,
];

/// `package.json` of the pinned JavaScript toolchain.
pub const TOOLCHAIN_PACKAGE: &str = include_str!("toolchain/package.json");
/// `package-lock.json` of the pinned JavaScript toolchain.
pub const TOOLCHAIN_LOCK: &str = include_str!("toolchain/package-lock.json");

#[cfg(test)]
mod tests;
