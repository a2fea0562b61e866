//! What bodies see as `env`, who may call, and npm packages.

use std::collections::{BTreeMap, BTreeSet};

use semver::VersionReq;
use serde_json::Value;

use super::problems::{Path, Problems, did_you_mean, quote};
use super::schema::is_deeper_than;
use super::text;
use crate::definition::{Auth, Binding, ServerDefinition};
use crate::name::EnvName;

/// Most names in `env`: what one Cloudflare Worker may have.
const NAMES: usize = 128;
/// Largest variable as JSON: what Cloudflare keeps of one.
const VARIABLE_BYTES: usize = 5 * 1024;
const VARIABLE_DEPTH: usize = 48;
const DEPENDENCIES: usize = 128;

/// The names and values of `env`.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) vars: BTreeMap<EnvName, Value>,
    pub(super) secrets: Vec<EnvName>,
    pub(super) bindings: BTreeMap<EnvName, Binding>,
}

/// Checks `vars`, `secrets` and `bindings`, whose names share one space.
pub(super) fn check(definition: &ServerDefinition, problems: &mut Problems) -> Environment {
    let root = Path::root();
    let count = definition.vars.len() + definition.secrets.len() + definition.bindings.len();
    if count > NAMES {
        let message =
            format!("`vars`, `secrets` and `bindings` are {count} names together; at most {NAMES} are allowed");
        problems.add(&root, message);
        return Environment::default();
    }
    let mut names = Names::default();
    let mut environment = Environment::default();
    for (name, value) in &definition.vars {
        let path = root.key("vars").key(name);
        variable(&path, value, problems);
        environment.vars.extend(names.take(&path, name, problems).map(|name| (name, value.clone())));
    }
    for (index, name) in definition.secrets.iter().enumerate() {
        environment.secrets.extend(names.take(&root.key("secrets").index(index), name, problems));
    }
    for (name, binding) in &definition.bindings {
        let path = root.key("bindings").key(name);
        if let Some(target) = &binding.target {
            text::title(&path.key("target"), target, problems);
        }
        environment.bindings.extend(names.take(&path, name, problems).map(|name| (name, binding.clone())));
    }
    environment
}

/// Names of `env` that are taken, with the place that took them.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn take(&mut self, path: &Path, name: &str, problems: &mut Problems) -> Option<EnvName> {
        if let Some(first) = self.0.get(name) {
            problems.add(path, format!("{} is taken by {first}; names in `env` must differ", quote(name)));
            return None;
        }
        self.0.insert(name.to_owned(), path.as_str().to_owned());
        problems.parse(path, name)
    }
}

fn variable(path: &Path, value: &Value, problems: &mut Problems) {
    if is_deeper_than(value, VARIABLE_DEPTH) {
        return problems.add(path, format!("nests deeper than {VARIABLE_DEPTH} levels"));
    }
    let bytes = value.to_string().len();
    if bytes > VARIABLE_BYTES {
        let message =
            format!("is {bytes} bytes of JSON; at most {VARIABLE_BYTES} are allowed, and a resource or KV holds more");
        problems.add(path, message);
    }
}

/// The secret behind `auth` has to be declared.
pub(super) fn auth(auth: &Auth, secrets: &[String], problems: &mut Problems) {
    if let Auth::Bearer { secret } = auth
        && !secrets.contains(secret)
    {
        let near = did_you_mean(secret, secrets.iter().map(String::as_str));
        let message = format!("secret {} is not declared{near}; add it to `secrets`", quote(secret));
        problems.add(&Path::root().key("auth").key("bearer").key("secret"), message);
    }
}

/// npm packages by name, with a version or range from the npm registry.
pub(super) fn dependencies(written: &BTreeMap<String, String>, problems: &mut Problems) {
    let path = Path::root().key("dependencies");
    if written.len() > DEPENDENCIES {
        return problems.add(&path, format!("has {} packages; at most {DEPENDENCIES} are allowed", written.len()));
    }
    for (name, version) in written {
        let path = path.key(name);
        if !is_package_name(name) {
            problems
                .add(&path, format!("{} is no npm package name; for example \"zod\" or \"@scope/name\"", quote(name)));
        }
        if !is_version_range(version) {
            let hint = "write a version such as \"4.1.0\" or a range such as \"^4.1.0\", without URL, path or tag";
            problems.add(&path, format!("{} is no version; {hint}", quote(version)));
        }
    }
}

fn is_package_name(name: &str) -> bool {
    let part = |part: &str| {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        !part.is_empty() && !part.starts_with(['.', '_', '-']) && part.bytes().all(allowed)
    };
    let known = match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| part(scope) && part(name)),
        None => part(name),
    };
    known && name.len() <= 214 && !matches!(name, "node_modules" | "favicon.ico")
}

/// npm's ranges in terms of Cargo's, which differ in how comparators are joined.
fn is_version_range(range: &str) -> bool {
    range.len() <= 256 && range.split("||").all(|alternative| is_simple_range(alternative.trim()))
}

fn is_simple_range(range: &str) -> bool {
    if let Some((low, high)) = range.split_once(" - ") {
        return is_plain_version(low.trim()) && is_plain_version(high.trim());
    }
    // An operator may stand apart from its version.
    let joined = ["<=", ">=", "<", ">", "=", "~", "^"].iter().fold(range.to_owned(), |text, operator| {
        let apart = format!("{operator} ");
        if text.contains(&apart) { text.replace(&apart, operator) } else { text }
    });
    let comparators: Vec<_> = joined.split_whitespace().collect();
    !comparators.is_empty() && !range.contains(',') && VersionReq::parse(&comparators.join(", ")).is_ok()
}

fn is_plain_version(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit()) && VersionReq::parse(version).is_ok()
}

/// Names that differ from one another, ignoring case if wanted.
pub(super) struct Distinct {
    seen: BTreeSet<String>,
    what: &'static str,
}

impl Distinct {
    pub(super) fn new(what: &'static str) -> Self {
        Self { seen: BTreeSet::new(), what }
    }

    /// Notes a problem at `path` if `key`, the comparable form of `shown`, was there before.
    pub(super) fn check(&mut self, path: &Path, key: String, shown: &str, problems: &mut Problems) {
        if !self.seen.insert(key) {
            problems.add(path, format!("{} {} is taken by an earlier one; choose another", self.what, quote(shown)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npm_versions_and_ranges_are_known() {
        let good = [
            "1.2.3",
            "^1.2.3",
            "~1.2",
            "1",
            "1.x",
            "*",
            ">=1.2.0 <2.0.0",
            ">= 1.2 < 2",
            "^1 || ^2.1",
            "1.2.3 - 2.3",
            "1.0.0-beta.1",
        ];
        for range in good {
            assert!(is_version_range(range), "{range:?}");
        }
        let bad = [
            "",
            "latest",
            "git+https://x/y.git",
            "file:../x",
            "https://x/y.tgz",
            "user/repo",
            "npm:left-pad@1",
            "workspace:*",
            "1.2.3,",
            "^1 ||",
            "x y",
        ];
        for range in bad {
            assert!(!is_version_range(range), "{range:?}");
        }
    }

    #[test]
    fn npm_names_are_known() {
        for name in ["zod", "@scope/name", "left-pad", "lodash.merge"] {
            assert!(is_package_name(name), "{name:?}");
        }
        for name in ["", "Zod", "@scope", "@/x", ".x", "_x", "-rf", "a b", "a/b", "node_modules", "../x", "@a/../b"] {
            assert!(!is_package_name(name), "{name:?}");
        }
    }
}
