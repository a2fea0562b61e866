//! Resources and resource templates.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::environment::Distinct;
use super::javascript::{BodyChecker, Signature};
use super::problems::{Path, Problems, did_you_mean, quote};
use super::valid::{EffectiveLimits, ResourceAddress, ValidResource};
use super::{cache, completion, limits, text};
use crate::definition::ResourceDefinition;

/// Longest URI or URI template.
const URI_BYTES: usize = 2048;
const DEFAULT_MIME_TYPE: &str = "text/plain";

/// What resources of one server may not share.
pub(super) struct Taken {
    names: Distinct,
    addresses: Distinct,
}

impl Default for Taken {
    fn default() -> Self {
        Self { names: Distinct::new("resource name"), addresses: Distinct::new("resource address") }
    }
}

/// Checks one resource.
pub(super) fn check(
    path: &Path,
    resource: &ResourceDefinition,
    inherited: EffectiveLimits,
    taken: &mut Taken,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Option<ValidResource> {
    let address = address(path, resource, taken, problems);
    text::title(&path.key("name"), &resource.name, problems);
    taken.names.check(&path.key("name"), resource.name.clone(), &resource.name, problems);
    if let Some(title) = &resource.title {
        text::title(&path.key("title"), title, problems);
    }
    text::description(&path.key("description"), &resource.description, problems);
    let mime_type = resource.mime_type.clone().unwrap_or_else(|| DEFAULT_MIME_TYPE.to_owned());
    if !is_mime_type(&mime_type) {
        let message = format!("{} is no MIME type; for example \"application/json\"", quote(&mime_type));
        problems.add(&path.key("mimeType"), message);
    }
    if let Some(annotations) = &resource.annotations {
        check_annotations(&path.key("annotations"), annotations, problems);
    }
    completion::of_resource(&path.key("completion"), &resource.completion, address.as_ref(), problems);
    cache::check(&path.key("cache"), resource.cache.as_ref(), problems);
    let limits = limits::item(&path.key("limits"), &resource.limits, inherited, problems);
    bodies.check(&path.key("implementation"), &resource.implementation, Signature::Resource, problems);
    Some(ValidResource {
        address: address?,
        name: resource.name.clone(),
        title: resource.title.clone(),
        description: resource.description.clone(),
        mime_type,
        annotations: resource.annotations.clone(),
        completion: resource.completion.clone(),
        cache: resource.cache,
        limits,
        implementation: resource.implementation.clone(),
    })
}

fn address(
    path: &Path,
    resource: &ResourceDefinition,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<ResourceAddress> {
    let (field, written, checked) = match (&resource.uri, &resource.uri_template) {
        (Some(uri), None) => ("uri", uri, check_uri(uri)),
        (None, Some(template)) => ("uriTemplate", template, check_template(template)),
        (Some(_), Some(_)) => {
            problems.add(path, "has both `uri` and `uriTemplate`; keep one");
            return None;
        }
        (None, None) => {
            problems.add(path, "has no address; give it a `uri`, or a `uriTemplate` such as \"notes://{id}\"");
            return None;
        }
    };
    let path = path.key(field);
    taken.addresses.check(&path, written.clone(), written, problems);
    match checked {
        Err(message) => {
            problems.add(&path, message);
            None
        }
        Ok(()) if field == "uri" => Some(ResourceAddress::Uri(written.clone())),
        Ok(()) => Some(ResourceAddress::Template(written.clone())),
    }
}

/// An absolute URI in the form that clients send: `new URL(uri).href`.
fn check_uri(uri: &str) -> Result<(), String> {
    if uri.len() > URI_BYTES {
        return Err(format!("is longer than {URI_BYTES} bytes"));
    }
    if uri.contains(['{', '}']) {
        return Err(format!("{} has braces; a URI with variables is a `uriTemplate`", quote(uri)));
    }
    match Url::parse(uri) {
        Ok(url) if url.as_str() == uri => Ok(()),
        Ok(url) => Err(format!("{} is not in normal form; write {}", quote(uri), quote(url.as_str()))),
        Err(error) => Err(format!("{} is no absolute URI ({error}); for example \"docs://readme\"", quote(uri))),
    }
}

/// An RFC 6570 template that can be matched against a URI, not only expanded.
fn check_template(template: &str) -> Result<(), String> {
    if template.len() > URI_BYTES {
        return Err(format!("is longer than {URI_BYTES} bytes"));
    }
    let mut names = BTreeSet::new();
    let mut sample = String::new();
    let mut rest = template;
    while let Some((literal, tail)) = rest.split_once('{') {
        let Some((expression, tail)) = tail.split_once('}') else {
            return Err(format!("{} has a `{{` without its `}}`", quote(template)));
        };
        check_expression(expression, &mut names)?;
        sample.extend([literal, "x"]);
        rest = tail;
    }
    sample.push_str(rest);
    if names.is_empty() {
        return Err(format!("{} has no variable; an address without one is a `uri`", quote(template)));
    }
    let stray = |c: char| !c.is_ascii_graphic() || matches!(c, '}' | '"' | '<' | '>' | '\\' | '^' | '`' | '|');
    if let Some(stray) = sample.chars().find(|&c| stray(c)) {
        return Err(format!("{} holds {stray:?}, which a URI template may not; percent-encode it", quote(template)));
    }
    // The scheme has to be written out, since a template that could be any URI hides the others.
    let scheme = template.split(['{', '/']).next().unwrap_or_default();
    if !scheme.contains(':') || Url::parse(&sample).is_err() {
        return Err(format!("{} begins with no scheme; for example \"notes://{{id}}\"", quote(template)));
    }
    Ok(())
}

/// The variables of a template that was found good, in its order.
pub(super) fn variables(template: &str) -> Vec<&str> {
    let expressions = template.split('{').skip(1).filter_map(|part| part.split_once('}'));
    expressions.flat_map(|(expression, _)| variables_of(expression)).map(|(_, name)| name).collect()
}

/// The variables of an expression, each as it is written and by its name.
fn variables_of(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    let list = expression.strip_prefix(['+', '#', '.', '/', '?', '&']).unwrap_or(expression);
    list.split(',').map(|variable| (variable, variable.strip_suffix('*').unwrap_or(variable)))
}

fn check_expression(expression: &str, names: &mut BTreeSet<String>) -> Result<(), String> {
    if let Some(operator) = expression.chars().next().filter(|c| ";=,!@|$".contains(*c)) {
        return Err(format!(
            "`{{{operator}…}}` cannot be matched against a URI; use `{{name}}`, `{{/name}}` or `{{?name}}`"
        ));
    }
    for (variable, name) in variables_of(expression) {
        if name.contains(':') {
            return Err(format!("{} cuts its value, so a URI cannot be matched; use `{{name}}`", quote(variable)));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) || name == "__proto__" {
            return Err(format!("{} is no variable name; use letters, digits and `_`", quote(variable)));
        }
        if !names.insert(name.to_owned()) {
            return Err(format!("variable {} stands here twice", quote(name)));
        }
    }
    Ok(())
}

fn is_mime_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default();
    let (kind, subtype) = essence.trim_end().split_once('/').unwrap_or_default();
    text.len() <= 255 && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && token(kind) && token(subtype)
}

fn check_annotations(path: &Path, annotations: &Map<String, Value>, problems: &mut Problems) {
    const KNOWN: [&str; 3] = ["audience", "priority", "lastModified"];
    for (name, value) in annotations {
        let path = path.key(name);
        let good = match name.as_str() {
            "audience" => {
                value.as_array().is_some_and(|list| list.iter().all(|role| role == "user" || role == "assistant"))
            }
            "priority" => value.as_f64().is_some_and(|priority| (0.0..=1.0).contains(&priority)),
            "lastModified" => value.as_str().is_some_and(|time| OffsetDateTime::parse(time, &Rfc3339).is_ok()),
            _ => {
                let near = did_you_mean(name, KNOWN);
                problems.add(
                    &path,
                    format!("{} is no annotation of a resource{near}; known are {}", quote(name), KNOWN.join(", ")),
                );
                continue;
            }
        };
        if !good {
            let wanted = match name.as_str() {
                "audience" => "must be a list of \"user\" and \"assistant\"",
                "priority" => "must be a number from 0 to 1",
                _ => "must be a time such as \"2026-07-28T12:00:00Z\"",
            };
            problems.add(&path, wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_absolute_and_in_normal_form() {
        for uri in ["docs://readme", "https://example.com/", "urn:isbn:1", "file:///a%20b", "memo:x"] {
            assert_eq!(check_uri(uri), Ok(()));
        }
        for uri in [
            "",
            "readme",
            "/x",
            "https://example.com",
            "https://EXAMPLE.com/",
            " docs://x",
            "docs://{id}",
            "file:///a b",
        ] {
            assert!(check_uri(uri).is_err(), "{uri:?}");
        }
    }

    #[test]
    fn templates_are_rfc_6570_and_can_be_matched() {
        for template in [
            "notes://{id}",
            "x:{a}/{b}",
            "https://e.com/{+path}{?q,lang}",
            "f://{/parts*}",
            "test://template/{id}/data",
        ] {
            assert_eq!(check_template(template), Ok(()));
        }
        let refused = [
            "",
            "notes://x",
            "{scheme}://x",
            "notes://{",
            "notes://{}",
            "notes://}",
            "notes://{id",
            "notes://{a b}",
            "notes://{a}{a}",
            "notes://{a:3}",
            "notes://{;a}",
            "notes://{a,}",
            "notes/{id}",
            "no tes://{id}",
            "notes://{{id}}",
            "notes://{id}\n",
        ];
        for template in refused {
            assert!(check_template(template).is_err(), "{template:?}");
        }
    }
}
