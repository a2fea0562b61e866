//! What the cases write.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::definition::ServerDefinition;
use crate::name::{ServerName, VersionId};
use crate::registry::{
    DeploymentId, DeploymentKind, DeploymentRecord, DeploymentStep, Expect, Lease, Registry, ServerRecord,
    VersionRecord,
};
use crate::source_tree::Digest;
use crate::validate::{ValidDefinition, validate};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A name nobody else uses.
pub(super) fn unique_name() -> ServerName {
    let id = Uuid::new_v4().simple().to_string();
    format!("contract-{}", &id[..16]).parse().expect("a valid name")
}

/// A definition with every field in use.
pub(super) fn full(name: &ServerName) -> Value {
    json!({
        "name": name.as_str(),
        "description": "Weather for a city",
        "version": "2.1.0",
        "tools": [
            tool("forecast"),
            {
                "name": "alerts",
                "title": "Alerts",
                "description": "Alerts of a region",
                "parameters": { "region": { "type": "string", "required": true, "enum": ["north", "south"] } },
                "outputSchema": { "type": "object", "properties": { "count": { "type": "integer" } } },
                "annotations": { "readOnlyHint": true },
                "limits": { "timeoutMs": 5000 },
                "examples": [{ "arguments": { "region": "north" }, "expected": { "count": 0 } }],
                "implementation": "return { count: 0 };"
            }
        ],
        "resources": [
            { "uri": "weather://today", "name": "today", "description": "", "implementation": "return 'sunny';" },
            {
                "uriTemplate": "weather://day/{day}",
                "name": "day",
                "mimeType": "application/json",
                "implementation": "return JSON.stringify(variables);"
            }
        ],
        "prompts": [
            {
                "name": "plan",
                "description": "Plans a day",
                "template": "Plan a day in {{city}}",
                "arguments": [{ "name": "city", "required": true, "completion": ["Berlin", "Rome"] }]
            },
            { "name": "greet", "description": "Greets", "implementation": "return 'hello';" }
        ],
        "vars": { "UNITS": "metric", "NESTED": { "a": [1, null, { "b": false }] } },
        "secrets": ["API_TOKEN"],
        "bindings": { "STORE": { "type": "kv", "target": "weather" } },
        "egress": ["api.example.com", "*.example.org"],
        "auth": { "bearer": { "secret": "API_TOKEN" } },
        "limits": { "timeoutMs": 10_000, "concurrency": 8 },
        "probe": { "tool": "alerts", "arguments": { "region": "south" } }
    })
}

/// A tool with nothing optional.
pub(super) fn tool(name: &str) -> Value {
    json!({ "name": name, "description": "A tool", "implementation": format!("return {name:?};") })
}

/// A definition with the given tools and nothing else.
pub(super) fn with_tools(name: &ServerName, tools: &[&str]) -> ValidDefinition {
    let tools: Vec<Value> = tools.iter().map(|name| tool(name)).collect();
    valid(json!({ "name": name.as_str(), "description": "A server", "tools": tools }))
}

pub(super) fn valid(definition: Value) -> ValidDefinition {
    let definition: ServerDefinition = serde_json::from_value(definition).expect("a definition");
    validate(&definition).expect("a valid definition")
}

/// A small server of a unique name.
pub(super) async fn some_server(registry: &dyn Registry) -> ServerRecord {
    registry.put_server(&with_tools(&unique_name(), &["one"]), Expect::Absent).await.expect("a new server")
}

pub(super) async fn lease(registry: &dyn Registry, server: &ServerRecord) -> Lease {
    registry.acquire_lease(&format!("deploy:{}", server.id), "contract", MINUTE).await.expect("a free lease")
}

/// Records a version under a lease of its own.
pub(super) async fn put_version(registry: &dyn Registry, server: &ServerRecord, version: &VersionRecord) -> u32 {
    let held = lease(registry, server).await;
    let deployment = deployment_of(server, DeploymentStep::Verifying, version.created_at);
    let count = registry.put_version(version, &deployment, &held).await.expect("a version that is written");
    registry.release_lease(&held).await.expect("a lease that ends");
    count
}

pub(super) fn version_of(server: &ServerRecord, version: &str, created_at: OffsetDateTime) -> VersionRecord {
    VersionRecord {
        server_id: server.id,
        version: version.parse().expect("a version id"),
        revision: server.revision,
        artifact: Digest::of(version),
        definition: server.definition.clone(),
        created_at,
    }
}

pub(super) fn deployment_of(
    server: &ServerRecord,
    step: DeploymentStep,
    created_at: OffsetDateTime,
) -> DeploymentRecord {
    DeploymentRecord {
        id: DeploymentId(Uuid::new_v4()),
        server: server.reference(),
        kind: DeploymentKind::Deploy,
        step,
        revision: server.revision,
        version: None,
        previous: None,
        error: None,
        created_at,
    }
}

pub(super) fn version_id(text: &str) -> VersionId {
    text.parse().expect("a version id")
}

/// A time with every digit in use, some minutes after the others of its kind.
pub(super) fn moment(minutes: i64) -> OffsetDateTime {
    let base = OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_789).expect("a time");
    base + time::Duration::minutes(minutes)
}
