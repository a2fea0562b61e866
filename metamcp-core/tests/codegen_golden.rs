//! Each template's folder holds the project that its `sample.json` renders to. Where it differs, the generator or
//! the template changed: run with `METAMCP_REWRITE_GOLDEN=1` and read the difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use metamcp_core::{ServerDefinition, TemplateKind, generate, validate};

fn folder(kind: TemplateKind) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates").join(kind.as_str())
}

#[test]
fn every_sample_renders_to_the_committed_project() {
    let rewrite = std::env::var_os("METAMCP_REWRITE_GOLDEN").is_some();
    for kind in TemplateKind::ALL {
        let folder = folder(*kind);
        let sample = fs::read_to_string(folder.join("sample.json")).unwrap();
        let definition: ServerDefinition = serde_json::from_str(&sample).unwrap();
        let tree = generate(&validate(&definition).unwrap()).unwrap();
        let mut bodies = BTreeSet::new();
        for (path, content) in tree.iter() {
            bodies.extend(path.strip_prefix("src/bodies/").map(str::to_owned));
            let file = folder.join(path);
            if rewrite && !path.starts_with("src/runtime/") {
                fs::write(&file, content).unwrap();
            }
            let committed = fs::read(&file).unwrap_or_default();
            let (committed, rendered) = (String::from_utf8_lossy(&committed), String::from_utf8_lossy(content));
            assert!(committed == rendered, "{}: committed\n{committed}\nrendered\n{rendered}", file.display());
        }
        for entry in fs::read_dir(folder.join("src/bodies")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if rewrite && !bodies.contains(&name) {
                fs::remove_file(folder.join("src/bodies").join(&name)).unwrap();
                continue;
            }
            assert!(bodies.contains(&name), "{kind}: nothing renders to src/bodies/{name}");
        }
    }
}

#[test]
fn the_generated_projects_and_the_toolchain_pin_the_same_packages() {
    let toolchain: serde_json::Value = serde_json::from_str(metamcp_templates::TOOLCHAIN_PACKAGE).unwrap();
    for kind in TemplateKind::ALL {
        let sample = fs::read_to_string(folder(*kind).join("package.json")).unwrap();
        let sample: serde_json::Value = serde_json::from_str(&sample).unwrap();
        let sdk = "@modelcontextprotocol/server";
        for package in kind.manifest().dependencies.keys().map(String::as_str).chain([sdk]) {
            assert_eq!(toolchain["dependencies"][package], sample["dependencies"][package], "{kind}: {package}");
        }
    }
}
