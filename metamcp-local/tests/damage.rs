//! A data directory with a file that cannot be read, or with what a removal left: the rest of it is served.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

mod live;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use live::{Client, Era, Live};
use metamcp_core::{Publisher, ServerKey, ServerRef};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{Local, open, server, worker};

fn definition(name: &str) -> Value {
    json!({
        "name": name, "description": "Says its name.",
        "tools": [{ "name": "name", "description": "Its name.", "implementation": format!("return '{name}';") }]
    })
}

fn only_file(folder: &Path, has: impl Fn(&str) -> bool) -> PathBuf {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = paths.filter(|path| has(&fs::read_to_string(path).unwrap_or_default())).collect();
    let [path] = found.as_slice() else { panic!("one file was expected in {}: {found:?}", folder.display()) };
    path.clone()
}

fn cut(path: &Path, length: usize) {
    let content = fs::read(path).unwrap();
    fs::write(path, &content[..length]).unwrap();
}

/// A server that is hurt, and one beside it that has the same modules.
struct Two {
    live: Live,
    hurt: ServerKey,
    urls: [String; 2],
}

impl Two {
    async fn deploy() -> Self {
        let live = Live::open().await;
        let well = live.deploy(definition("well")).await;
        let hurt = live.deploy(definition("hurt")).await;
        Self { live, hurt: hurt.server_id.into(), urls: [well, hurt].map(|server| server.url.to_string()) }
    }

    fn data(&self) -> &Path {
        &self.live.config.data_dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data().join("servers").join(self.hurt.to_string()).join(name)
    }

    fn version_file(&self) -> PathBuf {
        only_file(&self.file("versions"), |_| true)
    }

    fn bundle(&self) -> PathBuf {
        only_file(&self.data().join("bundles"), |text| text.contains("return 'hurt'"))
    }

    async fn reopen_after(self, damage: impl FnOnce()) -> Self {
        Self { live: self.live.reopen_after(async { damage() }).await, ..self }
    }

    async fn answers(&self, number: usize) {
        let client = Client::connect(&self.urls[number], Era::Discover).await;
        assert_eq!(client.text("name", json!({})).await, ["well", "hurt"][number]);
    }

    /// The other one answers; this one says what to do, and that works.
    async fn is_healed_by_a_deployment(&self) {
        self.answers(0).await;
        let refused = live::http::request(&self.urls[1], Era::Discover, "tools/list", &json!({})).await;
        let problem = refused.last()["error"]["message"].as_str().unwrap_or_else(|| panic!("{refused:?}"));
        assert!(problem.ends_with("deploy the server again"), "{problem}");
        self.live.meta.deployments().deploy(&self.hurt).await.unwrap();
        self.answers(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_stops_its_own_server_only_until_that_is_deployed_again() {
    let two = Two::deploy().await;
    let bundle = two.bundle();
    let two = two.reopen_after(|| cut(&bundle, 200)).await;
    two.is_healed_by_a_deployment().await;
    let two = two.reopen_after(|| fs::remove_file(&bundle).unwrap()).await;
    two.is_healed_by_a_deployment().await;
    // What was healed has modules that the other one had too.
    two.live.meta.deployments().remove(&"well".parse().unwrap()).await.unwrap();
    let two = two.reopen_after(|| {}).await;
    two.answers(1).await;
    two.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_version_stops_its_own_server_only_and_what_it_named_stays() {
    let two = Two::deploy().await;
    let (version, bundle) = (two.version_file(), two.bundle());
    let whole = fs::read(&version).unwrap();
    let two = two.reopen_after(|| cut(&version, 0)).await;
    two.answers(0).await;
    assert!(bundle.is_file());
    // As from a backup.
    let two = two.reopen_after(|| fs::write(&version, &whole).unwrap()).await;
    two.answers(1).await;
    let two = two.reopen_after(|| cut(&version, 0)).await;
    two.is_healed_by_a_deployment().await;
    two.live.meta.deployments().remove(&two.hurt).await.unwrap();
    assert!(!two.file("").exists());
    two.live.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_knows_of_a_server_is_written_again() {
    let mut two = Two::deploy().await;
    for name in ["server.json", "active"] {
        let path = two.file(name);
        two = two.reopen_after(|| cut(&path, 0)).await;
        two.answers(0).await;
        two.answers(1).await;
        assert!(!fs::read(&path).unwrap().is_empty(), "{name}");
    }
    let port = two.data().join("gateway-port.json");
    let two = two.reopen_after(|| cut(&port, 0)).await;
    two.live.meta.deployments().verify(&two.hurt).await.unwrap();
    two.live.close().await;
}

/// A server with a secret, deployed.
async fn deploy_with_secret(local: &Local) -> (ServerRef, PathBuf) {
    let weather = server("weather");
    local.publisher.set_secret(&weather, &"TOKEN".parse().unwrap(), SecretString::from("x")).await.unwrap();
    local.deploy(&weather, &worker("hello() { return 'hello'; }")).await;
    let folder = local.config.data_dir.join("servers").join(weather.id.to_string());
    assert!(folder.join("secrets.json").is_file());
    (weather, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removal_left_is_gone_once_the_directory_is_opened_again() {
    let local = Local::open().await;
    let empty = local.files();
    let (_, folder) = deploy_with_secret(&local).await;
    local.publisher.close().await.unwrap();
    let Local { folder: data, config, publisher } = local;
    drop(publisher);
    // The first step of a removal, after which its program was killed.
    fs::remove_file(folder.join("server.json")).unwrap();
    let publisher = open(&config).await.unwrap();
    let local = Local { folder: data, config, publisher };
    assert_eq!(local.files(), empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_failed_is_finished_by_the_next_one() {
    let local = Local::open().await;
    let empty = local.files();
    let (weather, folder) = deploy_with_secret(&local).await;
    // What no file can be removed as.
    let file = folder.join("server.json");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    local.publisher.unpublish(&weather).await.unwrap_err();
    fs::remove_dir(&file).unwrap();
    local.publisher.unpublish(&weather).await.unwrap();
    assert_eq!(local.files(), empty);
    // Its name is free again.
    local.deploy(&server("weather"), &worker("hello() { return 'hello'; }")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_read_can_be_removed() {
    let local = Local::open().await;
    let empty = local.files();
    let (weather, folder) = deploy_with_secret(&local).await;
    local.publisher.close().await.unwrap();
    let Local { folder: data, config, publisher } = local;
    drop(publisher);
    cut(&folder.join("server.json"), 0);
    let publisher = open(&config).await.unwrap();
    let local = Local { folder: data, config, publisher };
    assert!(local.publisher.list_servers().await.unwrap().is_empty());
    local.publisher.unpublish(&weather).await.unwrap();
    assert!(!folder.exists());
    local.publisher.close().await.unwrap();
    let Local { folder: data, config, publisher } = local;
    drop(publisher);
    let publisher = open(&config).await.unwrap();
    assert_eq!((Local { folder: data, config, publisher }).files(), empty);
}
