//! Values that `completion/complete` offers.

use std::collections::BTreeMap;

use super::problems::{Path, Problems, did_you_mean, quote};
use super::valid::ResourceAddress;
use super::{resource, text};

/// Most values of one argument or variable, and the longest of them.
const COMPLETIONS: usize = 1000;
const COMPLETION_CHARACTERS: usize = 256;

/// The values of one argument or variable.
pub(super) fn values(path: &Path, values: &[String], problems: &mut Problems) {
    if values.len() > COMPLETIONS {
        return problems.add(path, format!("has {} values; at most {COMPLETIONS} are allowed", values.len()));
    }
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if value.chars().count() > COMPLETION_CHARACTERS {
            problems.add(&path, format!("is longer than {COMPLETION_CHARACTERS} characters"));
        }
        text::line(&path, value, problems);
    }
}

/// The values of a resource template, each under one of its variables.
pub(super) fn of_resource(
    path: &Path,
    completion: &BTreeMap<String, Vec<String>>,
    address: Option<&ResourceAddress>,
    problems: &mut Problems,
) {
    let variables = match address {
        Some(ResourceAddress::Template(template)) => resource::variables(template),
        Some(ResourceAddress::Uri(_)) if !completion.is_empty() => {
            return problems
                .add(path, "is for the variables of a `uriTemplate`, and this resource has a `uri`; remove it");
        }
        // What is wrong with the address is noted already.
        Some(ResourceAddress::Uri(_)) | None => return,
    };
    for (name, offered) in completion {
        let path = path.key(name);
        if !variables.contains(&name.as_str()) {
            let near = did_you_mean(name, variables.iter().copied());
            let known = variables.join(", ");
            problems.add(&path, format!("{} is no variable of the template{near}; it has {known}", quote(name)));
        }
        values(&path, offered, problems);
    }
}
