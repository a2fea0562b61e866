//! The example that publishes to Cloudflare, on the emulator, both as programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

/// The emulator, which ends with this value.
struct Emulator {
    process: Child,
    api: String,
    workers_dev: String,
}

impl Emulator {
    fn start() -> Self {
        // Tests are built to `deps/`, with the programs above it.
        let program = target().join("metamcp-cloudflare-emulator");
        let mut command = Command::new(&program);
        command.args(["--port", "0"]).env("METAMCP_TOOLCHAIN_DIR", toolchain()).stdout(Stdio::piped());
        let missing = "build it with `cargo build -p metamcp-cloudflare-emulator`";
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}; {missing}", program.display()));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut after =
            |beginning: &str| lines.find_map(|line| line.strip_prefix(beginning).map(str::to_owned)).unwrap();
        let (api, workers_dev) = (after("listening on "), after("workers.dev at "));
        Self { process, api, workers_dev }
    }

    /// The example's output; it has to succeed.
    fn publish(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let ended = self.run(arguments, environment);
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let example = target().join("examples/publish_cloudflare");
        let mut command = Command::new(&example);
        for name in ["CLOUDFLARE_DISPATCH_NAMESPACE", "CLOUDFLARE_CONTAINER_MANAGER_URL"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("CLOUDFLARE_ACCOUNT_ID", ACCOUNT)
            .env("CLOUDFLARE_API_TOKEN", "any")
            .env("CLOUDFLARE_API_BASE_URL", &self.api)
            .env("METAMCP_WORKERS_DEV_URL", &self.workers_dev)
            .env("METAMCP_TOOLCHAIN_DIR", toolchain())
            .envs(environment.iter().copied());
        command.output().unwrap_or_else(|error| panic!("{}: {error}; build the examples", example.display()))
    }

    async fn read(&self, url: &str) -> Value {
        let answer = reqwest::Client::new().get(url).bearer_auth("any").send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Names of what the account has.
    async fn names(&self, path: &str, field: &str) -> Vec<String> {
        let listed = self.read(&format!("{}/accounts/{ACCOUNT}/{path}", self.api)).await;
        listed["result"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    }

    async fn requests(&self) -> usize {
        let seen = self.read(&self.api.replace("/client/v4", "/__emulator/requests")).await;
        seen.as_array().unwrap().len()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
    }
}

fn target() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()
}

fn toolchain() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain")
}

#[tokio::test]
async fn it_makes_what_its_plan_says_and_takes_it_down_again() {
    let emulator = Emulator::start();
    let plan = emulator.publish(&["--plan"], &[]);
    assert!(plan.contains("at least $0 a month") && !plan.contains("dispatcher"), "{plan}");
    let dispatched = emulator.publish(&["--plan"], &[("CLOUDFLARE_DISPATCH_NAMESPACE", "lab")]);
    assert!(dispatched.contains("at least $25") && dispatched.contains("lab-dispatcher"), "{dispatched}");
    let manager = [
        ("CLOUDFLARE_CONTAINER_MANAGER_URL", "https://containers-manager.example.workers.dev"),
        ("CLOUDFLARE_CONTAINER_MANAGER_KEY", "key"),
    ];
    let with_containers = emulator.publish(&["--plan"], &manager);
    assert!(with_containers.contains("at least $5"), "{with_containers}");
    assert!(emulator.publish(&["--help"], &[]).contains("--remove"));
    for wrong in [&["--bogus"][..], &["remove"], &["--plan", "--remove"]] {
        assert_eq!(emulator.run(wrong, &[]).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(emulator.requests().await, 0);

    let published = emulator.publish(&[], &[]);
    assert!(published.contains("live at ") && published.contains("measure_text -> "), "{published}");
    let kinds = [("d1/database", "name"), ("storage/kv/namespaces", "title"), ("workers/scripts", "id")];
    for (path, field) in kinds {
        let names = emulator.names(path, field).await;
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(plan.contains(&names[0]), "{names:?} is not in the plan: {plan}");
    }
    assert!(emulator.publish(&["--remove"], &[]).contains("is removed"));
    assert!(emulator.publish(&["--remove"], &[]).contains("is removed already"));
    assert_eq!(emulator.names("workers/scripts", "id").await, Vec::<String>::new());
}
