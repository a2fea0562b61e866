//! The toolchain and the bundle builder, with the real npm and esbuild.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "bundle")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{Builder, ErrorKind, ServerDefinition, SourceTree, WorkerSettings, generate, validate};
use serde_json::json;

async fn toolchain() -> Toolchain {
    Toolchain::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")).await.unwrap()
}

fn project(description: &str) -> (SourceTree, WorkerSettings) {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "bundled", "description": description,
        "tools": [{ "name": "one", "description": "Answers one.", "implementation": "return 1;" }]
    }))
    .unwrap();
    let valid = validate(&definition).unwrap();
    (generate(&valid).unwrap(), WorkerSettings::of(&valid))
}

#[tokio::test]
async fn two_installers_at_once_give_one_toolchain() {
    let (first, second) = tokio::join!(toolchain(), toolchain());
    assert_eq!(first.folder(), second.folder());
    assert!(first.workerd().is_file() && first.esbuild().is_file());
}

#[tokio::test]
async fn the_same_project_gives_the_same_artifact() {
    let (source, settings) = project("The same.");
    let first = BundleBuilder::new(toolchain().await).build(&source, &settings).await.unwrap();
    let second = BundleBuilder::new(toolchain().await).build(&source, &settings).await.unwrap();
    assert_eq!(first.digest(), second.digest());
    assert!(first.modules.contains_key("runtime.js") && first.modules.contains_key("definition.json"));
}

#[tokio::test]
async fn servers_share_the_bundled_runtime() {
    let builder = BundleBuilder::new(toolchain().await);
    let mut runtimes = Vec::new();
    for description in ["One.", "Another."] {
        let (source, settings) = project(description);
        runtimes.push(builder.build(&source, &settings).await.unwrap().modules["runtime.js"].content.clone());
    }
    assert_eq!(runtimes[0], runtimes[1]);
}

#[tokio::test]
async fn npm_dependencies_are_refused_by_name() {
    let (source, mut settings) = project("Needs npm.");
    settings.dependencies.insert("left-pad".into(), "1.3.0".into());
    let error = BundleBuilder::new(toolchain().await).build(&source, &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("left-pad"), "{error}");
}

#[tokio::test]
async fn a_source_that_does_not_bundle_is_reported_in_esbuilds_words() {
    let (mut source, settings) = project("Broken.");
    source.insert("src/index.ts", "export default nonsense from;").unwrap();
    let error = BundleBuilder::new(toolchain().await).build(&source, &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BuildFailed);
    assert!(error.message().contains("index.ts"), "{error}");
}

#[tokio::test]
async fn a_killed_esbuild_leaves_nothing_and_the_next_build_succeeds() {
    let cache = tempfile::tempdir().unwrap();
    let toolchain = Toolchain::install(cache.path()).await.unwrap();
    let (esbuild, kept) = (toolchain.esbuild(), toolchain.esbuild().with_extension("kept"));
    std::fs::rename(&esbuild, &kept).unwrap();
    std::fs::write(&esbuild, "#!/bin/sh\nkill -KILL $$\n").unwrap();
    std::fs::set_permissions(&esbuild, std::fs::Permissions::from_mode(0o755)).unwrap();

    let (source, settings) = project("Interrupted.");
    let before = names_in(toolchain.folder());
    let builder = BundleBuilder::new(toolchain.clone());
    let error = builder.build(&source, &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BuildFailed);
    assert!(error.message().contains("signal: 9"), "{error}");
    assert_eq!(names_in(toolchain.folder()), before);

    std::fs::rename(&kept, &esbuild).unwrap();
    builder.build(&source, &settings).await.unwrap();
}

fn names_in(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}
