//! The Container Manager gets into an account: by our own hand, and by wrangler's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use account::{Account, ID, TOKEN, toolchain};
use metamcp_cloudflare::{
    CloudflareConfig, ContainerBuilder, ContainerManagerConfig, ContainerManagerPlan, ContainerManagerSetup,
    deploy_container_manager,
};
use metamcp_cloudflare_emulator::{Effect, Fault};
use metamcp_core::bundle::{BundleBuilder, Toolchain};
use metamcp_core::{ErrorKind, Result, ServerDefinition};
use serde_json::{Value, json};

const KEY: &str = "a-key-of-the-tests-that-is-long-enough";
const IMAGE: &str = "docker.io/example/containers-manager:v1";

fn plan(folder: &Path) -> ContainerManagerPlan {
    ContainerManagerPlan::new(KEY.into()).unwrap().with_folder(folder)
}

async fn deploy(account: &Account, plan: &ContainerManagerPlan) -> Result<ContainerManagerSetup> {
    deploy_container_manager(&account.config(), plan).await
}

async fn open(url: &str, key: &str) -> Result<ContainerBuilder> {
    let bundle = BundleBuilder::new(Toolchain::install(&toolchain()).await.unwrap());
    ContainerBuilder::open(ContainerManagerConfig::new(url, key.into()).unwrap(), Arc::new(bundle)).await
}

async fn applications(account: &Account) -> Vec<Value> {
    let url = format!("{}/accounts/{ID}/containers/applications", account.emulator.base_url());
    let answer = reqwest::Client::new().get(url).bearer_auth(TOKEN).send().await.unwrap();
    let mut answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    serde_json::from_value(answer["result"].take()).unwrap()
}

fn requests(account: &Account, method: &str, path: &str) -> usize {
    let seen = account.emulator.faults().seen();
    seen.iter().filter(|seen| seen.method == method && seen.path.ends_with(path)).count()
}

