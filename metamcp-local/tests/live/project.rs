//! A generated project on disk, used as a person would use it. Needs Node 22 on `PATH`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use metamcp_core::SourceTree;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// npm may have to fetch a hundred megabytes.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Project(TempDir);

impl Project {
    /// Writes the files and installs what they depend on.
    pub(crate) async fn install(tree: &SourceTree) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for (path, content) in tree.iter() {
            let file = project.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        project.run("npm", &["install", "--ignore-scripts", "--no-audit", "--no-fund"]).await;
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a program in the project's folder and shows what it said if it fails.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) {
        let command = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CI", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, command).await.expect("it ends in time").expect("it is on PATH");
        let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    }
}
