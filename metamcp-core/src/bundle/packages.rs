//! Where bundled npm packages stand in an artifact: beside the bodies, which find them there by the names they import.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::artifact::{Artifact, Module, ModuleKind};
use crate::{Error, ErrorKind, Result};

/// The folder of the bodies' modules in an artifact.
const BODIES: &str = "bodies/";

/// The modules of a bundle of npm packages: files by path, as a container's `bundle.mjs` names them.
///
/// [`ErrorKind::BuildFailed`] for a file that is not such a one, and for an import that the bundle lacks.
pub fn package_modules(
    bundle: BTreeMap<String, Bytes>,
    imports: &BTreeSet<String>,
) -> Result<BTreeMap<String, Module>> {
    let mut modules = BTreeMap::new();
    for (path, content) in bundle {
        // `import("zod")` in `bodies/x.js` finds the module `bodies/zod`.
        let name = match path.strip_prefix(BODIES).and_then(|rest| rest.strip_suffix(".js")) {
            Some(specifier) if imports.contains(specifier) => format!("{BODIES}{specifier}"),
            _ if path.starts_with("packages/") => path,
            _ => {
                let message = format!("the bundle holds {path:?}, which is not ours");
                return Err(Error::new(ErrorKind::BuildFailed, message));
            }
        };
        modules.insert(name, Module { kind: ModuleKind::EsModule, content });
    }
    match imports.iter().find(|specifier| !modules.contains_key(&format!("{BODIES}{specifier}"))) {
        Some(missing) => Err(Error::new(ErrorKind::BuildFailed, format!("the bundle lacks {missing:?}"))),
        None => Ok(modules),
    }
}

/// Adds the modules of packages to a server's own. [`ErrorKind::BuildFailed`] where one has the name of another.
pub fn add_packages(artifact: &mut Artifact, packages: BTreeMap<String, Module>) -> Result<()> {
    for (name, module) in packages {
        if artifact.modules.contains_key(&name) {
            let message = format!("the import of {name:?} has the name of a body's own module");
            return Err(Error::new(ErrorKind::BuildFailed, message));
        }
        artifact.modules.insert(name, module);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(paths: &[&str]) -> BTreeMap<String, Bytes> {
        paths.iter().map(|path| ((*path).to_owned(), Bytes::from("export {};"))).collect()
    }

    #[test]
    fn packages_stand_where_bodies_look_for_them() {
        let imports = BTreeSet::from(["lodash/fp".to_owned()]);
        let modules = package_modules(bundle(&["bodies/lodash/fp.js", "packages/chunk-1.js"]), &imports).unwrap();
        assert_eq!(modules.keys().collect::<Vec<_>>(), ["bodies/lodash/fp", "packages/chunk-1.js"]);
    }

    #[test]
    fn what_was_not_asked_for_and_what_is_missing_are_errors() {
        let imports = BTreeSet::from(["zod".to_owned()]);
        for paths in [["bodies/zod.js", "bodies/other.js"].as_slice(), &["bodies/zod.js", "index.js"], &[]] {
            assert_eq!(package_modules(bundle(paths), &imports).unwrap_err().kind(), ErrorKind::BuildFailed);
        }
    }
}
