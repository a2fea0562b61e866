//! `$ref`: local, resolved, and never in a circle that consumes no input.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problems::{Path, Problems, did_you_mean, quote};
use super::walk::Outline;

/// Checks every reference of an outlined schema at `path`.
pub(super) fn check(path: &Path, outline: &Outline, problems: &mut Problems) {
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in &outline.in_place {
        edges.entry(from).or_default().push(to);
    }
    for (from, text) in &outline.references {
        match resolve(outline, text) {
            Ok(target) => edges.entry(from).or_default().push(target),
            Err(message) => problems.add(&place(path, from), message),
        }
    }
    for (from, _) in &outline.references {
        if reaches_itself(&edges, from) {
            problems.add(
                &place(path, from),
                "refers back to itself without going into a property or item; break the circle",
            );
        }
    }
}

/// The pointer of the `$ref` in the schema at the local pointer `from`.
fn place(path: &Path, from: &str) -> Path {
    path.join(from).key("$ref")
}

/// The schema that a reference names, by local pointer.
fn resolve<'a>(outline: &'a Outline, text: &str) -> Result<&'a str, String> {
    let Some(fragment) = text.strip_prefix('#') else {
        return Err(format!(
            "{} is not within this schema; copy the definition to `$defs` and write \"#/$defs/NAME\"",
            quote(text)
        ));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '~' | '$');
    if !fragment.chars().all(plain) {
        return Err(format!(
            "{} names a definition with special characters; use letters, digits, `_`, `-` and `.`",
            quote(text)
        ));
    }
    let found = if fragment.is_empty() || fragment.starts_with('/') {
        outline.schemas.get(fragment).map(String::as_str)
    } else {
        outline.anchors.get(fragment).map(String::as_str)
    };
    found.ok_or_else(|| {
        let pointers = outline.schemas.iter().filter(|pointer| pointer.contains("/$defs/"));
        let near =
            did_you_mean(fragment, pointers.map(String::as_str).chain(outline.anchors.keys().map(String::as_str)));
        let near = near.replacen('"', "\"#", 1);
        format!("{} names no schema of this document{near}", quote(text))
    })
}

/// Whether a walk along schemas for the same value comes back to where it began.
fn reaches_itself(edges: &BTreeMap<&str, Vec<&str>>, start: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut ahead: Vec<&str> = edges.get(start).cloned().unwrap_or_default();
    while let Some(schema) = ahead.pop() {
        if schema == start {
            return true;
        }
        if seen.insert(schema) {
            ahead.extend(edges.get(schema).into_iter().flatten());
        }
    }
    false
}
