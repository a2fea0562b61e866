//! From a definition as written to one that is known to be good: [`validate()`].
//!
//! *Invariant:* pure. No I/O, clock, environment or randomness; every problem is reported at once.

mod cache;
mod completion;
mod egress;
mod environment;
mod errors;
mod imports;
mod javascript;
mod limits;
mod options;
mod orchestrator;
mod problems;
mod prompt;
mod resource;
mod routing;
mod schema;
mod shape;
mod task_manager;
mod text;
mod tool;
mod valid;

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

pub(crate) use egress::rule as egress_rule;
pub use errors::{Problem, ValidationErrors};
pub(crate) use problems::nearest;
#[cfg(feature = "server")]
pub(crate) use shape::check_shape;
pub use shape::{definition_schema, validate_json};
pub use valid::{
    EffectiveLimits, EgressRule, ResourceAddress, ValidDefinition, ValidPrompt, ValidPromptSource, ValidResource,
    ValidTool,
};

use crate::canonical::canonical_json;
use crate::definition::ServerDefinition;
use crate::name::TemplateKind;
use crate::source_tree::Digest;
use environment::Distinct;
#[cfg(feature = "bundle")]
pub(crate) use imports::package_of;
use javascript::BodyChecker;
use problems::{Path, Problems, quote};

/// Most tools, resources or prompts of one server, each.
const ITEMS: usize = 2000;
/// Largest definition as compact JSON.
const DEFINITION_BYTES: usize = 8 * 1024 * 1024;

/// Checks a definition and applies every default.
///
/// All problems come at once, each with its JSON pointer, what is wrong and what would be right. It is pure, so
/// the same definition always gives the same answer.
///
/// ```
/// use metamcp_core::{ServerDefinition, validate};
///
/// let definition: ServerDefinition = serde_json::from_value(serde_json::json!({
///     "name": "Greeter",
///     "description": "Says hello",
///     "tools": [{ "name": "greet", "description": "Greets", "implementation": "return 'hello" }]
/// }))?;
/// let errors = validate(&definition).unwrap_err();
/// assert_eq!(errors.problems()[0].pointer, "/name");
/// assert_eq!(errors.problems()[1].pointer, "/tools/0/implementation");
/// assert_eq!(errors.problems()[1].line, Some(1));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn validate(definition: &ServerDefinition) -> Result<ValidDefinition, ValidationErrors> {
    let canonical = canonical_json(definition);
    if canonical.len() > DEFINITION_BYTES {
        // Nothing else is looked at: the bound is there to bound the work.
        let message = format!("is {} bytes of JSON; at most {DEFINITION_BYTES} are allowed", canonical.len());
        return Problems::only(&Path::root(), message);
    }
    let digest = Digest::of(canonical);
    on_own_stack(definition, || {
        let mut problems = Problems::default();
        let checked = check(definition, digest, &mut problems);
        problems.finish(checked)
    })
}

/// Runs `check` with a stack that is deep enough for the bodies: the parser recurses, and a hostile body that
/// nests deeply would take the whole process down.
fn on_own_stack<T: Send>(
    definition: &ServerDefinition,
    check: impl FnOnce() -> Result<T, ValidationErrors> + Send,
) -> Result<T, ValidationErrors> {
    let stack_bytes = bodies(definition).map(javascript::stack_bytes).max().unwrap_or(javascript::STACK_BYTES);
    let builder = thread::Builder::new().name("metamcp-validate".to_owned()).stack_size(stack_bytes);
    thread::scope(|scope| match builder.spawn_scoped(scope, check).map(ScopedJoinHandle::join) {
        Ok(Ok(checked)) => checked,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(error) => Problems::only(
            &Path::root(),
            format!("cannot be checked, since no thread with a stack of {stack_bytes} bytes could start: {error}"),
        ),
    })
}

/// Every function body of a definition.
fn bodies(definition: &ServerDefinition) -> impl Iterator<Item = &str> {
    let tools = definition.tools.iter().map(|tool| tool.implementation.as_str());
    let resources = definition.resources.iter().map(|resource| resource.implementation.as_str());
    tools.chain(resources).chain(definition.prompts.iter().filter_map(|prompt| prompt.implementation.as_deref()))
}

