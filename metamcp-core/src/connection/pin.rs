//! Digests of what others' tools say of themselves: as long as one is the same, so is what a model is told.

use std::collections::BTreeMap;

use rmcp::model::Tool;
use url::Url;

use super::shown;
use crate::number::as_doubles;
use crate::source_tree::Digest;
use crate::text::is_unprintable;
use crate::{Error, ErrorKind, Result};

/// Each tool's digest. Names that look alike could hide that one of them changed, so they are refused.
pub(super) fn pins(tools: &[Tool], url: &Url) -> Result<BTreeMap<String, Digest>> {
    let mut pins = BTreeMap::new();
    for tool in tools {
        let name = printable(&tool.name);
        if name != tool.name || pins.insert(name.clone(), digest(tool)?).is_some() {
            let message = format!("{} lists {name:?} twice, with hidden characters, or too long", shown(url));
            return Err(Error::new(ErrorKind::Unsupported, message).with_help("its author has to rename that tool"));
        }
    }
    Ok(pins)
}

/// SHA-256 of everything a model may be misled by, in the form of RFC 8785. The template `routing` computes the same of
/// what an upstream lists (`pinOf` in its `pin.ts`).
fn digest(tool: &Tool) -> Result<Digest> {
    let bytes = serde_json::to_value(tool).and_then(|mut said| {
        if let Some(members) = said.as_object_mut() {
            members.retain(|name, _| SAID.contains(&name.as_str()));
        }
        serde_json_canonicalizer::to_vec(&as_doubles(&said))
    });
    let bytes = bytes.map_err(|error| {
        Error::new(ErrorKind::Unsupported, format!("tool {:?} cannot be written down", printable(&tool.name)))
            .with_source(error)
    })?;
    Ok(Digest::of(bytes))
}

/// What a tool says of itself to a model. Icons and `_meta` are for others.
const SAID: [&str; 6] = ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// Names of others are shown to people and models: as they may be shown, and not longer.
fn printable(text: &str) -> String {
    text.chars().map(|character| if is_unprintable(character) { '\u{fffd}' } else { character }).take(128).collect()
}
