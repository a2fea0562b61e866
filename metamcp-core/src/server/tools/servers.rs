//! Creating, showing, listing and removing servers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::deployments::reporting;
use super::items::Edited;
use super::{Done, OneServer};
use crate::definition::ServerDefinition;
use crate::deploy::{CleanupMode, CleanupOptions, CleanupReport};
use crate::name::{ServerName, TemplateKind};
use crate::registry::{ListOptions, RecordStatus, ServerRecord, ServerSummary};
use crate::server::call::{Call, ServerArg};
use crate::server::visible;
use crate::servers::FoundTool;
use crate::validated::validated_json;
use crate::{Error, ErrorKind, Result};

/// Servers on one page, unless more are asked for.
const PAGE: u32 = 50;
/// Tools a search finds, unless more are asked for.
const FOUND: usize = 10;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub(in crate::server) struct Init {
    /// Lower-case letters, digits, '-'; part of the URL
    name: String,
    description: String,
    /// Default 1.0.0
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Default remote-mcp-authless; see `list_templates`
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct NewServer {
    server_id: String,
    /// null until an environment exists
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    status: &'static str,
    created_at: String,
}

impl From<ServerRecord> for NewServer {
    fn from(record: ServerRecord) -> Self {
        Self {
            server_id: record.id.to_string(),
            container_id: record.container_id,
            status: record.status.as_str(),
            created_at: text_of(record.created_at),
        }
    }
}

pub(in crate::server) async fn init(call: Call, params: Init) -> Result<NewServer> {
    call.new_server(&params.name)?;
    let definition = serde_json::to_value(&params).unwrap_or_default();
    let mut server = create(&call, definition).await?;
    if server.status == RecordStatus::Draft.as_str() {
        // Clients of this tool wait for it.
        server.status = "ready";
    }
    Ok(server)
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct Import {
    /// As given by `export_server`
    definition: Map<String, Value>,
}

pub(in crate::server) async fn import(call: Call, params: Import) -> Result<NewServer> {
    call.new_server(params.definition.get("name").and_then(Value::as_str).unwrap_or_default())?;
    create(&call, Value::Object(params.definition)).await
}

async fn create(call: &Call, definition: Value) -> Result<NewServer> {
    let valid = validated_json(definition).await?;
    call.check_reach(None, valid.written())?;
    Ok(call.meta.servers().create_valid(&valid).await?.into())
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct UpdateServer {
    server_id: ServerArg,
    /// Any of description, version, options, vars, secrets (names), egress (hosts), auth, limits, probe, sessions, cache, bindings, dependencies; null removes one
    settings: Map<String, Value>,
}

pub(in crate::server) async fn update(call: Call, params: UpdateServer) -> Result<Edited> {
    const ITEMS: [&str; 4] = ["name", "tools", "resources", "prompts"];
    let key = call.server(&params.server_id).await?;
    if let Some(field) = ITEMS.into_iter().find(|field| params.settings.contains_key(*field)) {
        return Err(Error::new(ErrorKind::Unsupported, format!("{field:?} is no setting"))
            .with_help("a name is fixed; tools, resources and prompts have their own add_, update_ and remove_"));
    }
    let settings = &params.settings;
    let edited = call.edit(&key, |definition| async move {
        let mut changed = serde_json::to_value(definition).unwrap_or_default();
        for (field, value) in settings {
            let fields = changed.as_object_mut();
            match value {
                Value::Null => fields.and_then(|fields| fields.remove(field)),
                value => fields.and_then(|fields| fields.insert(field.clone(), value.clone())),
            };
        }
        Ok(validated_json(changed).await?.written().clone())
    });
    Ok(edited.await?.into())
}

pub(in crate::server) async fn delete(call: Call, params: OneServer) -> Result<Done> {
    let key = call.server(&params.server_id).await?;
    let deployments = call.meta.deployments();
    reporting(&call, |events| deployments.remove_with_events(&key, events)).await?;
    Ok(Done::YES)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Details {
    server_id: ServerArg,
    /// Whole definition with bodies
    #[serde(default)]
    full: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct ServerDetails {
    #[serde(flatten)]
    server: Listed,
    version: String,
    template: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_version: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    tools: Vec<String>,
    resources: Vec<String>,
    prompts: Vec<String>,
    secrets: Vec<String>,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Map<String, Value>>,
}

pub(in crate::server) async fn details(call: Call, params: Details) -> Result<ServerDetails> {
    let key = call.server(&params.server_id).await?;
    let record = call.meta.servers().get(&key).await?;
    let container_id = call.meta.environments().of(&record).await;
    let definition = params.full.then(|| as_object(&record.definition));
    let live = record.live.as_ref();
    let url = live.filter(|live| live.status == RecordStatus::Deployed).map(|live| live.url.to_string());
    let ServerDefinition { description, version, template, tools, resources, prompts, secrets, .. } = record.definition;
    let server = Listed {
        server_id: record.id.to_string(),
        name: record.name,
        description,
        status: record.status.as_str(),
        url,
    };
    Ok(ServerDetails {
        server,
        version,
        template,
        revision: record.revision.0,
        live_revision: live.map(|live| live.revision.0),
        live_version: live.map(|live| live.version.to_string()),
        container_id,
        tools: tools.into_iter().map(|tool| tool.name).collect(),
        resources: resources.into_iter().map(|resource| resource.name).collect(),
        prompts: prompts.into_iter().map(|prompt| prompt.name).collect(),
        secrets,
        created_at: text_of(record.created_at),
        updated_at: text_of(record.updated_at),
        definition,
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct List {
    /// `next` of the previous page
    after: Option<String>,
    /// Default 50
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Listed {
    server_id: String,
    #[schemars(with = "String")]
    name: ServerName,
    description: String,
    status: &'static str,
    /// Of a live server
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl From<ServerSummary> for Listed {
    fn from(summary: ServerSummary) -> Self {
        let live = summary.live.filter(|live| live.status == RecordStatus::Deployed);
        Self {
            server_id: summary.id.to_string(),
            name: summary.name,
            description: summary.description,
            status: summary.status.as_str(),
            url: live.map(|live| live.url.to_string()),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct ServerList {
    servers: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(in crate::server) async fn list(call: Call, params: List) -> Result<ServerList> {
    let after = params.after.map(|after| after.parse()).transpose()?;
    let options = ListOptions { limit: params.limit.unwrap_or(PAGE), after, ..ListOptions::default() };
    let page = visible::page(&call.meta, &call.access, &options).await?;
    Ok(ServerList { servers: page.items.into_iter().map(Into::into).collect(), next: page.next.map(Into::into) })
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct Search {
    query: String,
    /// Default 10
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct ToolList {
    #[schemars(with = "Vec<Map<String, Value>>")]
    tools: Vec<FoundTool>,
}

pub(in crate::server) async fn search(call: Call, params: Search) -> Result<ToolList> {
    let limit = params.limit.unwrap_or(FOUND);
    // A caller who sees some servers only has to find as many tools as one who sees all.
    let asked = if call.access.is_limited() { usize::MAX } else { limit };
    let found = call.meta.servers().search_tools(&params.query, asked).await?;
    Ok(ToolList { tools: found.into_iter().filter(|tool| call.access.may_use(&tool.server)).take(limit).collect() })
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::server) struct NoArguments {}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::server) struct Templates {
    templates: Vec<TemplateSummary>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TemplateSummary {
    name: &'static str,
    summary: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<String>,
    /// JSON Schema of the definition's `options`
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'static Value>,
}

pub(in crate::server) async fn templates(_: Call, _: NoArguments) -> Result<Templates> {
    let summary = |kind: &TemplateKind| {
        let manifest = kind.manifest();
        TemplateSummary {
            name: kind.as_str(),
            summary: &manifest.summary,
            tools: manifest.tools.iter().map(|tool| tool.name.to_string()).collect(),
            options: manifest.options.as_ref(),
        }
    };
    Ok(Templates { templates: TemplateKind::ALL.iter().map(summary).collect() })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct Cleanup {
    /// Not updated for this many days; default 30
    #[schemars(range(min = 0, max = 36500))]
    days_threshold: Option<u64>,
    /// Default true: only lists them
    dry_run: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) struct CleanedUp {
    dry_run: bool,
    found: Vec<String>,
    /// Of those found
    live: Vec<String>,
    removed: Vec<String>,
    failed: Vec<String>,
}

pub(in crate::server) async fn cleanup(call: Call, params: Cleanup) -> Result<CleanedUp> {
    call.unlimited()?;
    let mut options = CleanupOptions::default();
    if let Some(days) = params.days_threshold {
        options.older_than = Duration::from_secs(days * 86_400);
    }
    if params.dry_run == Some(false) {
        options.mode = CleanupMode::Remove;
    }
    let CleanupReport { found, live, removed, failed } = call.meta.deployments().cleanup_old_servers(options).await?;
    let names = |names: Vec<ServerName>| names.into_iter().map(Into::into).collect();
    Ok(CleanedUp {
        dry_run: options.mode == CleanupMode::DryRun,
        found: names(found),
        live: names(live),
        removed: names(removed),
        failed: failed.into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect(),
    })
}

pub(super) fn as_object(definition: &ServerDefinition) -> Map<String, Value> {
    match json!(definition) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(super) fn text_of(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
