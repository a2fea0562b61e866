//! The official MCP conformance suite against the example servers, which are defined through this SDK.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Every scenario of a revision is run; those that no revision requires are run too and may fail, if they are listed.
const REVISIONS: [&str; 2] = ["2026-07-28", "2025-11-25"];

#[test]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
fn the_official_suite_finds_nothing_but_the_expected_failures() {
    let server = Server::start(&[]);
    let baseline = expected_failures_file();
    let suite = |revision: &str| {
        let report = run_suite(&server.url, revision, &["--expected-failures", baseline.to_str().unwrap()]);
        assert!(report.contains("Baseline check passed"), "{revision}:\n{report}");
        report
    };
    // The suite itself lets a scenario fail that its revision does not require, whether it is listed or not.
    assert_eq!(failed_scenarios(suite), expected_failures());
}

#[test]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
fn the_official_suite_finds_nothing_at_all_where_the_server_knows_tasks() {
    let server = Server::start(&["--tasks"]);
    assert_eq!(failed_scenarios(|revision| run_suite(&server.url, revision, &[])), BTreeSet::new());
}

/// The scenarios that fail in one of the revisions.
fn failed_scenarios(suite: impl Fn(&str) -> String) -> BTreeSet<String> {
    let failed = |revision| suite(revision).lines().filter_map(failed_scenario).map(str::to_owned).collect::<Vec<_>>();
    REVISIONS.into_iter().flat_map(failed).collect()
}

/// The example server, which ends with this value.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        // Tests are built to `deps/`, with the examples beside it.
        let tests = std::env::current_exe().unwrap();
        let example = tests.parent().unwrap().with_file_name("examples").join("conformance_server");
        let started = Command::new(&example).args(arguments).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|error| panic!("{}: {error}; build the examples", example.display()));
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        Self { process, url: url.expect("the example listens") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
    }
}

/// What the suite says; a failure that its revision requires not to be one fails the test.
fn run_suite(url: &str, revision: &str, more: &[&str]) -> String {
    let suite = workspace().join("target/ci-tools/node_modules/@modelcontextprotocol/conformance/dist/index.js");
    assert!(suite.exists(), "{} is missing; .ci/run installs it", suite.display());
    let results = tempfile::tempdir().unwrap();
    let output = Command::new("node")
        .arg(suite)
        .args(["server", "--url", url, "--requirements", revision, "--timeout", "120000"])
        .args(more)
        .arg("--output-dir")
        .arg(results.path())
        .current_dir(results.path())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{revision}:\n{report}\n{problems}");
    report
}

/// The scenario of a summary line such as `✗ ping: 1 passed, 1 failed`.
fn failed_scenario(line: &str) -> Option<&str> {
    line.strip_prefix("✗ ")?.split_once(": ").map(|(name, _)| name)
}

fn expected_failures_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance-expected-failures.yml")
}

fn expected_failures() -> BTreeSet<String> {
    let text = std::fs::read_to_string(expected_failures_file()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("  - ")).map(str::to_owned).collect()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
