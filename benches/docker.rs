//! What containers cost, beside `npm install && wrangler deploy --dry-run` by hand in the same run. Needs a Docker
//! engine; `METAMCP_DOCKER_BASE_IMAGE` names another base image.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever runs it")]

use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metamcp_benches::median;
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{
    Builder, Command, Environment, ServerDefinition, SourceTree, TemplateKind, WorkerSettings, generate, validate,
};
use metamcp_local::{DockerBuilder, DockerConfig};
use serde_json::json;

const ROUNDS: usize = 10;

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs this program too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let toolchain = Toolchain::install(&folder.path().join("toolchain")).await.expect("npm installs the toolchain");
    let config = match std::env::var("METAMCP_DOCKER_BASE_IMAGE") {
        Ok(image) => DockerConfig::default().with_base_image(image),
        Err(_) => DockerConfig::default(),
    };
    let bundle = Arc::new(BundleBuilder::new(toolchain));
    let builder = DockerBuilder::open(&folder.path().join("docker"), config, bundle).await.expect("an engine runs");
    builder.warm_up().await.expect("the images are built");

    environments(&builder).await;
    builds(&builder, &folder.path().join("docker/packages")).await;
    by_hand(&folder.path().join("by-hand"));
    builder.close().await.expect("the builder closes");
}

async fn environments(builder: &DockerBuilder) {
    let (mut ready, mut exec) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("bench-{round}").parse().expect("a name");
        builder.warm_up().await.expect("a container is warm");
        let started = Instant::now();
        let made = builder.create_environment(&name, TemplateKind::RemoteMcpAuthless).await;
        ready.push(started.elapsed());
        let environment = made.expect("an environment is made");
        for _ in 0..3 {
            exec.push(time_exec(&*environment).await);
        }
        environment.destroy().await.expect("it is destroyed");
    }
    report("warm environment ready", ready);
    report("exec of `true`", exec);
}

async fn time_exec(environment: &dyn Environment) -> Duration {
    let started = Instant::now();
    let output = environment.exec(&Command::new("true", Duration::from_secs(60))).await;
    assert!(output.expect("it runs").success());
    started.elapsed()
}

async fn builds(builder: &DockerBuilder, kept: &Path) {
    let (mut first, mut locked, mut body) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..5 {
        if kept.exists() {
            std::fs::remove_dir_all(kept).expect("what was kept is removed");
        }
        first.push(time_build(builder, &format!("return {round};")).await);
        body.push(time_build(builder, &format!("return -{round};")).await);
        remove_bundles(kept);
        locked.push(time_build(builder, &format!("return {round};")).await);
    }
    report("build: install and bundle two packages", first);
    report("rebuild from the lock file, in a new container", locked);
    report("rebuild after a change of a body", body);
}

/// Leaves the lock files.
fn remove_bundles(kept: &Path) {
    for set in std::fs::read_dir(kept).expect("packages are kept") {
        for file in std::fs::read_dir(set.expect("a folder").path()).expect("a folder") {
            let path = file.expect("a file").path();
            if !path.ends_with("package-lock.json") {
                std::fs::remove_file(path).expect("it is removed");
            }
        }
    }
}

async fn time_build(builder: &DockerBuilder, end: &str) -> Duration {
    let (source, settings) = project(end);
    let started = Instant::now();
    builder.build(&source, &settings).await.expect("it builds");
    started.elapsed()
}

fn project(end: &str) -> (SourceTree, WorkerSettings) {
    let body = format!("await import('semver');\nawait import('marked');\n{end}");
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "packaged", "description": "Uses npm.",
        "dependencies": { "semver": "7.7.2", "marked": "16.1.1" },
        "tools": [{ "name": "tool", "description": "Uses it.", "implementation": body }]
    }))
    .expect("the definition is well-formed");
    let valid = validate(&definition).expect("the definition is valid");
    (generate(&valid).expect("it is generated"), WorkerSettings::of(&valid))
}

/// The same project as a person would build it, on the machine itself; wrangler needs Node 22.
fn by_hand(folder: &Path) {
    let mut times = Vec::new();
    for round in 0..3 {
        let project_folder = folder.join(round.to_string());
        for (path, content) in project("return 1;").0.iter() {
            let path = project_folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
            std::fs::write(path, content).expect("the file is written");
        }
        let started = Instant::now();
        let built = Program::new("sh")
            .args(["-c", "npm install --ignore-scripts --no-audit --no-fund && npx wrangler deploy --dry-run"])
            .current_dir(&project_folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !built.is_ok_and(|status| status.success()) {
            println!("by hand: npm install && wrangler deploy --dry-run failed here (it needs Node 22)");
            return;
        }
        times.push(started.elapsed());
    }
    report("by hand: npm install && wrangler deploy --dry-run", times);
}

fn report(what: &str, times: Vec<Duration>) {
    let count = times.len();
    println!("{what:52} {:8.1} ms (median of {count})", median(times).as_secs_f64() * 1_000.0);
}
