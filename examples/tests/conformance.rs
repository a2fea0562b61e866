//! The official MCP conformance suite against the example servers, which are defined through this SDK, and against the
//! reference server itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Every scenario of a revision is run; those that no revision requires are run too and may fail, if they are listed.
const REVISIONS: [&str; 2] = ["2026-07-28", "2025-11-25"];

#[test]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
fn the_official_suite_finds_nothing_but_the_expected_failures() {
    let server = Server::start("conformance_server", &[]);
    holds_but_for(&server, "conformance-expected-failures.yml");
}

#[test]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
fn the_official_suite_finds_nothing_at_all_where_the_server_knows_tasks() {
    let server = Server::start("conformance_server", &["--tasks"]);
    for revision in REVISIONS {
        let failed = scenarios(&run_suite(&server.url, revision, &[])).filter(|(_, passed)| !passed).count();
        assert_eq!(failed, 0, "{revision}");
    }
}

#[test]
#[ignore = "needs Node 22 and the conformance suite, which .ci/run installs"]
fn the_official_suite_finds_nothing_but_the_expected_failures_in_the_reference_server() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let server = Server::start("meta_mcp_server", &["--http", "127.0.0.1:0", "--no-key", "--data-dir", data_dir]);
    holds_but_for(&server, "tests/reference/conformance-expected-failures.yml");
}

/// Fails for a scenario that is listed and passes, as for one that is not and fails.
fn holds_but_for(server: &Server, baseline: &str) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(baseline)).unwrap();
    let mut listed: BTreeSet<&str> = text.lines().filter_map(listed_scenario).collect();
    let folder = tempfile::tempdir().unwrap();
    for revision in REVISIONS {
        let lines: Vec<_> = text.lines().filter(|line| holds_in(line, revision)).collect();
        let expected: BTreeSet<_> = lines.iter().filter_map(|line| listed_scenario(line)).collect();
        let file = folder.path().join("expected-failures.yml");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let report = run_suite(&server.url, revision, &["--expected-failures", file.to_str().unwrap()]);
        assert!(report.contains("Baseline check passed"), "{revision}:\n{report}");
        // What the revision does not require, the suite itself lets fail or pass, whether it is listed or not.
        for (scenario, passed) in not_required(&report) {
            assert_ne!(passed, expected.contains(scenario), "{scenario} of {revision} passed: {passed}\n{report}");
        }
        scenarios(&report).for_each(|(scenario, _)| _ = listed.remove(scenario));
    }
    assert_eq!(listed, BTreeSet::new(), "these are no scenarios");
}

/// Whether a line of a list of expected failures is about a revision; `# only REVISION` stands behind one that is not
/// about both.
fn holds_in(line: &str, revision: &str) -> bool {
    line.split_once("# only ").is_none_or(|(_, only)| only == revision)
}

fn listed_scenario(line: &str) -> Option<&str> {
    line.strip_prefix("  - ")?.split_whitespace().next()
}

/// The example server, which ends with this value.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(example: &str, arguments: &[&str]) -> Self {
        // Tests are built to `deps/`, with the examples beside it.
        let tests = std::env::current_exe().unwrap();
        let example = tests.parent().unwrap().with_file_name("examples").join(example);
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

/// Each scenario of the summary, with lines such as `✗ ping: 1 passed, 1 failed`, and whether it passed.
fn scenarios(report: &str) -> impl Iterator<Item = (&str, bool)> {
    report.lines().filter_map(|line| {
        let (scenario, counts) = line.split_once(": ")?;
        counts.ends_with(" failed").then(|| marked(scenario))?
    })
}

/// Each scenario that no revision requires, with lines such as `  ✗ tasks-lifecycle (extension)`.
fn not_required(report: &str) -> impl Iterator<Item = (&str, bool)> {
    report.lines().filter_map(|line| marked(line.strip_prefix("  ")?.split_once(" (")?.0))
}

/// A scenario behind the mark that says whether it passed.
fn marked(scenario: &str) -> Option<(&str, bool)> {
    let passed = scenario.strip_prefix("✓ ").map(|name| (name, true));
    passed.or_else(|| scenario.strip_prefix("✗ ").map(|name| (name, false)))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
