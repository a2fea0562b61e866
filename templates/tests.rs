use std::collections::BTreeSet;
use std::path::Path;

use super::{RUNTIME, TEMPLATES};

/// Relative paths of all files below `folder`, symbolic links and installed packages left out.
fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_file() {
            found.insert(path);
        } else if entry.file_type().unwrap().is_dir() && !matches!(name.as_str(), "node_modules" | "dist" | ".wrangler")
        {
            walk(&entry.path(), &format!("{path}/"), found);
        }
    }
}

fn on_disk(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut found);
    found
}

#[test]
fn every_runtime_file_is_embedded() {
    let embedded: BTreeSet<_> = RUNTIME.iter().map(|file| file.path.to_owned()).collect();
    assert_eq!(embedded, on_disk("runtime/src"));
}

#[test]
fn every_template_exports_the_classes_of_sessions() {
    for template in TEMPLATES {
        let index = template.files.iter().find(|file| file.path == "src/index.ts").unwrap().content;
        for export in [
            "export class McpSession extends worker.Session {}",
            "export { McpSessionDirectory } from \"./runtime/session-directory.ts\";",
        ] {
            assert!(index.contains(export), "{}: src/index.ts lacks `{export}`", template.name);
        }
    }
}

#[test]
fn every_template_file_is_embedded_rendered_or_a_test() {
    for template in TEMPLATES {
        let embedded: BTreeSet<_> = template.files.iter().map(|file| file.path.to_owned()).collect();
        let rendered = ["README.md", "package.json", "wrangler.jsonc", "src/definition.json", "src/bodies.js"];
        let stays = |path: &str| {
            path == "sample.json"
                || path == "template.json"
                || Path::new(path).extension().is_some_and(|extension| extension == "hbs")
                || path.starts_with("test/")
                || path.starts_with("src/bodies/")
                || path == "worker-configuration.d.ts"
                || rendered.contains(&path)
        };
        let unlisted: Vec<_> =
            on_disk(template.name).into_iter().filter(|path| !embedded.contains(path) && !stays(path)).collect();
        assert_eq!(unlisted, Vec::<String>::new(), "{}: list them in lib.rs", template.name);
    }
}
