//! An engine that stops, hangs or comes back in the middle of each call: every call ends in bounded time.
#![cfg(feature = "docker")]

mod containers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Builder, Command, Environment, ErrorKind, TemplateKind};
use metamcp_local::DockerConfig;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::containers::{Docker, config, project, sh};

/// A call's own limit is 20 s, and ending a command takes several calls.
const BOUND: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Well,
    /// Connections are taken, and nothing comes back.
    Hung,
    /// Connections are cut and refused.
    Stopped,
}

/// Stands between a builder and the real engine, and does as if that were unwell.
struct Relay {
    folder: TempDir,
    state: watch::Sender<Engine>,
    task: JoinHandle<()>,
}

impl Relay {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a socket");
        let (state, seen) = watch::channel(Engine::Well);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, seen.clone()));
            }
        });
        Self { folder, state, task }
    }

    fn config(&self) -> DockerConfig {
        config().with_warm(0).with_host(format!("unix://{}", self.folder.path().join("s").display()))
    }

    fn set(&self, state: Engine) {
        self.state.send_replace(state);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn engine_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    Path::new(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock")).to_owned()
}

async fn relay(client: UnixStream, mut state: watch::Receiver<Engine>) {
    if *state.borrow() == Engine::Stopped {
        return;
    }
    let engine = UnixStream::connect(engine_socket()).await.expect("the real engine");
    let (client_reader, client_writer) = client.into_split();
    let (engine_reader, engine_writer) = engine.into_split();
    let both = futures::future::join(
        pass(client_reader, engine_writer, state.clone()),
        pass(engine_reader, client_writer, state.clone()),
    );
    tokio::select! {
        _ = both => {}
        _ = state.wait_for(|state| *state == Engine::Stopped) => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<Engine>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| *state != Engine::Hung).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
    drop(to.shutdown().await);
}

async fn builder(relay: &Relay) -> Docker {
    Docker::open_with(relay.config()).await
}

fn is_about_the_engine(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TimedOut | ErrorKind::Unavailable)
}

/// Every call on an environment while the engine is unwell, then again when it is back.
async fn every_call_ends(unwell: Engine) {
    let relay = Relay::start();
    let subject = builder(&relay).await;
    let environment = subject.environment().await;
    environment.write_file("kept", "kept".into()).await.expect("the engine is well");
    relay.set(unwell);
    let calls = async {
        tokio::join!(
            async { environment.exec(&Command::new("echo x", Duration::from_secs(2))).await.map(drop) },
            async { environment.write_file("a", "x".into()).await },
            async { environment.read_file("kept").await.map(drop) },
            async { environment.list_files("").await.map(drop) },
            async { environment.delete_file("a").await },
            async { environment.info().await.map(drop) },
            async {
                let name = "another".parse().expect("a name");
                subject.builder.create_environment(&name, TemplateKind::RemoteMcpAuthless).await.map(drop)
            },
            async {
                let (source, settings) = project(&json!({ "is-odd": "3.0.0" }), "return 1;");
                subject.builder.build(&source, &settings).await.map(drop)
            },
            async { environment.destroy().await }
        )
    };
    let ended = timeout(BOUND, calls).await.expect("every call ends in bounded time");
    for (call, result) in <[_; 9]>::from(ended).into_iter().enumerate() {
        let error = result.expect_err("the engine is unwell");
        assert!(is_about_the_engine(error.kind()), "call {call}: {error:?}");
    }
    relay.set(Engine::Well);
    // A hung engine does late what it was asked for: the first environment may be gone by now.
    environment.destroy().await.expect("the engine is back");
    assert_eq!(sh(&*subject.environment().await, "echo back").await.stdout, "back\n");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn every_call_ends_while_the_engine_is_stopped() {
    every_call_ends(Engine::Stopped).await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn every_call_ends_while_the_engine_hangs() {
    every_call_ends(Engine::Hung).await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn an_engine_that_goes_in_the_middle_of_a_command_ends_it_with_an_error() {
    let relay = Relay::start();
    let subject = builder(&relay).await;
    let environment = subject.environment().await;
    let running = {
        let environment: Arc<dyn Environment> = Arc::clone(&environment);
        tokio::spawn(async move {
            environment.exec(&Command::new("touch begun; sleep 200", Duration::from_secs(200))).await
        })
    };
    while environment.read_file("begun").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.set(Engine::Stopped);
    let error = timeout(BOUND, running).await.expect("bounded time").expect("no panic").expect_err("it is cut off");
    assert!(is_about_the_engine(error.kind()), "{error:?}");
    relay.set(Engine::Well);
    assert_eq!(sh(&*environment, "echo back").await.stdout, "back\n");
    subject.close().await;
}

#[tokio::test]
async fn without_an_engine_the_error_says_what_to_install() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config().with_host("unix:///nonexistent/docker.sock");
    let error = containers::open_in(folder.path(), config).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("install Docker"), "{error}");
}