/// Every field in the order of the definition, so that the problems come in that order too.
fn check(definition: &ServerDefinition, digest: Digest, problems: &mut Problems) -> Option<ValidDefinition> {
    let root = Path::root();
    let name = problems.parse(&root.key("name"), &definition.name);
    text::required_description(&root.key("description"), &definition.description, problems);
    check_version(&root.key("version"), &definition.version, problems);
    let template = problems.parse::<TemplateKind>(&root.key("template"), &definition.template);
    let options = template.map(|template| options::check(&root.key("options"), template, definition, problems));
    let mut limit_problems = Problems::default();
    let limits = limits::server(&root.key("limits"), &definition.limits, &mut limit_problems);
    let mut bodies = BodyChecker::new(&definition.dependencies);
    let tools = tools(definition, template, limits, &mut bodies, problems);
    let resources = resources(definition, limits, &mut bodies, problems);
    let prompts = prompts(definition, limits, &mut bodies, problems);
    environment::dependencies(&definition.dependencies, problems);
    let environment = environment::check(definition, problems);
    let egress = definition.egress.as_ref().map(|rules| egress::rules(&root.key("egress"), rules, problems));
    cache::check(&root.key("cache"), definition.cache.as_ref(), problems);
    environment::auth(&definition.auth, &definition.secrets, problems);
    problems.append(limit_problems);
    if let Some(probe) = &definition.probe {
        tool::check_probe(probe, &definition.tools, &tools, problems);
    }
    Some(ValidDefinition {
        written: definition.clone(),
        digest,
        name: name?,
        template: template?,
        options: options?,
        tools,
        resources,
        prompts,
        secrets: environment.secrets,
        vars: environment.vars,
        bindings: environment.bindings,
        egress,
        limits,
    })
}

fn tools(
    definition: &ServerDefinition,
    template: Option<TemplateKind>,
    limits: EffectiveLimits,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Vec<ValidTool> {
    let path = Path::root().key("tools");
    let mut names = Distinct::new("tool name");
    let items = bounded(&path, &definition.tools, problems).iter().enumerate().filter_map(|(index, tool)| {
        let path = path.index(index);
        names.check(&path.key("name"), tool.name.to_ascii_lowercase(), &tool.name, problems);
        if let Some(template) = template {
            options::check_tool_name(&path.key("name"), template, &tool.name, problems);
        }
        tool::check(&path, tool, limits, bodies, problems)
    });
    items.collect()
}

fn resources(
    definition: &ServerDefinition,
    limits: EffectiveLimits,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Vec<ValidResource> {
    let path = Path::root().key("resources");
    let mut taken = resource::Taken::default();
    let items = bounded(&path, &definition.resources, problems).iter().enumerate().filter_map(|(index, resource)| {
        resource::check(&path.index(index), resource, limits, &mut taken, bodies, problems)
    });
    items.collect()
}

fn prompts(
    definition: &ServerDefinition,
    limits: EffectiveLimits,
    bodies: &mut BodyChecker<'_>,
    problems: &mut Problems,
) -> Vec<ValidPrompt> {
    let path = Path::root().key("prompts");
    let mut names = Distinct::new("prompt name");
    let items = bounded(&path, &definition.prompts, problems).iter().enumerate().filter_map(|(index, prompt)| {
        let path = path.index(index);
        names.check(&path.key("name"), prompt.name.to_ascii_lowercase(), &prompt.name, problems);
        prompt::check(&path, prompt, limits, bodies, problems)
    });
    items.collect()
}

/// The items that are looked at: all of them, or none if there are too many.
fn bounded<'a, T>(path: &Path, items: &'a [T], problems: &mut Problems) -> &'a [T] {
    if items.len() <= ITEMS {
        return items;
    }
    problems.add(path, format!("has {} entries; at most {ITEMS} are allowed", items.len()));
    &[]
}

fn check_version(path: &Path, version: &str, problems: &mut Problems) {
    if let Err(error) = semver::Version::parse(version) {
        let message = format!("{} is no semantic version ({error}); for example \"1.0.0\"", quote(version));
        problems.add(path, message);
    } else if version.len() > 64 {
        problems.add(path, "is longer than 64 characters");
    }
}
