//! What a Worker needs beside its code. `wrangler.jsonc`, the workerd configuration and an upload's metadata
//! all come from here.

use std::collections::BTreeMap;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::Binding;
use crate::name::{EnvName, ServerName};
use crate::validate::{EffectiveLimits, EgressRule, ValidDefinition};

/// The compatibility date every generated Worker runs with: workerd refuses one that is newer than its own
/// release, and from 2026-08-04 on `nodejs_compat` is the default.
pub const COMPATIBILITY_DATE: &str = "2026-11-01";

/// A body's only way to variables, secrets and bindings is the `env` it is called with: what the runtime keeps for
/// itself can neither be imported from `cloudflare:workers` nor read from `process.env`.
pub const COMPATIBILITY_FLAGS: &[&str] = &["disallow_importable_env", "nodejs_compat_do_not_populate_process_env"];

/// Bindings, limits and compatibility of one Worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkerSettings {
    /// The server's name.
    pub name: ServerName,
    /// Workers compatibility date.
    pub compatibility_date: String,
    /// Workers compatibility flags.
    #[serde(default)]
    pub compatibility_flags: Vec<String>,
    /// Plain values by name.
    #[serde(default)]
    pub vars: BTreeMap<EnvName, Value>,
    /// Names of the secrets the Worker reads; a publisher binds those that have a value.
    #[serde(default)]
    pub secrets: Vec<EnvName>,
    /// The secret a caller has to send as a bearer token, if any.
    #[serde(default)]
    pub bearer_secret: Option<EnvName>,
    /// Platform resources by name.
    #[serde(default)]
    pub bindings: BTreeMap<EnvName, Binding>,
    /// Durable Object classes the template brings.
    #[serde(default)]
    pub durable_objects: Vec<DurableObjectClass>,
    /// Where it may connect to; `None` is the public internet.
    #[serde(default)]
    pub egress: Option<Vec<EgressRule>>,
    /// Limits of the server as a whole.
    pub limits: EffectiveLimits,
    /// Timeouts of the tools that differ from the server's, in milliseconds.
    #[serde(default)]
    pub tool_timeouts_ms: BTreeMap<String, u64>,
    /// npm packages and their versions.
    #[serde(default)]
    pub dependencies: BTreeMap<String, String>,
    /// Whether `GET /health` tells as `version` the text that is bound as `METAMCP_VERSION`: generated Workers do.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub tells_version: bool,
}

/// What a definition with `sessions` needs: the classes that every template exports for it.
const SESSION_CLASSES: [(&str, &str); 2] =
    [("METAMCP_SESSIONS", "McpSession"), ("METAMCP_SESSION_DIRECTORY", "McpSessionDirectory")];

/// A Durable Object class with SQLite storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DurableObjectClass {
    /// `env.NAME`.
    pub binding: String,
    /// Name of the exported class.
    pub class_name: String,
}

impl DurableObjectClass {
    /// The class that is exported as `class_name`, as `env.NAME`.
    pub fn new(binding: impl Into<String>, class_name: impl Into<String>) -> Self {
        Self { binding: binding.into(), class_name: class_name.into() }
    }
}

impl WorkerSettings {
    /// The settings of a Worker that has nothing but its modules.
    pub fn new(name: ServerName) -> Self {
        Self {
            name,
            compatibility_date: COMPATIBILITY_DATE.to_owned(),
            compatibility_flags: Vec::new(),
            vars: BTreeMap::new(),
            secrets: Vec::new(),
            bearer_secret: None,
            bindings: BTreeMap::new(),
            durable_objects: Vec::new(),
            egress: None,
            limits: EffectiveLimits::default(),
            tool_timeouts_ms: BTreeMap::new(),
            dependencies: BTreeMap::new(),
            tells_version: false,
        }
    }

