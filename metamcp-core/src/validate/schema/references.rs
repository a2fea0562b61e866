//! `$ref` and `$dynamicRef`: local, resolved, and never in a circle that consumes no input.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problems::{Path, Problems, did_you_mean, quote};
use super::walk::{Outline, Reference};

/// Checks every reference of an outlined schema at `path`.
pub(super) fn check(path: &Path, outline: &Outline, problems: &mut Problems) {
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in &outline.in_place {
        edges.entry(from).or_default().push(to);
    }
    for reference in &outline.references {
        match resolve(outline, reference) {
            Ok(targets) => edges.entry(&reference.from).or_default().extend(targets),
            Err(message) => problems.add(&place(path, reference), message),
        }
    }
    for reference in &outline.references {
        if reaches_itself(&edges, &reference.from) {
            problems.add(
                &place(path, reference),
                "refers back to itself without going into a property or item; break the circle",
            );
        }
    }
}

fn place(path: &Path, reference: &Reference) -> Path {
    path.join(&reference.from).key(reference.keyword)
}

/// The schemas that a reference may name, by local pointer: one, and for a `$dynamicRef` all that may come before it.
pub(super) fn resolve<'a>(outline: &'a Outline, reference: &Reference) -> Result<Vec<&'a str>, String> {
    let text = &reference.text;
    let elsewhere = || {
        let hint = "copy the definition to `$defs` and write \"#/$defs/NAME\"";
        format!("{} is not within this schema; {hint}", quote(text))
    };
    let base = outline.schemas.get(&reference.from).ok_or_else(elsewhere)?;
    let mut target = base.join(text).map_err(|_| elsewhere())?;
    target.set_fragment(None);
    let resource = outline.resources.get(&target).ok_or_else(elsewhere)?;
    let fragment = text.split_once('#').map_or("", |(_, fragment)| fragment);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '~' | '$');
    if !fragment.chars().all(plain) {
        return Err(format!(
            "{} names a definition with special characters; use letters, digits, `_`, `-` and `.`",
            quote(text)
        ));
    }
    if fragment.is_empty() || fragment.starts_with('/') {
        let found = outline.schemas.get_key_value(&format!("{resource}{fragment}"));
        return found.map(|(pointer, _)| vec![pointer.as_str()]).ok_or_else(|| unknown(outline, text));
    }
    let anchor = outline.anchors.get(&(target, fragment.to_owned())).ok_or_else(|| unknown(outline, text))?;
    if reference.keyword != "$dynamicRef" || !anchor.dynamic {
        return Ok(vec![&anchor.schema]);
    }
    let same = outline.anchors.iter().filter(|((_, name), anchor)| name == fragment && anchor.dynamic);
    Ok(same.map(|(_, anchor)| anchor.schema.as_str()).collect())
}

fn unknown(outline: &Outline, text: &str) -> String {
    let pointers = outline.schemas.keys().filter(|pointer| pointer.contains("/$defs/"));
    let anchors = outline.anchors.keys().map(|(_, name)| name.as_str());
    let near = did_you_mean(text.trim_start_matches('#'), pointers.map(String::as_str).chain(anchors));
    let near = near.replacen('"', "\"#", 1);
    format!("{} names no schema of this document{near}", quote(text))
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
