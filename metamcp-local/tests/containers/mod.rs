//! What the tests with a Docker engine share.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{
    Builder, Command, CommandOutput, Environment, Result, ServerDefinition, SourceTree, TemplateKind, WorkerSettings,
    generate, validate,
};
use metamcp_local::{DockerBuilder, DockerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The image named in `METAMCP_DOCKER_BASE_IMAGE`, for machines that reach no image registry.
pub(crate) fn config() -> DockerConfig {
    let config = DockerConfig::default();
    match std::env::var("METAMCP_DOCKER_BASE_IMAGE") {
        Ok(image) => config.with_base_image(image),
        Err(_) => config,
    }
}

/// A builder over a folder of its own.
pub(crate) struct Docker {
    pub(crate) builder: Arc<DockerBuilder>,
    pub(crate) folder: TempDir,
}

impl Docker {
    pub(crate) async fn open() -> Self {
        Self::open_with(config()).await
    }

    pub(crate) async fn open_with(config: DockerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let builder = Arc::new(open_in(folder.path(), config).await.unwrap());
        Self { builder, folder }
    }

    pub(crate) async fn environment(&self) -> Arc<dyn Environment> {
        let name = "tested".parse().unwrap();
        self.builder.create_environment(&name, TemplateKind::RemoteMcpAuthless).await.unwrap()
    }

    /// Closes the builder and checks that none of its containers is left.
    pub(crate) async fn close(self) {
        self.builder.close().await.unwrap();
        assert_eq!(containers_of(self.folder.path()), Vec::<String>::new());
    }
}

pub(crate) async fn open_in(folder: &Path, config: DockerConfig) -> Result<DockerBuilder> {
    let toolchain = Toolchain::install(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")).await?;
    DockerBuilder::open(folder, config, Arc::new(BundleBuilder::new(toolchain))).await
}

/// The containers, running or not, that belong to the owner of a folder: by another client than ours.
pub(crate) fn containers_of(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    docker(&["ps", "--all", "--quiet", "--filter", &format!("label=dev.metamcp.owner={}", folder.display())])
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Runs Docker's own client.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server with one tool of this body.
pub(crate) fn project(dependencies: &Value, body: &str) -> (SourceTree, WorkerSettings) {
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "packaged", "description": "Uses npm.", "dependencies": dependencies,
        "tools": [{ "name": "tool", "description": "Uses it.", "implementation": body }]
    }))
    .unwrap();
    let valid = validate(&definition).unwrap();
    (generate(&valid).unwrap(), WorkerSettings::of(&valid))
}

/// Runs a command line that is given plenty of time.
pub(crate) async fn sh(environment: &dyn Environment, line: &str) -> CommandOutput {
    environment.exec(&Command::new(line, Duration::from_secs(120))).await.unwrap()
}

/// A command with a variable.
pub(crate) fn with_variable(line: &str, name: &str, value: &str) -> Command {
    let mut command = Command::new(line, Duration::from_secs(60));
    command.variables.insert(name.to_owned(), value.to_owned());
    command
}
