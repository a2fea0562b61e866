//! [`Artifact`]: a Worker that is ready to publish.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::canonical_json;
use crate::settings::WorkerSettings;
use crate::source_tree::Digest;
use crate::{Error, ErrorKind, Result};

/// A Worker's modules and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Modules by name; `import "./x.js"` in `a/b.js` finds `a/x.js`.
    pub modules: BTreeMap<String, Module>,
    /// Name of the module with the default export.
    pub main_module: String,
    /// Bindings, limits and compatibility.
    pub settings: WorkerSettings,
}

/// One module of an [`Artifact`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// How the runtime reads it.
    pub kind: ModuleKind,
    /// Its bytes.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub content: Bytes,
}

/// How a runtime reads a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// ECMAScript module.
    EsModule,
    /// JSON, imported as its parsed value.
    Json,
    /// Text, imported as a string.
    Text,
    /// Bytes, imported as an `ArrayBuffer`.
    Data,
    /// WebAssembly module.
    Wasm,
}

impl Artifact {
    /// SHA-256 over modules and settings: equal digests run alike.
    pub fn digest(&self) -> Digest {
        let settings = canonical_json(&self.settings);
        let mut parts = vec![settings.as_bytes(), self.main_module.as_bytes()];
        for (name, module) in &self.modules {
            parts.extend([name.as_bytes(), module.kind.as_str().as_bytes(), module.content.as_ref()]);
        }
        Digest::of_parts(parts)
    }

    /// The artifact as bytes, for a cache.
    pub fn to_bytes(&self) -> Bytes {
        canonical_json(self).into_bytes().into()
    }

    /// Reads back [`Artifact::to_bytes`]; [`ErrorKind::Unexpected`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(ErrorKind::Unexpected, "these bytes are no artifact").with_source(error))
    }
}

impl ModuleKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::EsModule => "es_module",
            Self::Json => "json",
            Self::Text => "text",
            Self::Data => "data",
            Self::Wasm => "wasm",
        }
    }
}

fn to_base64<S: Serializer>(content: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(content))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}
