//! Promises of [`Builder`]. `project` makes a small project that builds, another one for each number.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::ErrorKind;
use crate::artifact::ModuleKind;
use crate::builder::{Builder, Command, Environment, OutputChunk, OutputStream};
use crate::name::{ServerName, TemplateKind};
use crate::settings::WorkerSettings;
use crate::source_tree::SourceTree;

/// Makes a project.
pub type MakeProject = fn(u32) -> (SourceTree, WorkerSettings);

/// What a builder can do beyond the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuilderCapabilities {
    /// It installs npm packages.
    pub dependencies: bool,
    /// It makes environments.
    pub environments: bool,
}

/// Building is a function of the tree: equal digests, one cache entry.
pub async fn the_same_tree_gives_the_same_artifact(
    builder: &dyn Builder,
    project: MakeProject,
    _can: BuilderCapabilities,
) {
    let (source, settings) = project(1);
    let first = builder.build(&source, &settings).await.unwrap();
    let second = builder.build(&source, &settings).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.digest(), second.digest());
    assert_eq!(builder.fingerprint(), builder.fingerprint());
    assert_ne!(builder.fingerprint().as_deref(), Some(""));
}

/// A change of a body reaches the artifact.
pub async fn another_tree_gives_another_artifact(
    builder: &dyn Builder,
    project: MakeProject,
    _can: BuilderCapabilities,
) {
    let mut digests = Vec::new();
    for number in [1, 2] {
        let (source, settings) = project(number);
        digests.push(builder.build(&source, &settings).await.unwrap().digest());
    }
    assert_ne!(digests[0], digests[1]);
}

/// It is an ES module.
pub async fn the_main_module_is_one_of_the_modules(
    builder: &dyn Builder,
    project: MakeProject,
    _can: BuilderCapabilities,
) {
    let (source, settings) = project(1);
    let artifact = builder.build(&source, &settings).await.unwrap();
    assert_eq!(artifact.modules.get(&artifact.main_module).map(|module| module.kind), Some(ModuleKind::EsModule));
}

/// A publisher reads them from the artifact alone.
pub async fn settings_reach_the_artifact(builder: &dyn Builder, project: MakeProject, _can: BuilderCapabilities) {
    let (source, mut settings) = project(1);
    settings.vars.insert("CONTRACT".parse().expect("a name"), "value".into());
    assert_eq!(builder.build(&source, &settings).await.unwrap().settings, settings);
}

/// With the builder's own message, and not with an empty artifact.
pub async fn a_project_without_code_fails_to_build(
    builder: &dyn Builder,
    project: MakeProject,
    _can: BuilderCapabilities,
) {
    let (_, settings) = project(1);
    let error = builder.build(&SourceTree::new(), &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BuildFailed);
    assert!(!error.message().is_empty());
}

/// Never silently left out. Installing is for the builder's own tests: it needs a package registry.
pub async fn dependencies_are_installed_or_unsupported(
    builder: &dyn Builder,
    project: MakeProject,
    can: BuilderCapabilities,
) {
    let (source, mut settings) = project(1);
    settings.dependencies.insert("is-odd".to_owned(), "3.0.1".to_owned());
    match builder.build(&source, &settings).await {
        Ok(artifact) => assert!(can.dependencies && artifact.settings == settings),
        Err(error) => {
            let expected = if can.dependencies { ErrorKind::BuildFailed } else { ErrorKind::Unsupported };
            assert_eq!(error.kind(), expected, "{error}");
        }
    }
}

/// An environment runs commands, is found by its id and is gone when destroyed.
pub async fn environments_are_made_or_unsupported(
    builder: &dyn Builder,
    project: MakeProject,
    can: BuilderCapabilities,
) {
    let name: ServerName = project(1).1.name;
    let made = builder.create_environment(&name, TemplateKind::RemoteMcpAuthless).await;
    if !can.environments {
        assert_eq!(made.unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    }
    let environment = made.unwrap();
    environment.write_file("notes/a.txt", "hello".into()).await.unwrap();
    let command = Command::new("cat notes/a.txt", Duration::from_secs(30));
    let output = environment.exec(&command).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.success()), ("hello", true));
    output_is_streamed(&*environment).await;
    let id = environment.info().await.unwrap().container_id;
    assert_eq!(builder.environment(&id).await.unwrap().read_file("notes/a.txt").await.unwrap(), "hello");
    environment.destroy().await.unwrap();
    environment.destroy().await.unwrap();
    assert_eq!(builder.environment(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn output_is_streamed(environment: &dyn Environment) {
    let (sender, mut receiver) = mpsc::channel(1);
    let command = Command::new("echo out; echo err >&2; exit 3", Duration::from_secs(30));
    let collect = async {
        let mut streamed = [Vec::new(), Vec::new()];
        while let Some(OutputChunk { stream, content }) = receiver.recv().await {
            streamed[usize::from(stream == OutputStream::Stderr)].extend_from_slice(&content);
        }
        streamed
    };
    let (output, streamed) = tokio::join!(environment.exec_streaming(&command, sender), collect);
    let output = output.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.exit_code), ("out\n", "err\n", 3));
    assert_eq!(streamed, [b"out\n", b"err\n"]);
    // A receiver that is gone is nothing to the command.
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    assert_eq!(environment.exec_streaming(&command, sender).await.unwrap().stdout, "out\n");
}

/// And a builder that built nothing closes too.
pub async fn closing_twice_is_the_same_as_once(
    builder: &dyn Builder,
    _project: MakeProject,
    _can: BuilderCapabilities,
) {
    builder.close().await.unwrap();
    builder.close().await.unwrap();
}
