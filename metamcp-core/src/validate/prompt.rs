//! Prompts: a template with placeholders, or a body.

use std::collections::BTreeSet;

use super::javascript::{BodyChecker, Signature};
use super::problems::{Path, Problems, did_you_mean, quote};
use super::valid::{EffectiveLimits, ValidPrompt, ValidPromptSource};
use super::{completion, limits, text};
use crate::definition::{PromptArgument, PromptDefinition};

const TEMPLATE_BYTES: usize = 256 * 1024;
const ARGUMENTS: usize = 64;

/// Checks one prompt; its name is checked with the others.
pub(super) fn check(
    path: &Path,
    prompt: &PromptDefinition,
    inherited: EffectiveLimits,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Option<ValidPrompt> {
    let name = problems.parse(&path.key("name"), &prompt.name);
    if let Some(title) = &prompt.title {
        text::title(&path.key("title"), title, problems);
    }
    text::required_description(&path.key("description"), &prompt.description, problems);
    let source = source(path, prompt, bodies, problems);
    arguments(&path.key("arguments"), &prompt.arguments, problems);
    let limits = limits::item(&path.key("limits"), &prompt.limits, inherited, problems);
    Some(ValidPrompt {
        name: name?,
        title: prompt.title.clone(),
        description: prompt.description.clone(),
        arguments: prompt.arguments.clone(),
        limits,
        source: source?,
    })
}

fn source(
    path: &Path,
    prompt: &PromptDefinition,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Option<ValidPromptSource> {
    match (&prompt.template, &prompt.implementation) {
        (Some(template), None) => {
            check_template(&path.key("template"), template, &prompt.arguments, problems);
            Some(ValidPromptSource::Template(template.clone()))
        }
        (None, Some(body)) => {
            bodies.check(&path.key("implementation"), body, Signature::Parameters, problems);
            Some(ValidPromptSource::Implementation(body.clone()))
        }
        (Some(_), Some(_)) => {
            problems.add(path, "has both `template` and `implementation`; keep one");
            None
        }
        (None, None) => {
            problems.add(path, "has no text; give it a `template` or an `implementation`");
            None
        }
    }
}

fn check_template(path: &Path, template: &str, arguments: &[PromptArgument], problems: &mut Problems) {
    if template.trim().is_empty() {
        return problems.add(path, "is empty; write the prompt's text");
    }
    if template.len() > TEMPLATE_BYTES {
        return problems.add(path, format!("is {} bytes long; at most {TEMPLATE_BYTES} are allowed", template.len()));
    }
    text::hidden(path, template, problems);
    let mut reported = BTreeSet::new();
    for placeholder in placeholders(template) {
        let message = match placeholder {
            Err(malformed) => format!(
                "{} is no placeholder; write {{{{name}}}}, and use an `implementation` for text with `{{{{` in it",
                quote(malformed)
            ),
            Ok(name) if arguments.iter().any(|argument| argument.name == name) => continue,
            Ok(name) => {
                let near = did_you_mean(name, arguments.iter().map(|argument| argument.name.as_str()));
                format!("{{{{{name}}}}} names no argument{near}; declare it in `arguments`")
            }
        };
        if reported.insert(message.clone()) {
            problems.add(path, message);
        }
    }
}

/// The placeholders of a template in order, a malformed one by the text it begins with. A name holds no brace,
/// so that no two of them overlap.
fn placeholders(template: &str) -> impl Iterator<Item = Result<&str, &str>> {
    template.match_indices("{{").map(move |(at, _)| {
        let tail = &template[at..];
        let name = tail[2..].split_once("}}").map(|(name, _)| name.trim_matches(' '));
        name.filter(|name| is_argument_name(name)).ok_or_else(|| {
            let end = tail.char_indices().nth(30).map_or(tail.len(), |(end, _)| end);
            &tail[..end]
        })
    })
}

fn arguments(path: &Path, arguments: &[PromptArgument], problems: &mut Problems) {
    if arguments.len() > ARGUMENTS {
        return problems.add(path, format!("has {} entries; at most {ARGUMENTS} are allowed", arguments.len()));
    }
    let mut seen = BTreeSet::new();
    for (index, argument) in arguments.iter().enumerate() {
        let path = path.index(index);
        if !is_argument_name(&argument.name) {
            let message = format!(
                "argument name {} is not allowed; use a letter or `_`, then letters, digits and `_`",
                quote(&argument.name)
            );
            problems.add(&path.key("name"), message);
        } else if !seen.insert(argument.name.as_str()) {
            problems.add(&path.key("name"), format!("argument {:?} stands here a second time", argument.name));
        }
        text::description(&path.key("description"), &argument.description, problems);
        completion::values(&path.key("completion"), &argument.completion, problems);
    }
}

/// Letters, digits and `_`, at most 64, no digit first, and nothing that every JavaScript object has.
fn is_argument_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty()
        && name.len() <= 64
        && name.chars().all(allowed)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !super::schema::is_on_every_object(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_read_from_left_to_right() {
        let read = |template| placeholders(template).collect::<Vec<_>>();
        assert_eq!(read("a {{x}} and {{ y }}"), [Ok("x"), Ok("y")]);
        assert_eq!(read("{x} }} $& {"), []);
        assert_eq!(read("{{x"), [Err("{{x")]);
        assert_eq!(read("{{}}"), [Err("{{}}")]);
        assert_eq!(read("{{a b}} {{c}}"), [Err("{{a b}} {{c}}"), Ok("c")]);
        assert_eq!(read("{{{x}}}"), [Err("{{{x}}}")]);
        assert_eq!(read("{{\nx}}"), [Err("{{\nx}}")]);
    }
}
