//! Durable Object classes and the modules that have to export them.

use std::collections::BTreeMap;

use super::Script;
use crate::answer::Refusal;
use crate::workerd::Code;

/// Refuses a main module that lacks a class whose objects are there already, or one that a migration brings.
pub(super) fn check(script: &Script, classes: &BTreeMap<String, String>, code: &Code) -> Result<(), Refusal> {
    let source = code.modules.get(&code.main_module).map(|module| String::from_utf8_lossy(&module.content));
    let source = source.unwrap_or_default();
    let Some(lacking) = classes.keys().find(|class| !exports(&source, class)) else { return Ok(()) };
    if script.classes.contains_key(lacking) {
        let message = format!(
            "New version of script does not export class '{lacking}' which is depended on by existing Durable Objects. \
             If you want to delete these Durable Objects, you need to perform a delete-class migration."
        );
        return Err(Refusal::new(403, 10_064, message));
    }
    let message = format!("Cannot apply new-class migration to class {lacking} that is not exported by script");
    Err(Refusal::new(400, 10_070, message))
}

/// Whether a module exports a name, in the forms that people and bundlers write.
fn exports(source: &str, name: &str) -> bool {
    let statements = source.split("export").skip(1).map(str::trim_start);
    statements.into_iter().any(|statement| match statement.strip_prefix('{') {
        Some(list) => {
            let list = list.split('}').next().unwrap_or_default();
            list.split(',').any(|item| item.split_whitespace().next_back() == Some(name))
        }
        None => declared(statement) == Some(name),
    })
}

fn declared(statement: &str) -> Option<&str> {
    let rest = ["class ", "const ", "let ", "var "].iter().find_map(|keyword| statement.strip_prefix(keyword))?;
    rest.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_seen_however_it_is_written() {
        for source in [
            "export class Clock extends DurableObject {}",
            "class Clock{}export{a as default,Clock};",
            "export {\n  b as Clock,\n  c as default\n};",
            "export const Clock = class {};",
        ] {
            assert!(exports(source, "Clock"), "{source}");
        }
        for source in ["class Clock {}", "export { Clock as Other };", "export class Clocks {}", ""] {
            assert!(!exports(source, "Clock"), "{source}");
        }
    }
}
