//! The Docker builder with a real engine: packages, environments, and the promises of the traits.
#![cfg(feature = "docker")]

mod containers;

use std::time::Duration;

use metamcp_core::OutputStream::{Stderr, Stdout};
use metamcp_core::contract::Subject;
use metamcp_core::contract::builder::BuilderCapabilities;
use metamcp_core::{Builder, Command, ErrorKind, ModuleKind, OutputChunk, SourceTree, WorkerSettings};
use serde_json::json;
use tokio::sync::mpsc;

use self::containers::{Docker, project, sh, with_variable};

mod contract {
    metamcp_core::builder_contract!(
        ignore = "needs a Docker engine",
        super::subject(),
        super::numbered,
        super::BuilderCapabilities { dependencies: true, environments: true }
    );
}

async fn subject() -> Subject<dyn Builder> {
    let Docker { builder, folder } = Docker::open().await;
    Subject::<dyn Builder>::new(builder).keeping(folder)
}

fn numbered(number: u32) -> (SourceTree, WorkerSettings) {
    project(&json!({}), &format!("return {number};"))
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn what_bodies_import_becomes_modules_beside_them() {
    let docker = Docker::open().await;
    let body = "const { default: isOdd } = await import('is-odd');\nconst { gt } = await import('semver');\n\
                return isOdd(3) && gt('2.0.0', '1.0.0');";
    let (source, settings) = project(&json!({ "is-odd": "3.0.1", "semver": "^7.7.0" }), body);
    let artifact = docker.builder.build(&source, &settings).await.unwrap();
    for name in ["bodies/is-odd", "bodies/semver"] {
        assert_eq!(artifact.modules[name].kind, ModuleKind::EsModule);
    }
    // Bodies stay as they were written, so that errors name their lines.
    let own = artifact.modules.iter().find(|(name, _)| name.starts_with("bodies/tool-")).unwrap();
    assert!(String::from_utf8_lossy(&own.1.content).contains(body));
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn the_lock_file_gives_a_rebuild_the_same_bytes() {
    let docker = Docker::open().await;
    let (source, settings) = project(&json!({ "semver": "^7.0.0" }), "return (await import('semver')).valid('1.0.0');");
    let first = docker.builder.build(&source, &settings).await.unwrap();
    // The bundle is lost, the lock file is not: the packages are installed again.
    let kept = docker.folder.path().join("packages");
    let kept = std::fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    for file in std::fs::read_dir(&kept).unwrap().map(|file| file.unwrap().path()) {
        if !file.ends_with("package-lock.json") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let second = docker.builder.build(&source, &settings).await.unwrap();
    assert_eq!(first.digest(), second.digest());
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_package_that_does_not_exist_fails_the_build_in_npms_words() {
    let docker = Docker::open().await;
    let (source, settings) = project(&json!({ "is-odd": "99.0.0" }), "return 1;");
    let error = docker.builder.build(&source, &settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BuildFailed, "{error}");
    assert!(error.message().contains("is-odd"), "{error}");
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn an_environment_says_what_is_in_it() {
    let docker = Docker::open().await;
    let environment = docker.environment().await;
    let info = environment.info().await.unwrap();
    assert!(info.node_version.starts_with("22."), "{info:?}");
    assert_eq!(info.wrangler_version, "4.164.0");
    assert!(info.available_templates.contains(&"remote-mcp-authless".to_owned()), "{info:?}");
    // The template's files are there, and its packages are found.
    assert!(environment.list_files("src").await.unwrap().contains(&"index.ts".to_owned()));
    let line = "node -e 'import(\"@modelcontextprotocol/server\").then(sdk => console.log(typeof sdk.McpServer))'";
    assert_eq!(sh(&*environment, line).await.stdout, "function\n");
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_command_has_its_folder_variables_output_and_exit_code() {
    let docker = Docker::open().await;
    let environment = docker.environment().await;
    environment.write_file("some folder/x", "".into()).await.unwrap();
    let mut command = with_variable("pwd; echo \"$WORD\" >&2; exit 7", "WORD", "a 'quoted' $word");
    command.working_directory = "some folder".to_owned();
    let output = environment.exec(&command).await.unwrap();
    assert_eq!(output.stdout, "/app/some folder\n");
    assert_eq!(output.stderr, "a 'quoted' $word\n");
    assert_eq!((output.exit_code, output.success()), (7, false));
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn output_is_streamed_in_order_while_the_command_runs() {
    let docker = Docker::open().await;
    let environment = docker.environment().await;
    // It goes on only after what it wrote was seen.
    let line = "echo one; until [ -e seen1 ]; do sleep 0.02; done; echo two >&2; until [ -e seen2 ]; do sleep 0.02; done; \
                echo three";
    let (sender, mut receiver) = mpsc::channel(1);
    let watch = async {
        let mut seen = Vec::new();
        while let Some(OutputChunk { stream, content }) = receiver.recv().await {
            seen.push((stream, String::from_utf8(content.to_vec()).unwrap()));
            environment.write_file(&format!("seen{}", seen.len()), "".into()).await.unwrap();
        }
        seen
    };
    let command = Command::new(line, Duration::from_secs(60));
    let (output, seen) = tokio::join!(environment.exec_streaming(&command, sender), watch);
    let expected = [(Stdout, "one\n"), (Stderr, "two\n"), (Stdout, "three\n")];
    assert_eq!(seen, expected.map(|(stream, text)| (stream, text.to_owned())));
    let output = output.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\nthree\n", "two\n"));
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn files_are_binary_safe_and_listed() {
    let docker = Docker::open().await;
    let environment = docker.environment().await;
    let every_byte: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    environment.write_file("a/b/every byte.bin", every_byte.clone().into()).await.unwrap();
    assert_eq!(environment.read_file("a/b/every byte.bin").await.unwrap(), every_byte);
    environment.write_file("a/-rf", "dash".into()).await.unwrap();
    environment.write_file("a/ü\nline", "x".into()).await.unwrap();
    environment.write_file("a/.hidden", "x".into()).await.unwrap();
    assert_eq!(environment.list_files("a").await.unwrap(), ["-rf", ".hidden", "b/", "ü\nline"]);
    environment.delete_file("a/-rf").await.unwrap();
    environment.delete_file("a/-rf").await.unwrap();
    assert_eq!(environment.read_file("a/-rf").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(environment.list_files("absent").await.unwrap_err().kind(), ErrorKind::NotFound);
    environment.delete_file("a").await.unwrap();
    assert!(!environment.list_files("").await.unwrap().contains(&"a/".to_owned()));
    docker.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_command_past_its_timeout_is_killed_with_its_children() {
    let docker = Docker::open().await;
    let environment = docker.environment().await;
    let line = "trap '' TERM INT HUP; (setsid sleep 1000 &) ; sleep 1000 & echo begun; sleep 1000";
    let error = environment.exec(&Command::new(line, Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("begun"), "{error}");
    let left = sh(&*environment, "ps -o args | grep -c '[s]leep 1000'").await;
    assert_eq!(left.stdout.trim(), "0", "{left:?}");
    docker.close().await;
}
