//! The table of tools: name, scope, effect, description, function. There is no other way to add a tool, so none is
//! without a scope. Not formatted, so that a tool is a line.

use std::sync::LazyLock;

use super::tool::Effect::{Adds, Changes, Reads, Runs};
use super::tool::{ToolEntry, open, typed};
use super::tools::{connections, deployments, environments, items, keys, openapi, projects, secrets, servers};
use crate::keys::Scope::{Admin, Call, Deploy, Exec, Read, Write};
use crate::validate::nearest;

static TABLE: LazyLock<Vec<ToolEntry>> = LazyLock::new(|| {
    let groups = [definitions(), items(), live_servers(), external_servers(), containers(), administration()];
    groups.into_iter().flatten().collect()
});

/// All tools, in the order in which they are listed.
pub(super) fn tools() -> &'static [ToolEntry] {
    &TABLE
}

/// The tool of this name, or a name that is near.
pub(super) fn find(name: &str) -> Result<&'static ToolEntry, Option<&'static str>> {
    let found = TABLE.iter().find(|entry| entry.name() == name);
    found.ok_or_else(|| nearest(name, TABLE.iter().map(ToolEntry::name)))
}

#[rustfmt::skip]
fn definitions() -> Vec<ToolEntry> {
    vec![
        typed("init_mcp_server", Write, Adds, "Creates an MCP server, empty and not live. Then: add_mcp_tool, test_mcp_tool, deploy_mcp_server, call_mcp_tool.", servers::init),
        typed("update_mcp_server", Write, Changes, "Changes settings of a server. Live after the next deploy.", servers::update).about(&["settings"]),
        typed("delete_mcp_server", Deploy, Changes, "Takes a server down and removes it with its versions, state and secrets.", servers::delete),
        typed("list_mcp_servers", Read, Reads, "Lists servers by name.", servers::list),
        typed("get_mcp_server_details", Read, Reads, "Shows a server: status, URL, versions, names of its tools, resources, prompts.", servers::details),
        typed("get_mcp_server_code", Read, Reads, "Shows files of the generated Workers project. index: entry point and bodies; all: everything, runs with wrangler.", projects::code),
        typed("search_mcp_tools", Read, Reads, "Finds tools of all servers by words. Look here before making a new one.", servers::search),
        typed("list_templates", Read, Reads, "Lists the templates a server can be made from.", servers::templates),
        typed("export_server", Read, Reads, "Shows a server's whole definition as one JSON document.", projects::export),
        typed("import_openapi", Write, Changes, "Adds a tool for each operation of an API that an OpenAPI document describes. Afterwards set the secrets it names.", openapi::import).about(&["operations", "tags"]),
        typed("import_server", Write, Adds, "Creates a server from a definition.", servers::import),
    ]
}

#[rustfmt::skip]
fn items() -> Vec<ToolEntry> {
    vec![
        typed("add_mcp_tool", Write, Adds, "Adds a tool. Its implementation is an async JavaScript function body that sees `parameters`, `env` (vars, secrets, bindings) and `ctx` (progress, log, callTool, …), and returns text, JSON or an MCP result.", items::add_tool).about(&["toolName"]),
        typed("update_mcp_tool", Write, Changes, "Changes a tool; what is left out stays, null removes.", items::update_tool).about(&["toolName", "newName"]),
        typed("remove_mcp_tool", Write, Changes, "Removes a tool.", items::remove_tool).about(&["toolName"]),
        typed("add_mcp_resource", Write, Adds, "Adds a resource (uri) or resource template (uriTemplate).", items::add_resource).about(&["name"]),
        typed("update_mcp_resource", Write, Changes, "Changes a resource; what is left out stays, null removes.", items::update_resource).about(&["name", "newName"]),
        typed("remove_mcp_resource", Write, Changes, "Removes a resource.", items::remove_resource).about(&["name"]),
        typed("add_mcp_prompt", Write, Adds, "Adds a prompt, by template or implementation.", items::add_prompt).about(&["promptName"]),
        typed("update_mcp_prompt", Write, Changes, "Changes a prompt; what is left out stays, null removes.", items::update_prompt).about(&["promptName", "newName"]),
        typed("remove_mcp_prompt", Write, Changes, "Removes a prompt.", items::remove_prompt).about(&["promptName"]),
    ]
}

#[rustfmt::skip]
fn live_servers() -> Vec<ToolEntry> {
    vec![
        open("test_mcp_tool", Deploy, Runs, "Runs a tool as it is defined now, without deploying it. Shows its answer or the error with the body's line, and what it logged.", deployments::test_tool).about(&["toolName"]),
        typed("deploy_mcp_server", Deploy, Changes, "Makes the newest revision live after checking it. On failure the old version stays live.", deployments::deploy),
        open("call_mcp_tool", Call, Runs, "Calls a tool of a live server: no need to connect to its URL.", deployments::call_tool).unaudited(),
        typed("list_versions", Read, Reads, "Lists versions of a server, newest first.", deployments::versions),
        typed("rollback", Deploy, Changes, "Makes an older version live again. The definition stays as it is.", deployments::rollback).about(&["versionId"]),
        typed("verify_deployment", Call, Runs, "Checks a live server over MCP: its lists, probe and examples.", deployments::verify),
        typed("get_server_logs", Read, Reads, "Shows what a server wrote: console.log, uncaught errors.", deployments::logs),
        typed("set_secret", Deploy, Changes, "Sets a secret that the server's `secrets` declare; bodies read env.NAME. Without value a person is asked.", secrets::set).about(&["name"]),
        typed("remove_secret", Deploy, Changes, "Removes a secret's value.", secrets::remove).about(&["name"]),
        typed("list_secrets", Read, Reads, "Lists names of secrets; values cannot be read.", secrets::list),
    ]
}

