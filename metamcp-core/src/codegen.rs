//! [`generate`]: from a checked definition to a project that a person can take away and run.
//!
//! *Invariant:* pure. The same definition gives the same bytes. Text from users enters JavaScript only as JSON
//! literals; bodies enter as they are, after validation parsed them.

mod context;
mod project;
mod template;

use crate::validate::{ValidDefinition, validate};
use crate::{Error, ErrorKind, Result, ServerDefinition, ServerName, SourceTree, TemplateKind};

/// Where the generated description of the server stands in the tree.
pub(crate) const DEFINITION_PATH: &str = "src/definition.json";
/// Where the generated imports of the bodies stand in the tree.
pub(crate) const BODIES_PATH: &str = "src/bodies.js";
/// The folder of the bodies' modules in the tree.
pub(crate) const BODIES_FOLDER: &str = "src/bodies/";
/// The entry point in the tree.
pub(crate) const ENTRY_PATH: &str = "src/index.ts";

/// Generates the whole project: `npm install && npx wrangler dev` runs it.
///
/// ```
/// # let definition: metamcp_core::ServerDefinition = serde_json::from_value(serde_json::json!({
/// #     "name": "greeter", "description": "Says hello",
/// #     "tools": [{ "name": "greet", "description": "Greets", "implementation": "return 'hello';" }]
/// # }))?;
/// let valid = metamcp_core::validate(&definition)?;
/// let project = metamcp_core::generate(&valid)?;
/// assert!(project.get("src/index.ts").is_some());
/// assert!(project.get("wrangler.jsonc").is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn generate(definition: &ValidDefinition) -> Result<SourceTree> {
    let template = definition.template().embedded();
    let bodies = context::bodies(definition);
    let mut tree = SourceTree::new();
    for file in template.files {
        tree.insert(file.path, file.content.as_bytes())?;
    }
    for file in metamcp_templates::RUNTIME {
        tree.insert(&format!("src/runtime/{}", file.path), file.content.as_bytes())?;
    }
    tree.insert(DEFINITION_PATH, project::pretty(&context::definition(definition)))?;
    tree.insert("package.json", project::pretty(&project::package(definition)))?;
    tree.insert("wrangler.jsonc", project::wrangler(definition))?;

    let render = template::renderer(definition.template());
    tree.insert("README.md", render.readme(&context::readme(definition))?)?;
    tree.insert(BODIES_PATH, render.bodies(&context::imports(&bodies))?)?;
    for body in &bodies {
        tree.insert(&format!("{BODIES_FOLDER}{}.js", body.module), render.body(body)?)?;
    }
    Ok(tree)
}

/// Generates the project of a server that has nothing of its own yet: what an environment begins with.
pub fn generate_empty(server: &ServerName, template: TemplateKind) -> Result<SourceTree> {
    let definition = serde_json::json!({
        "name": server, "description": format!("The server {server}."), "template": template
    });
    let definition: ServerDefinition = serde_json::from_value(definition)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "an empty definition is not read").with_source(error))?;
    generate(&validate(&definition)?)
}
