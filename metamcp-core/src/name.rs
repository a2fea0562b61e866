//! Checked names and ids: a value of one of these types is well-formed by construction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::quote;

/// Why a text is not a name of the wanted kind: what is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {help}")]
pub struct NameError {
    pub(crate) problem: String,
    pub(crate) help: String,
}

impl NameError {
    pub(crate) fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { problem: problem.into(), help: help.into() }
    }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// A server's unique name: 1 to 53 lower-case letters, digits and `-`, beginning with a letter and ending
    /// with a letter or digit, without `--`, never of UUID form.
    ///
    /// 53, since Cloudflare lengthens script names (at most 63) for previews and versions.
    ServerName,
    check_server_name
);
checked_name!(
    /// A tool's or prompt's name: 1 to 64 characters of `A-Z a-z 0-9 _ . -`.
    ItemName,
    check_item_name
);
checked_name!(
    /// Name of a variable, secret or binding, read as `env.NAME`: a letter or `_`, then letters, digits and
    /// `_`, at most 64 characters, not beginning with `METAMCP_` (kept for the runtime).
    EnvName,
    check_env_name
);
checked_name!(
    /// A publisher's name for one version of one server: 1 to 64 characters of `A-Z a-z 0-9 _ . -`.
    VersionId,
    check_item_name
);

/// A server's id in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub Uuid);

impl ServerId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How callers name a server: by id or by name. No name has the form of an id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerKey {
    /// By id.
    Id(ServerId),
    /// By name.
    Name(ServerName),
}

impl FromStr for ServerKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(id) = Uuid::try_parse(text) {
            return Ok(Self::Id(ServerId(id)));
        }
        text.parse().map(Self::Name)
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl From<ServerId> for ServerKey {
    fn from(id: ServerId) -> Self {
        Self::Id(id)
    }
}

impl From<ServerName> for ServerKey {
    fn from(name: ServerName) -> Self {
        Self::Name(name)
    }
}

impl From<&ServerName> for ServerKey {
    fn from(name: &ServerName) -> Self {
        Self::Name(name.clone())
    }
}

/// The templates a server can be generated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum TemplateKind {
    /// `remote-mcp-authless`: the plain stateless server.
    RemoteMcpAuthless,
    /// `orchestrator-workers`: splits jobs into sub-tasks over a pool of tools.
    OrchestratorWorkers,
    /// `agent-scheduler`: calls tools by the clock.
    AgentScheduler,
    /// `tool-calling`: tools that call tools, and many of them at once.
    ToolCalling,
    /// `routing`: serves the tools of other MCP servers beside its own.
    Routing,
    /// `parallelisation`: one tool over many inputs, or many tools over one input.
    Parallelisation,
    /// `agent-task-manager`: a task queue and workflow in a Durable Object.
    AgentTaskManager,
}

impl TemplateKind {
    /// All templates, in the order in which they are offered.
    pub const ALL: &[Self] = &[
        Self::RemoteMcpAuthless,
        Self::OrchestratorWorkers,
        Self::AgentScheduler,
        Self::ToolCalling,
        Self::Routing,
        Self::Parallelisation,
        Self::AgentTaskManager,
    ];

    /// The template's name, which is also its folder's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RemoteMcpAuthless => "remote-mcp-authless",
            Self::OrchestratorWorkers => "orchestrator-workers",
            Self::AgentScheduler => "agent-scheduler",
            Self::ToolCalling => "tool-calling",
            Self::Routing => "routing",
            Self::Parallelisation => "parallelisation",
            Self::AgentTaskManager => "agent-task-manager",
        }
    }
}

impl FromStr for TemplateKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            NameError::new(format!("unknown template {text:?}"), format!("available: {}", known.join(", ")))
        })
    }
}

impl TryFrom<String> for TemplateKind {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TemplateKind> for String {
    fn from(kind: TemplateKind) -> Self {
        kind.as_str().to_owned()
    }
}

impl fmt::Display for TemplateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn check_server_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > 53 {
        "is longer than 53 characters"
    } else if Uuid::try_parse(text).is_ok() {
        "has the form of a UUID, which would be taken for a server id"
    } else if !text.chars().all(allowed) {
        "may hold only lower-case letters, digits and '-'"
    } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        "must begin with a letter"
    } else if text.ends_with('-') || text.contains("--") {
        "may not end with '-' or hold '--'"
    } else {
        return Ok(());
    };
    Err(NameError::new(format!("server name {} {problem}", quote(text)), "for example \"weather-api\""))
}

fn check_item_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > 64 {
        "is longer than 64 characters"
    } else if !text.chars().all(allowed) {
        "may hold only A-Z, a-z, 0-9, '_', '.' and '-'"
    } else {
        return Ok(());
    };
    Err(NameError::new(format!("name {} {problem}", quote(text)), "for example \"get_forecast\""))
}

fn check_env_name(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > 64 {
        "is longer than 64 characters"
    } else if !text.chars().all(allowed) || text.starts_with(|c: char| c.is_ascii_digit()) {
        "may hold only letters, digits and '_', and may not begin with a digit"
    } else if text.starts_with("METAMCP_") {
        "begins with METAMCP_, which is kept for the runtime"
    } else {
        return Ok(());
    };
    Err(NameError::new(format!("environment name {} {problem}", quote(text)), "for example \"API_TOKEN\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_of_uuid_form_are_refused() {
        let id = Uuid::new_v4();
        assert!(id.to_string().parse::<ServerName>().is_err());
        assert_eq!(id.to_string().parse(), Ok(ServerKey::Id(ServerId(id))));
    }

    #[test]
    fn what_is_no_name_says_as_an_error_what_it_said_before() {
        let told = "Dice!".parse::<ServerKey>().unwrap_err();
        let error = crate::Error::from(told.clone());
        assert_eq!((error.kind(), error.to_string()), (crate::ErrorKind::NotFound, told.to_string()));
        assert_eq!(error.help(), Some("for example \"weather-api\""));
    }

    #[test]
    fn environment_names_of_the_runtime_are_refused() {
        assert!("METAMCP_HOSTS".parse::<EnvName>().is_err());
        assert!("API_TOKEN".parse::<EnvName>().is_ok());
    }

    #[test]
    fn serde_checks_names_too() {
        assert!(serde_json::from_str::<ItemName>("\"a b\"").is_err());
        assert!(serde_json::from_str::<ServerName>("\"a-b\"").is_ok());
    }
}
