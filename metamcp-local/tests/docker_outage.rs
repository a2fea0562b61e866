//! An engine that is stopped, killed or stands still in the middle of every call, and comes back: a real one, which each
//! test starts for itself, in a network of its own, so that it leaves the machine's engine alone.
#![cfg(all(feature = "docker", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod containers;
mod support;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Builder, Command, ErrorKind, Publisher, Result, TemplateKind};
use metamcp_local::{DockerConfig, Isolation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use self::containers::{Docker, config, containers_of, docker, project, sh};
use self::support::{Local, call, server, worker};

/// A call's own limit is 20 s, and ending a command takes several calls.
const BOUND: Duration = Duration::from_secs(240);

/// What befalls an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGTERM: it stops its containers first.
    Stopped,
    /// SIGKILL.
    Killed,
    /// SIGSTOP: connections are taken, and nothing comes back.
    StandsStill,
}

/// An engine with the images of the machine's own.
struct OwnEngine {
    folder: TempDir,
    process: Child,
}

impl OwnEngine {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = spawn(&folder);
        let engine = Self { folder, process };
        engine.answers().await;
        engine.copy_images().await;
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    fn config(&self) -> DockerConfig {
        config().with_warm(0).with_host(self.host())
    }

    /// Docker's own client on this engine.
    fn docker(&self, arguments: &[&str]) -> String {
        docker(&[&["--host", &self.host()], arguments].concat())
    }

    async fn answers(&self) {
        let host = self.host();
        let asked = || {
            let mut version = Program::new("docker");
            version.args(["--host", &host, "version"]).stdout(Stdio::null()).stderr(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        };
        let waiting = async {
            while !asked() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("the engine answers");
    }

    /// The small image stands for the large one too: what is installed in it does not matter here.
    async fn copy_images(&self) {
        let source = Docker::open_with(config().with_warm(0)).await;
        let environment = source.environment().await;
        let id = containers_of(source.folder.path()).remove(0);
        let production = docker(&["inspect", &id, "--format", "{{.Config.Image}}"]);
        environment.destroy().await.unwrap();
        let (source_image, project) =
            (production.trim().replace("production", "build"), project(&json!({ "is-odd": "3.0.1" }), "return 1;"));
        // It is there once something was built in it.
        source.builder.build(&project.0, &project.1).await.unwrap();
        source.close().await;
        let line = format!("docker save {source_image} | docker --host {} load", self.host());
        assert!(Program::new("sh").args(["-c", &line]).stdout(Stdio::null()).status().unwrap().success());
        self.docker(&["tag", &source_image, production.trim()]);
    }

    /// Everything there is on it, but npm's cache, which stays on purpose.
    fn inventory(&self) -> Vec<String> {
        let lists = [
            ["ps", "--all", "--format", "container {{.Names}}"].as_slice(),
            &["network", "ls", "--format", "network {{.Name}}"],
            &["volume", "ls", "--format", "volume {{.Name}}"],
            &["images", "--all", "--format", "image {{.ID}}"],
        ];
        let lines = lists.map(|list| self.docker(list)).join("");
        let mut lines: Vec<_> =
            lines.lines().filter(|line| *line != "volume metamcp-npm-cache").map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    async fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Stopped => self.signal(Signal::TERM),
            Fault::Killed => self.signal(Signal::KILL),
            Fault::StandsStill => return self.signal(Signal::STOP),
        }
        let ended = async {
            while self.process.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), ended).await.expect("the engine ends");
    }

    async fn recover(&mut self, fault: Fault) {
        if fault == Fault::StandsStill {
            self.signal(Signal::CONT);
        } else {
            for left in ["docker.pid", "exec/containerd/containerd.pid"] {
                drop(std::fs::remove_file(self.folder.path().join(left)));
            }
            self.process = spawn(&self.folder);
        }
        self.answers().await;
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // Its own folder stands in the arguments of everything it starts.
        let folder = self.folder.path().display().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&folder)
                && (name.starts_with("docker") || name.starts_with("containerd"))
            {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
            }
        }
        drop(self.process.wait());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below =
            mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&folder));
        for path in below {
            drop(Program::new("umount").args(["--lazy", path]).status());
        }
    }
}

