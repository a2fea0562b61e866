//! What code inside a server's process can reach, and what other users of the machine can.

mod attacks;
mod support;

use std::os::unix::fs::MetadataExt;

use metamcp_core::Publisher;
use metamcp_local::Isolation;
use secrecy::SecretString;
use serde_json::json;
use support::{Local, artifact, call, processes_of, server, worker};

attacks::against!(Isolation::Auto);

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_written_nowhere_but_in_its_file() {
    let local = Local::open().await;
    let name = server("mine");
    let value = "very-secret-value";
    local.publisher.set_secret(&name, &"TOKEN".parse().unwrap(), SecretString::from(value)).await.unwrap();
    let mut built = artifact(&name, &worker("say(_, env) { console.log(env.TOKEN); throw new Error(env.TOKEN); }"));
    built.settings.secrets = vec!["TOKEN".parse().unwrap()];
    let (_, endpoint) = local.deploy_artifact(&name, &built).await;
    call(&endpoint, "say", json!({})).await;
    for pid in processes_of(&local.config) {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&arguments).contains(value));
    }
    assert!(!format!("{:?}", local.publisher).contains(value));
    local.publisher.close().await.unwrap();
    let holders: Vec<_> = local.files().into_iter().filter(|file| holds(&local, file, value)).collect();
    assert_eq!(holders, [format!("servers/{}/secrets.json", name.id)]);
}

fn holds(local: &Local, file: &str, value: &str) -> bool {
    let bytes = std::fs::read(local.config.data_dir.join(file)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).contains(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_can_neither_enter_folders_nor_read_files() {
    let local = Local::open().await;
    let name = server("mine");
    local.publisher.set_secret(&name, &"TOKEN".parse().unwrap(), SecretString::from("x")).await.unwrap();
    let (_, endpoint) = local.deploy(&name, &worker("say() { console.log('x'); return 1; }")).await;
    call(&endpoint, "say", json!({})).await;
    let root = std::fs::metadata(&local.config.data_dir).unwrap();
    assert_eq!(root.mode() & 0o777, 0o700);
    for file in local.files() {
        let metadata = std::fs::symlink_metadata(local.config.data_dir.join(&file)).unwrap();
        let mode = metadata.mode() & 0o777;
        // A socket is made by workerd; that nobody else can enter its folder is what protects it.
        let is_socket = file.starts_with("run/") && file.ends_with("/s");
        assert!(is_socket || mode == if metadata.is_dir() { 0o700 } else { 0o600 }, "{file}: {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bubblewrap"]
async fn a_process_in_bubblewrap_sees_neither_the_users_files_nor_other_processes() {
    let local = Local::open_with(|config| config.with_isolation(Isolation::Bubblewrap)).await;
    let name = server("boxed");
    let (_, endpoint) = local.deploy(&name, &worker("hello() { return 'hello'; }")).await;
    assert_eq!(call(&endpoint, "hello", json!({})).await["result"], "hello");
    let boxed = processes_of(&local.config).into_iter().find(|pid| {
        // The innermost process has an id in a namespace of its own beside the one in ours.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_workerd = status.starts_with("Name:\tworkerd\n");
        is_workerd && status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2)
    });
    let root = format!("/proc/{}/root", boxed.expect("workerd runs in a namespace"));
    let mut names: Vec<_> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| ["home", "root", "var", "bin", "opt"].contains(&name.as_str()));
    assert_eq!(names, Vec::<String>::new());
    let data = format!("{root}{}", local.config.data_dir.canonicalize().unwrap().display());
    let seen: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(seen, ["run"]);
}
