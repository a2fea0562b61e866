//! What goes wrong around containers, with a real engine: each ends in a typed error or success, in bounded time.
#![cfg(feature = "docker")]

mod containers;

use std::sync::Arc;
use std::time::Duration;

use metamcp_core::{Builder, Command, ErrorKind, TemplateKind, with_queue_report};
use metamcp_local::{ContainerLimits, DockerConfig};
use serde_json::json;
use tokio::time::{sleep, timeout};

use self::containers::{Docker, config, containers_of, docker, open_in, project, sh};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

fn small() -> DockerConfig {
    let mut limits = ContainerLimits::default();
    (limits.memory_mb, limits.milli_cpus, limits.pids, limits.workspace_mb) = (128, 1_000, 64, 32);
    config().with_warm(0).with_limits(limits)
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_fork_bomb_ends_with_its_timeout() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let bomb = Command::new("bomb() { bomb | bomb & }; (bomb); while :; do :; done", Duration::from_secs(3));
    let error = timeout(SOON, environment.exec(&bomb)).await.expect("bounded time").expect_err("a bomb");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(sh(&*environment, "echo fine").await.stdout, "fine\n");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_flood_of_output_is_read_and_cut() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let output = sh(&*environment, "head -c 50000000 /dev/zero | tr '\\0' x; echo end >&2").await;
    assert!(output.success());
    assert_eq!(output.stdout.len(), 1 << 20);
    assert_eq!(output.stderr, "end\n");
    let endless = Command::new("yes", Duration::from_secs(2));
    let error = timeout(SOON, environment.exec(&endless)).await.expect("bounded time").expect_err("an endless one");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(sh(&*environment, "echo fine").await.stdout, "fine\n");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_process_in_the_background_does_not_hold_its_command() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let command = Command::new("sleep 500 & echo begun", Duration::from_secs(400));
    let output = timeout(SOON, environment.exec(&command));
    assert_eq!(output.await.expect("bounded time").expect("it ended").stdout, "begun\n");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn memory_and_disk_are_bounded() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let hungry = sh(&*environment, "node -e 'const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1))'").await;
    assert_eq!(hungry.exit_code, 137, "{hungry:?}");
    let full = sh(&*environment, "dd if=/dev/zero of=big bs=1M count=100").await;
    assert!(full.stderr.contains("No space left"), "{full:?}");
    let error = environment.write_file("more", vec![0; 1 << 20].into()).await.expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    environment.delete_file("big").await.expect("deleting needs no room");
    environment.write_file("more", vec![0; 1 << 20].into()).await.expect("room again");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_killed_container_is_said_to_have_ended() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let id = environment.info().await.expect("it runs").container_id;
    let running = {
        let environment = Arc::clone(&environment);
        tokio::spawn(async move {
            environment.exec(&Command::new("touch begun; sleep 300", Duration::from_secs(300))).await
        })
    };
    while environment.read_file("begun").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    docker(&["kill", &id]);
    let error = timeout(SOON, running).await.expect("bounded time").expect("no panic").expect_err("it was killed");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for error in [
        environment.exec(&Command::new("true", SOON)).await.expect_err("it is dead"),
        environment.read_file("begun").await.expect_err("it is dead"),
        environment.info().await.expect_err("it is dead"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("has ended"), "{error}");
    }
    environment.destroy().await.expect("a dead one is removed");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn an_abandoned_command_is_ended() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let command = Command::new("sleep 4321", Duration::from_secs(600));
    drop(timeout(Duration::from_secs(2), environment.exec(&command)).await);
    let gone = async {
        while sh(&*environment, "ps -o args | grep -c '[s]leep 4321'").await.stdout.trim() != "0" {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, gone).await.expect("it is killed");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn the_fourth_environment_waits_in_line() {
    let subject = Docker::open_with(small().with_max_in_use(2)).await;
    let first = subject.environment().await;
    let second = subject.environment().await;
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let (builder, ears) = (Arc::clone(&subject.builder), Arc::clone(&heard));
        waiting.push(tokio::spawn(async move {
            let report = move |place| ears.lock().expect("no panic").push((number, place));
            let name = name();
            let creating = builder.create_environment(&name, TemplateKind::RemoteMcpAuthless);
            with_queue_report(report, creating).await
        }));
        let waits = async {
            while subject.builder.waiting() != number || heard.lock().expect("no panic").len() != number {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, waits).await.expect("it waits");
    }
    for (left, next) in [first, second].into_iter().zip(waiting) {
        left.destroy().await.expect("room for the next");
        let next = timeout(SOON, next).await.expect("its turn comes").expect("no panic").expect("an environment");
        assert_eq!(sh(&*next, "echo hi").await.stdout, "hi\n");
    }
    assert_eq!(*heard.lock().expect("no panic"), [(1, 1), (2, 2), (2, 1)]);
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn waiting_in_line_has_a_limit_and_names_the_place() {
    let config = small().with_max_in_use(1).with_queue_timeout(Duration::from_millis(300));
    let subject = Docker::open_with(config).await;
    let _first = subject.environment().await;
    let made = subject.builder.create_environment(&name(), TemplateKind::RemoteMcpAuthless).await;
    let error = made.expect_err("all are in use");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.message().contains("number 1 in line"), "{error}");
    subject.close().await;
}

fn name() -> metamcp_core::ServerName {
    "tested".parse().expect("a name")
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn twenty_builds_at_once_share_three_containers() {
    let subject = Docker::open().await;
    let builds = (0..20).map(|number| {
        let builder = Arc::clone(&subject.builder);
        async move {
            // Four sets of packages: those who come later find what the first have built.
            let is_odd = format!("3.0.{}", number % 2);
            let is_number = format!("{}.0.0", 6 + number / 2 % 2);
            let dependencies = json!({ "is-odd": is_odd, "is-number": is_number });
            let (source, settings) = project(&dependencies, &format!("await import('is-odd');\nreturn {number};"));
            builder.build(&source, &settings).await
        }
    });
    let watch = async {
        let mut most = 0;
        loop {
            most = most.max(containers_of(subject.folder.path()).len());
            assert!(most <= 3, "{most} containers at once");
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        built = timeout(Duration::from_secs(300), futures::future::join_all(builds)) => {
            for artifact in built.expect("bounded time") {
                assert!(artifact.expect("it builds").modules.contains_key("bodies/is-odd"));
            }
        }
        () = watch => {}
    }
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_build_past_its_limit_leaves_nothing() {
    let subject = Docker::open_with(config().with_build_timeout(Duration::from_millis(50))).await;
    let (source, settings) = project(&json!({ "semver": "7.7.2" }), "return 1;");
    let error = subject.builder.build(&source, &settings).await.expect_err("no time");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    subject.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn two_owners_of_one_folder_are_a_conflict_and_a_live_one_is_spared() {
    let subject = Docker::open_with(small()).await;
    let environment = subject.environment().await;
    let error = open_in(subject.folder.path(), small()).await.expect_err("it is owned");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // Another program starts, cleans up, and leaves this one's container alone.
    let other = Docker::open_with(small()).await;
    assert_eq!(sh(&*environment, "echo alive").await.stdout, "alive\n");
    other.close().await;
    subject.close().await;
}

/// Run by the test below in a process of its own.
#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn helper_that_is_killed() {
    let Ok(folder) = std::env::var("METAMCP_TEST_FOLDER") else { return };
    let builder = open_in(folder.as_ref(), small()).await.expect("a builder");
    let environment = builder.create_environment(&name(), TemplateKind::RemoteMcpAuthless).await.expect("one");
    std::fs::write(format!("{folder}/ready"), environment.info().await.expect("it runs").container_id).expect("a file");
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn containers_of_a_killed_program_are_removed_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "helper_that_is_killed", "--ignored"])
        .env("METAMCP_TEST_FOLDER", folder.path())
        .spawn()
        .expect("it starts");
    let ready = async {
        while !folder.path().join("ready").exists() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(300), ready).await.expect("it is ready");
    program.kill().expect("SIGKILL");
    program.wait().expect("it is dead");
    // The next start in that folder removes what outlived it; so would any other program on this machine.
    let other = Docker::open_with(small()).await;
    assert_eq!(containers_of(folder.path()), Vec::<String>::new());
    other.close().await;
    let builder = open_in(folder.path(), small()).await.expect("the folder is free again");
    builder.close().await.expect("it closes");
}