fn spawn(folder: &TempDir) -> Child {
    let path = |name: &str| folder.path().join(name);
    let log = File::options().create(true).append(true).open(path("log")).unwrap();
    let option = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    Program::new("unshare")
        .args(["--net", "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"])
        .arg(format!("--host=unix://{}", path("docker.sock").display()))
        .args([
            option("data-root", path("data")),
            option("exec-root", path("exec")),
            option("pidfile", path("docker.pid")),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Makes a call again and again, so that the fault comes in the middle of one, until it fails.
async fn fails<T, F: Future<Output = Result<T>>>(what: &str, mut call: impl FnMut(usize) -> F) {
    for round in 0.. {
        let Err(error) = call(round).await else { continue };
        let is_typed = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable);
        assert!(is_typed, "{what}: {error:?}");
        return;
    }
}

async fn survives(fault: Fault) {
    let mut engine = OwnEngine::start().await;
    let before = engine.inventory();
    let subject = Docker::open_with(engine.config().with_max_in_use(8)).await;
    let local = Local::open_with(|local| local.with_isolation(Isolation::Docker).with_docker(engine.config())).await;
    let name = server("steady");
    let (_, endpoint) = local.deploy(&name, &worker("hello() { return 'hello'; }")).await;
    let environment = subject.environment().await;
    environment.write_file("kept", "kept".into()).await.unwrap();
    let long = subject.environment().await;
    let running = {
        let long = Arc::clone(&long);
        tokio::spawn(async move { long.exec(&Command::new("touch begun; sleep 300", BOUND)).await.map(drop) })
    };

    let (builder, kept) = (&subject.builder, subject.folder.path().join("packages"));
    let (source, settings) = project(&json!({ "is-odd": "3.0.1" }), "return (await import('is-odd')).default(1);");
    let calls = async {
        tokio::join!(
            fails("exec", |_| async { environment.exec(&Command::new("sleep 0.1", Duration::from_secs(2))).await }),
            fails("write", |_| environment.write_file("a", "x".into())),
            fails("read", |_| environment.read_file("kept")),
            fails("list", |_| environment.list_files("")),
            fails("delete", |_| environment.delete_file("a")),
            fails("info", |_| environment.info()),
            fails("create and destroy", |round| async move {
                let name = format!("another-{round}").parse().unwrap();
                builder.create_environment(&name, TemplateKind::RemoteMcpAuthless).await?.destroy().await
            }),
            fails("build", |_| async {
                // Nothing is kept, so that each build needs a container.
                drop(std::fs::remove_dir_all(&kept));
                builder.build(&source, &settings).await
            }),
        )
    };
    let unwell = async {
        while long.read_file("begun").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        engine.suffer(fault).await;
    };
    timeout(BOUND, async { tokio::join!(calls, unwell) }).await.expect("every call ends in bounded time");
    let cut_off = timeout(BOUND, running).await.expect("bounded time").expect("no panic").expect_err("it is cut off");
    assert!(matches!(cut_off.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable), "{cut_off:?}");
    // A server that is there answers, and one that is not says so.
    timeout(BOUND, call(&endpoint, "hello", json!({}))).await.expect("an answer in bounded time");

    engine.recover(fault).await;
    timeout(BOUND, environment.destroy()).await.expect("bounded time").expect("the engine is back");
    assert_eq!(sh(&*subject.environment().await, "echo back").await.stdout, "back\n");
    builder.build(&source, &settings).await.expect("the engine is back");
    let answered = async {
        while call(&endpoint, "hello", json!({})).await["result"] != "hello" {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(BOUND, answered).await.expect("the server is back");
    local.publisher.close().await.unwrap();
    subject.builder.close().await.unwrap();
    let clean = async {
        while engine.inventory() != before {
            sleep(Duration::from_millis(500)).await;
        }
    };
    let is_clean = timeout(BOUND, clean).await.is_ok();
    assert!(is_clean, "before {before:?}, after {:?}", engine.inventory());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn every_call_survives_an_engine_that_is_stopped() {
    survives(Fault::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn every_call_survives_an_engine_that_is_killed() {
    survives(Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine"]
async fn every_call_survives_an_engine_that_stands_still() {
    survives(Fault::StandsStill).await;
}
