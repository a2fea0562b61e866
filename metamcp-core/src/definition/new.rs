//! Constructors: what a part of a definition needs is given to them, and the rest is absent until it is assigned.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Auth, Binding, BindingKind, CacheHint, CacheScope, Limits, Probe, PromptArgument, PromptDefinition,
    ResourceDefinition, ServerDefinition, ToolDefinition, ToolExample, default_template, default_version,
};

impl ServerDefinition {
    /// A server of the plain template, version `1.0.0`, without tools, resources and prompts.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            version: default_version(),
            template: default_template(),
            options: Map::new(),
            tools: Vec::new(),
            resources: Vec::new(),
            prompts: Vec::new(),
            dependencies: BTreeMap::new(),
            vars: BTreeMap::new(),
            secrets: Vec::new(),
            bindings: BTreeMap::new(),
            egress: None,
            sessions: false,
            cache: None,
            auth: Auth::default(),
            limits: Limits::default(),
            probe: None,
        }
    }
}

impl ToolDefinition {
    /// A tool without parameters.
    pub fn new(name: impl Into<String>, description: impl Into<String>, implementation: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: None,
            description: description.into(),
            parameters: Map::new(),
            output_schema: None,
            annotations: None,
            limits: Limits::default(),
            examples: Vec::new(),
            implementation: implementation.into(),
        }
    }
}

impl ToolExample {
    /// A call with these arguments, and what it must answer.
    pub fn new(arguments: Map<String, Value>, expected: impl Into<Value>) -> Self {
        Self { arguments, expected: expected.into() }
    }
}

impl ResourceDefinition {
    /// The resource at one absolute URI.
    pub fn new(uri: impl Into<String>, name: impl Into<String>, implementation: impl Into<String>) -> Self {
        Self { uri: Some(uri.into()), ..Self::unplaced(name.into(), implementation.into()) }
    }

    /// The resources at the URIs of an RFC 6570 template; the body reads its variables as `variables`.
    pub fn new_template(
        uri_template: impl Into<String>,
        name: impl Into<String>,
        implementation: impl Into<String>,
    ) -> Self {
        Self { uri_template: Some(uri_template.into()), ..Self::unplaced(name.into(), implementation.into()) }
    }

    fn unplaced(name: String, implementation: String) -> Self {
        Self {
            uri: None,
            uri_template: None,
            name,
            title: None,
            description: String::new(),
            mime_type: None,
            annotations: None,
            completion: BTreeMap::new(),
            cache: None,
            limits: Limits::default(),
            implementation,
        }
    }
}

impl PromptDefinition {
    /// A prompt that is a text with `{{variable}}` placeholders; each needs an entry in `arguments`.
    pub fn from_template(name: impl Into<String>, description: impl Into<String>, template: impl Into<String>) -> Self {
        Self { template: Some(template.into()), ..Self::empty(name.into(), description.into()) }
    }

    /// A prompt that a JavaScript function body makes.
    pub fn from_implementation(
        name: impl Into<String>,
        description: impl Into<String>,
        implementation: impl Into<String>,
    ) -> Self {
        Self { implementation: Some(implementation.into()), ..Self::empty(name.into(), description.into()) }
    }

    fn empty(name: String, description: String) -> Self {
        Self {
            name,
            title: None,
            description,
            template: None,
            implementation: None,
            arguments: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl PromptArgument {
    /// An argument that may be absent.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: String::new(), required: false, completion: Vec::new() }
    }
}

impl CacheHint {
    /// Fresh for so many milliseconds, for the caller alone.
    pub fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, cache_scope: CacheScope::default() }
    }
}

impl Binding {
    /// A binding to the target of its own name, without which a deploy is refused.
    pub fn new(kind: BindingKind) -> Self {
        Self { kind, target: None, optional: false }
    }
}

impl Probe {
    /// A call without arguments.
    pub fn new(tool: impl Into<String>) -> Self {
        Self { tool: tool.into(), arguments: Map::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    fn assert_is<T: DeserializeOwned + PartialEq + Debug>(made: &T, written: Value) {
        assert_eq!(*made, serde_json::from_value(written).unwrap());
    }

    #[test]
    fn what_is_not_given_is_what_json_leaves_out() {
        assert_is(&ServerDefinition::new("a", "b"), json!({ "name": "a", "description": "b" }));
        let tool = json!({ "name": "a", "description": "b", "implementation": "c" });
        assert_is(&ToolDefinition::new("a", "b", "c"), tool);
        assert_is(&ToolExample::new(Map::new(), 1), json!({ "expected": 1 }));
        let resource = json!({ "uri": "a:b", "name": "n", "implementation": "c" });
        assert_is(&ResourceDefinition::new("a:b", "n", "c"), resource);
        let resources = json!({ "uriTemplate": "a:{b}", "name": "n", "implementation": "c" });
        assert_is(&ResourceDefinition::new_template("a:{b}", "n", "c"), resources);
        let prompt = json!({ "name": "a", "description": "b", "template": "c" });
        assert_is(&PromptDefinition::from_template("a", "b", "c"), prompt);
        let prompt = json!({ "name": "a", "description": "b", "implementation": "c" });
        assert_is(&PromptDefinition::from_implementation("a", "b", "c"), prompt);
        assert_is(&PromptArgument::new("a"), json!({ "name": "a" }));
        assert_is(&CacheHint::new(1), json!({ "ttlMs": 1 }));
        assert_is(&Binding::new(BindingKind::Kv), json!({ "type": "kv" }));
        assert_is(&Probe::new("a"), json!({ "tool": "a" }));
    }
}
