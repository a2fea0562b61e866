use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::artifact::{Artifact, Module, ModuleKind};
use crate::builder::Builder;
use crate::settings::WorkerSettings;
use crate::source_tree::SourceTree;
use crate::{Error, ErrorKind, Result};

/// A [`Builder`] without a toolchain: the `.js` and `.json` files below `src/` become the modules as they are.
///
/// What it makes of a generated project does not run (its `index.ts` is left out); it is for testing what comes
/// before and after a build.
#[derive(Debug, Default)]
pub struct MemoryBuilder;

impl MemoryBuilder {
    /// The builder.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Builder for MemoryBuilder {
    async fn build(&self, source: &SourceTree, settings: &WorkerSettings) -> Result<Artifact> {
        if let Some(package) = settings.dependencies.keys().next() {
            let message = format!("npm package {package:?} cannot be installed: this builder has no container");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("remove \"dependencies\", or open with a container builder"));
        }
        let modules: BTreeMap<String, Module> = source
            .iter()
            .filter_map(|(path, content)| {
                let name = path.strip_prefix("src/")?;
                let kind = match name.rsplit_once('.')?.1 {
                    "js" => ModuleKind::EsModule,
                    "json" => ModuleKind::Json,
                    _ => return None,
                };
                Some((name.to_owned(), Module { kind, content: content.clone() }))
            })
            .collect();
        let main_module = main_module(&modules)
            .ok_or_else(|| Error::new(ErrorKind::BuildFailed, "the project has no JavaScript module below src/"))?;
        Ok(Artifact { modules, main_module, settings: settings.clone() })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(concat!("memory-", env!("CARGO_PKG_VERSION")).to_owned())
    }
}

/// `index.js`, or the first script where there is none.
fn main_module(modules: &BTreeMap<String, Module>) -> Option<String> {
    let scripts = || modules.iter().filter(|(_, module)| module.kind == ModuleKind::EsModule).map(|(name, _)| name);
    scripts().find(|name| *name == "index.js").or_else(|| scripts().next()).cloned()
}
