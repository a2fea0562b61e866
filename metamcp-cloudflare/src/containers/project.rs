//! The Container Manager's own files, as they stand in `container-manager/`.

use std::path::Path;

use metamcp_core::{Error, ErrorKind, Result};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../container-manager/", $path)))),*]
    };
}

/// Where the Worker begins.
pub(super) const ENTRY: &str = "src/index.ts";

/// What the Worker is bundled from.
pub(super) const WORKER: &[(&str, &str)] = files!(
    "package-lock.json",
    "package.json",
    "src/auth.ts",
    "src/bridged-sandbox.ts",
    "src/build.ts",
    "src/cloudflare-sandbox.ts",
    "src/env.ts",
    "src/http.ts",
    "src/index.ts",
    "src/input.ts",
    "src/job-queue.ts",
    "src/my-container.ts",
    "src/paths.ts",
    "src/problem.ts",
    "src/rpc.ts",
    "src/sandbox.ts",
    "src/store.ts",
    "src/text.ts",
    "src/version.ts",
);

/// What wrangler needs besides, and the image.
const BESIDES: &[(&str, &str)] = files!(
    "Dockerfile",
    "README.md",
    "image/globals/package-lock.json",
    "image/globals/package.json",
    "image/scripts/bundle.mjs",
    "image/scripts/manifest.mjs",
    "image/templates.json",
    "image/tools/package-lock.json",
    "image/tools/package.json",
    "tsconfig.json",
    "wrangler.jsonc",
);

/// The version of Worker and image.
pub(super) fn version() -> Result<&'static str> {
    let source = WORKER.iter().find(|(path, _)| *path == "src/version.ts").map(|(_, text)| *text);
    let quoted = source.and_then(|text| text.split_once("VERSION = \"")).and_then(|(_, rest)| rest.split_once('"'));
    quoted.map(|(version, _)| version).ok_or_else(|| Error::new(ErrorKind::Unexpected, "the Worker has no version"))
}

/// Writes the whole project into a folder.
pub(super) async fn write(folder: &Path) -> Result<()> {
    for (path, text) in WORKER.iter().chain(BESIDES) {
        let file = folder.join(path);
        let parent = file.parent().unwrap_or(folder);
        tokio::fs::create_dir_all(parent).await.map_err(|error| cannot_write(parent, error))?;
        tokio::fs::write(&file, text).await.map_err(|error| cannot_write(&file, error))?;
    }
    Ok(())
}

fn cannot_write(path: &Path, source: std::io::Error) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("cannot write {}", path.display())).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name();
            let skipped = [".wrangler", "dist", "node_modules", "test"].iter().any(|skipped| name == *skipped);
            match entry.file_type().unwrap().is_dir() {
                true if !skipped => walk(&entry.path(), found),
                true => (),
                false => found.push(entry.path()),
            }
        }
    }

    #[test]
    fn every_file_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("container-manager");
        let mut found = Vec::new();
        walk(&root, &mut found);
        let listed: Vec<_> = WORKER.iter().chain(BESIDES).map(|(path, _)| root.join(path)).collect();
        let missing: Vec<_> = found.iter().filter(|path| !listed.contains(path)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn it_has_a_version() {
        assert!(version().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    }
}