#[tokio::test]
async fn what_the_api_can_do_is_done_and_the_rest_is_a_command() {
    let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    let setup = deploy(&account, &plan(folder.path())).await.unwrap();
    let [command] = setup.to_run.as_slice() else { panic!("{setup:?}") };
    assert!(command.contains("wrangler@") && command.contains("containers build --push"), "{command}");
    for file in ["Dockerfile", "wrangler.jsonc", "image/scripts/bundle.mjs", "src/index.ts"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    assert!(setup.image.starts_with(&format!("registry.cloudflare.com/{ID}/containers-manager:v")), "{}", setup.image);
    assert_eq!(applications(&account).await, Vec::<Value>::new());

    // The Worker answers already, to who has the key.
    open(setup.url.as_str(), KEY).await.unwrap();
    let error = open(setup.url.as_str(), "another-key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!error.to_string().contains(KEY) && error.to_string().contains("MANAGER_KEY"), "{error}");
    let elsewhere = account.emulator.workers_dev_url();
    assert_eq!(open(&elsewhere, KEY).await.unwrap_err().kind(), ErrorKind::ConfigInvalid);

    let with_image = deploy(&account, &plan(folder.path()).with_image(&setup.image)).await.unwrap();
    assert_eq!(with_image.to_run, Vec::<String>::new());
    let [application] = applications(&account).await.try_into().unwrap();
    assert_eq!(application["configuration"], json!({ "image": setup.image, "instance_type": "standard-4" }));
    assert_eq!(application["max_instances"], 3);
}

#[tokio::test]
async fn a_new_image_is_rolled_out_and_the_same_one_is_left_alone() {
    let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    for image in [IMAGE, IMAGE, "docker.io/example/containers-manager:v2"] {
        deploy(&account, &plan(folder.path()).with_image(image)).await.unwrap();
    }
    assert_eq!(requests(&account, "POST", "containers/applications"), 1);
    assert_eq!(requests(&account, "POST", "/rollouts"), 1);
    let [application] = applications(&account).await.try_into().unwrap();
    assert_eq!(application["configuration"]["image"], "docker.io/example/containers-manager:v2");
    assert_eq!(application["version"], 2);
}

#[tokio::test]
async fn a_lost_answer_makes_nothing_twice() {
    for (method, path) in
        [("PUT", "/workers/scripts/"), ("POST", "/subdomain"), ("POST", "/containers/applications"), ("GET", "")]
    {
        let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
        let lost = Fault {
            method: Some(method.to_owned()),
            path: path.to_owned(),
            skip: 0,
            times: 1,
            effect: Effect::DropAnswer,
        };
        account.emulator.faults().add(lost);
        let setup = deploy(&account, &plan(folder.path()).with_image(IMAGE)).await;
        let setup = setup.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(applications(&account).await.len(), 1, "{method} {path}");
        open(setup.url.as_str(), KEY).await.unwrap();
    }
}

#[tokio::test]
async fn a_class_has_one_application_if_it_is_a_container() {
    let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    deploy(&account, &plan(folder.path()).with_image(IMAGE)).await.unwrap();
    let [known] = applications(&account).await.try_into().unwrap();
    let ask = async |method: reqwest::Method, path: String, body: Value| {
        let url = format!("{}/accounts/{ID}/containers/applications{path}", account.emulator.base_url());
        let request = reqwest::Client::new().request(method, url).bearer_auth(TOKEN).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (answer["errors"][0]["code"].clone(), answer["errors"][0]["message"].clone())
    };
    let wanted = |namespace: &Value| json!({ "name": "another", "configuration": { "image": IMAGE }, "durable_objects": { "namespace_id": namespace } });
    let (code, message) =
        ask(reqwest::Method::POST, String::new(), wanted(&known["durable_objects"]["namespace_id"])).await;
    let details: Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
    assert_eq!((code, &details["details"]["id"]), (json!(1_608), &known["id"]));
    let (code, _) = ask(reqwest::Method::POST, String::new(), wanted(&json!("0".repeat(32)))).await;
    assert_eq!(code, 1_607);
    let (code, _) = ask(reqwest::Method::DELETE, "/no-such-application".to_owned(), json!({})).await;
    assert_eq!(code, 1_609);
}

#[tokio::test]
async fn only_who_has_no_subdomain_is_told_to_choose_one() {
    let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    for (status, is_told) in [(404, true), (403, false)] {
        let refused = Fault {
            method: Some("GET".to_owned()),
            path: "/workers/subdomain".to_owned(),
            skip: 0,
            times: 1,
            effect: Effect::Refuse { status, retry_after: None },
        };
        account.emulator.faults().add(refused);
        let error = deploy(&account, &plan(folder.path())).await.unwrap_err();
        assert_eq!(error.to_string().contains("choose a workers.dev subdomain"), is_told, "{error}");
    }
}

#[tokio::test]
async fn a_worker_of_somebody_else_is_left_alone() {
    let (account, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-11-01" });
    let module = reqwest::multipart::Part::text("export default { fetch: () => new Response('foreign') };");
    let module = module.file_name("index.js").mime_str("application/javascript+module").unwrap();
    let form = reqwest::multipart::Form::new().text("metadata", metadata.to_string()).part("index.js", module);
    let url = format!("{}/accounts/{ID}/workers/scripts/containers-manager", account.emulator.base_url());
    reqwest::Client::new().put(url).bearer_auth(TOKEN).multipart(form).send().await.unwrap();
    let error = deploy(&account, &plan(folder.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(requests(&account, "PUT", "containers-manager"), 1);
}

#[tokio::test]
async fn without_a_container_manager_the_error_says_how_to_get_one() {
    let account = Account::start().await;
    let meta = metamcp_cloudflare::open(account.config()).await.unwrap();
    let definition: ServerDefinition = serde_json::from_value(json!({
        "name": "packaged", "description": "Uses npm.", "dependencies": { "is-odd": "3.0.1" },
        "tools": [{ "name": "tool", "description": "Uses it.", "implementation": "return 1;" }]
    }))
    .unwrap();
    let record = meta.servers().create(&definition).await.unwrap();
    let error = meta.deployments().deploy(&record.id.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("CLOUDFLARE_CONTAINER_MANAGER_URL"), "{error}");
    meta.close().await.unwrap();
}

#[tokio::test]
async fn a_container_manager_that_is_not_there_is_said_to_be_the_reason() {
    let account = Account::start().await;
    let nobody = ContainerManagerConfig::new("http://127.0.0.1:9/", KEY.into()).unwrap();
    let impatient = nobody.with_retry(metamcp_cloudflare::RetryPolicy::new(1, Duration::from_secs(60)));
    let config: CloudflareConfig = account.config().with_container_manager(impatient);
    let error = metamcp_cloudflare::open(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("Container Manager"), "{error}");
}

/// Stands for Docker's client: builds and pushes nothing, and says what wrangler wants to hear.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" >>"$0.log"
case "$1 $2 $5" in
  build*|login*) cat >/dev/null ;;
  "image inspect {{ json .RepoDigests }}")
    case "$3" in
      registry.cloudflare.com/*) echo "[\"${3%:*}@sha256:$(printf %064d 7)\"]" ;;
      *) echo "[]" ;;
    esac ;;
  "image inspect {{ .Size }} {{ len .RootFS.Layers }}") echo "1000000 3" ;;
  "image inspect {{ .Os }}/{{ .Architecture }}") echo linux/amd64 ;;
esac
"#;

/// A command with wrangler's environment, in a project's folder; what it says.
async fn run(account: &Account, folder: &Path, line: &str, input: &str) -> String {
    let docker = folder.join("docker-stub");
    if !docker.exists() {
        std::fs::write(&docker, DOCKER).unwrap();
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let command = tokio::process::Command::new("sh")
        .args(["-c", &format!("printf %s \"$INPUT\" | {line}")])
        .current_dir(folder)
        .env("INPUT", input)
        .env("HOME", folder)
        .env("CLOUDFLARE_API_BASE_URL", account.emulator.base_url())
        .env("CLOUDFLARE_API_TOKEN", TOKEN)
        .env("CLOUDFLARE_ACCOUNT_ID", ID)
        .env("WRANGLER_DOCKER_BIN", docker)
        .env("WRANGLER_SEND_METRICS", "false")
        .env("CI", "true")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(300), command).await.expect("it ends in time").unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{line}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node 22"]
async fn wrangler_and_we_deploy_the_same_thing() {
    let (elsewhere, folder) = (Account::start().await, tempfile::tempdir().unwrap());
    let setup = deploy(&elsewhere, &plan(folder.path())).await.unwrap();
    let account = Account::start().await;
    let folder = folder.path();
    run(&account, folder, "npm install --ignore-scripts --no-audit --no-fund", "").await;
    let said = run(&account, folder, "npx wrangler deploy", "").await;
    assert!(said.contains("https://containers-manager.emulator.workers.dev"), "{said}");
    run(&account, folder, "npx wrangler secret put CONTAINER_MANAGER_KEY", KEY).await;
    let url = format!("{}containers-manager.emulator.workers.dev/", account.emulator.workers_dev_url());
    open(&url, KEY).await.unwrap();
    let [made] = applications(&account).await.try_into().unwrap();
    assert_eq!((&made["configuration"]["instance_type"], &made["max_instances"]), (&json!("standard-4"), &json!(3)));

    // What wrangler deployed, we take over, and the other way round.
    let ours = deploy(&account, &plan(folder).with_image(IMAGE)).await.unwrap();
    assert_eq!(ours.url.as_str(), url);
    let [taken_over] = applications(&account).await.try_into().unwrap();
    assert_eq!(taken_over["id"], made["id"]);
    assert_eq!(taken_over["configuration"]["image"], IMAGE);
    run(&account, folder, "npx wrangler deploy", "").await;
    let [given_back] = applications(&account).await.try_into().unwrap();
    assert_eq!((&given_back["id"], &given_back["configuration"]), (&made["id"], &made["configuration"]));
    open(&url, KEY).await.unwrap();

    // The command that is left to run, in wrangler's own words.
    std::fs::remove_file(folder.join("docker-stub.log")).unwrap();
    run(&account, folder, &setup.to_run[0], "").await;
    let log = std::fs::read_to_string(folder.join("docker-stub.log")).unwrap();
    assert!(log.lines().any(|line| line == format!("push {}", setup.image)), "{log}");
}