#[rustfmt::skip]
fn external_servers() -> Vec<ToolEntry> {
    vec![
        typed("connect_external_mcp", Write, Adds, "Connects a server to another MCP server on the internet and pins its tools; call_mcp_tool with serverName calls them.", connections::connect).about(&["serverName"]),
        typed("list_external_mcp", Read, Reads, "Lists a server's external servers and their pinned tools; with serverName, what one offers now.", connections::list),
        typed("accept_external_mcp", Write, Changes, "Pins what a changed external server offers. Until then its tools are not called. A live routing server follows once it is deployed.", connections::accept).about(&["serverName", "digest"]),
        typed("remove_external_mcp", Write, Changes, "Forgets an external server. A live routing server serves it until it is deployed.", connections::remove).about(&["serverName"]),
    ]
}

#[rustfmt::skip]
fn containers() -> Vec<ToolEntry> {
    vec![
        typed("create_sdk_environment", Exec, Adds, "Makes an isolated container with Node.js, wrangler and a template's files.", environments::create).about(&["template"]),
        typed("execute_in_container", Exec, Runs, "Runs a shell command in a container.", environments::execute).about(&["containerId"]),
        typed("build_mcp_server", Exec, Runs, "Writes a server's project into a container, installs its packages and checks it. deploy_mcp_server does not need this.", environments::build).about(&["containerId"]),
        typed("write_file", Exec, Changes, "Writes a file in a container.", environments::write_file).about(&["containerId", "path"]),
        typed("read_file", Exec, Reads, "Reads a file in a container.", environments::read_file),
        typed("list_files", Exec, Reads, "Lists a folder in a container; folders end with '/'.", environments::list_files),
        typed("delete_file", Exec, Changes, "Removes a file or folder in a container.", environments::delete_file).about(&["containerId", "path"]),
        typed("destroy_environment", Exec, Changes, "Removes a container.", environments::destroy).about(&["containerId"]),
    ]
}

#[rustfmt::skip]
fn administration() -> Vec<ToolEntry> {
    vec![
        typed("cleanup_old_servers", Admin, Changes, "Removes servers, live ones too, that were not updated for some days.", servers::cleanup).about(&["daysThreshold", "dryRun"]),
        typed("create_api_key", Admin, Adds, "Makes a key for this server's HTTP endpoint. deploy covers what is live, tests and secrets; admin covers all.", keys::create).about(&["name", "scopes", "servers"]),
        typed("list_api_keys", Admin, Reads, "Lists keys and what they allow.", keys::list),
        typed("revoke_api_key", Admin, Changes, "Ends a key now.", keys::revoke).about(&["id"]),
        typed("list_audit_log", Admin, Reads, "Shows who changed what. Outcome begun: still running, or cut off.", keys::audit),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The rules of the strictest hosts.
    #[test]
    fn names_and_schemas_are_what_strict_hosts_take() {
        let mut names = HashSet::new();
        for entry in tools() {
            let name = entry.name();
            assert!(names.insert(name), "{name} is there twice");
            assert!((1..=48).contains(&name.len()), "{name}: hosts put a prefix before it, and 64 is the limit");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(entry.tool.description.as_deref().is_some_and(|text| (1..=1024).contains(&text.len())), "{name}");
            for schema in [Some(&entry.tool.input_schema), entry.tool.output_schema.as_ref()].into_iter().flatten() {
                let text = serde_json::to_string(schema).unwrap();
                assert_eq!(schema["type"], "object", "{name}");
                for word in ["$ref", "$defs", "oneOf", "anyOf", "allOf", "\"format\""] {
                    assert!(!text.contains(word), "{name} has {word}: {text}");
                }
            }
            let arguments = serde_json::to_string(&entry.tool.input_schema).unwrap();
            assert!(!arguments.contains("null\"") && !arguments.contains("\"type\":["), "{name}: {arguments}");
        }
    }

    #[test]
    fn what_a_call_is_about_stands_in_its_arguments() {
        for entry in tools() {
            let arguments = entry.tool.input_schema["properties"].as_object().map(|properties| {
                properties.keys().map(|name| (name.clone(), name.clone().into())).collect::<serde_json::Map<_, _>>()
            });
            let subject = entry.subject(&arguments.unwrap_or_default().into()).unwrap_or_default();
            let words: Vec<_> = subject.split_whitespace().collect();
            assert_eq!(words, entry.about, "{}", entry.name());
            assert!(!words.iter().any(|word| ["value", "content", "command"].contains(word)), "{}", entry.name());
        }
    }

    #[test]
    fn a_tool_that_changes_something_needs_more_than_reading() {
        for entry in tools() {
            let reads = entry.effect == Reads;
            let may_be_for_readers = entry.scope == Read;
            assert!(reads || !may_be_for_readers, "{}", entry.name());
        }
    }
}