    /// The settings of a definition; pure.
    pub fn of(definition: &ValidDefinition) -> Self {
        let limits = definition.limits();
        let tool_timeouts_ms = definition
            .listed_tools()
            .filter(|tool| tool.limits.timeout_ms != limits.timeout_ms)
            .map(|tool| (tool.name.to_string(), tool.limits.timeout_ms))
            .collect();
        Self {
            name: definition.name().clone(),
            compatibility_date: COMPATIBILITY_DATE.to_owned(),
            compatibility_flags: COMPATIBILITY_FLAGS.iter().map(|flag| (*flag).to_owned()).collect(),
            vars: definition.vars().clone(),
            secrets: definition.secrets().to_vec(),
            bearer_secret: definition.bearer_secret().cloned(),
            bindings: definition.bindings().clone(),
            durable_objects: durable_objects(definition),
            egress: definition.egress().map(<[EgressRule]>::to_vec),
            limits,
            tool_timeouts_ms,
            dependencies: definition.written().dependencies.clone(),
            tells_version: true,
        }
    }

    /// Whether the Worker keeps state that a second process must not open at the same time.
    pub fn has_durable_state(&self) -> bool {
        !self.durable_objects.is_empty()
    }

    /// Whether the Worker's main module has this Durable Object class: one of its own, or one of sessions, which every
    /// template exports whether a definition has them or not.
    pub fn exports_class(&self, name: &str) -> bool {
        let own = self.durable_objects.iter().map(|class| class.class_name.as_str());
        own.chain(SESSION_CLASSES.map(|(_, class)| class)).any(|class| class == name)
    }

    /// Whether the Worker may have something to do that nobody calls it for: alarms of the template's Durable
    /// Objects. Those of sessions only clear away what nobody uses, which has time until the next call.
    pub fn runs_by_itself(&self) -> bool {
        let is_of_sessions =
            |class: &DurableObjectClass| SESSION_CLASSES.iter().any(|(_, name)| *name == class.class_name);
        !self.durable_objects.iter().all(is_of_sessions)
    }
}

/// The template's classes, and those of sessions.
fn durable_objects(definition: &ValidDefinition) -> Vec<DurableObjectClass> {
    let mut classes = definition.template().manifest().durable_objects.clone();
    if definition.sessions() {
        classes.extend(SESSION_CLASSES.map(|(binding, class_name)| DurableObjectClass::new(binding, class_name)));
    }
    classes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ServerDefinition;

    #[test]
    fn sessions_are_durable_state_but_nothing_that_runs_by_itself() {
        let asked = json!({ "name": "asked", "description": "Asks its clients.", "sessions": true });
        let definition: ServerDefinition = serde_json::from_value(asked).unwrap();
        let mut settings = WorkerSettings::of(&crate::validate(&definition).unwrap());
        assert!(settings.has_durable_state() && !settings.runs_by_itself());
        settings.durable_objects.push(DurableObjectClass::new("CLOCK", "Clock"));
        assert!(settings.runs_by_itself());
    }

    /// Publishers keep settings, and check them by their digest.
    #[test]
    fn settings_that_an_older_release_kept_are_written_as_before() {
        let settings = serde_json::to_value(WorkerSettings::new("kept".parse().unwrap())).unwrap();
        assert_eq!(settings.get("tellsVersion"), None);
        assert!(!serde_json::from_value::<WorkerSettings>(settings).unwrap().tells_version);
    }

    #[test]
    fn sessions_that_are_given_up_leave_their_classes() {
        let plain = json!({ "name": "plain", "description": "Has no sessions.", "template": "agent-scheduler" });
        let definition: ServerDefinition = serde_json::from_value(plain).unwrap();
        let settings = WorkerSettings::of(&crate::validate(&definition).unwrap());
        assert!(settings.exports_class("McpSession") && settings.exports_class("McpSessionDirectory"));
        assert!(settings.exports_class(&settings.durable_objects[0].class_name) && !settings.exports_class("Clock"));
    }
}
