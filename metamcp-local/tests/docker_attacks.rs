//! What code inside a container may try, with a real engine: each attack fails, and the host is untouched.
#![cfg(feature = "docker")]

mod containers;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use metamcp_core::{Builder, ErrorKind};
use serde_json::json;

use self::containers::{Docker, config, project, sh};

/// Sends a request to the registry proxy and prints the first line of the answer. Node, since busybox knows no sockets.
fn ask_proxy(head: &str) -> String {
    format!(
        "node -e 'const s = require(\"net\").connect(4873, \"127.0.0.1\", () => s.write({head}));\n\
         let text = \"\"; s.on(\"data\", d => {{ text += d; if (text.includes(\"\\r\\n\")) {{ console.log(text.split(\"\\r\\n\")[0]); s.destroy(); }} }});\n\
         s.on(\"error\", e => console.log(e.code)); s.on(\"close\", () => {{ if (!text) console.log(\"closed\"); }});'"
    )
}

/// An address of this machine that others reach it by, such as the one containers on a bridge know it by. Nothing is sent.
fn address_of_the_host() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("192.0.2.1:9").expect("a way out of this machine");
    let address = socket.local_addr().expect("an address").ip();
    assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
    address.to_string()
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn a_container_is_locked_down() {
    let docker_builder = Docker::open().await;
    let environment = docker_builder.environment().await;
    let status =
        sh(&*environment, "id -u; grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status").await.stdout;
    let lines: Vec<_> = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "1000");
    for line in ["CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1"] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    for folder in ["/", "/etc", "/usr/bin", "/opt/metamcp", "/node_modules", "/run/metamcp"] {
        let wrote = sh(&*environment, &format!("touch {folder}/x 2>&1")).await;
        assert!(!wrote.success(), "{folder}: {wrote:?}");
    }
    // The first process belongs to another user, so that a command can neither end it nor look into it.
    assert!(!sh(&*environment, "kill -KILL 1 2>&1").await.success());
    assert!(!sh(&*environment, "cat /proc/1/environ 2>&1").await.success());
    docker_builder.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn the_hosts_files_environment_and_docker_socket_are_out_of_reach() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let docker_builder = Docker::open().await;
    let environment = docker_builder.environment().await;
    let read = sh(&*environment, &format!("cat {} 2>&1", secret.path().display())).await;
    assert!(!read.success(), "{read:?}");
    let sockets = sh(&*environment, "find / -type s 2>/dev/null").await.stdout;
    assert_eq!(sockets, "/run/metamcp/proxy.sock\n");
    let variables = sh(&*environment, "env").await.stdout;
    for name in ["CARGO", "DOCKER_HOST", "USER=", "SSH_"] {
        assert!(!variables.contains(name), "{name}: {variables}");
    }
    docker_builder.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn there_is_no_network_but_a_proxy_that_knows_one_host() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port of the host");
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let port = listener.local_addr().expect("its port").port();
    let gateway = address_of_the_host();
    let docker_builder = Docker::open().await;
    let environment = docker_builder.environment().await;

    let interfaces = sh(&*environment, "ls /sys/class/net").await.stdout;
    assert_eq!(interfaces, "lo\n");
    for host in ["127.0.0.1", gateway.as_str(), "169.254.169.254", "10.0.0.1", "1.1.1.1"] {
        let direct = sh(&*environment, &format!("timeout 5 wget -q -O - -T 3 http://{host}:{port}/ 2>&1")).await;
        assert!(!direct.success(), "{host}: {direct:?}");
    }
    assert!(!sh(&*environment, "timeout 20 nslookup example.com 2>&1").await.success());

    let targets = [
        format!("127.0.0.1:{port}"),
        format!("{}:{port}", gateway.as_str()),
        "169.254.169.254:80".to_owned(),
        "localhost:22".to_owned(),
        "1.1.1.1:443".to_owned(),
        "example.com:443".to_owned(),
        "[::1]:443".to_owned(),
    ];
    // The registry itself, on another port, below another name, and with a user in front.
    let registry = sh(&*environment, "npm config get registry").await.stdout;
    let host = registry.trim().trim_start_matches("https://").split(['/', ':']).next().unwrap_or_default().to_owned();
    let beside =
        [format!("{host}:80"), format!("{host}.evil.example:443"), format!("x@{host}:443"), format!("{host}.:443")];
    for target in targets.iter().chain(&beside) {
        let head = format!("\"CONNECT {target} HTTP/1.1\\r\\nHost: {host}:443\\r\\n\\r\\n\"");
        assert_eq!(sh(&*environment, &ask_proxy(&head)).await.stdout, "HTTP/1.1 403 Forbidden\n", "{target}");
    }
    for head in [
        format!("\"GET http://127.0.0.1:{port}/ HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n\""),
        format!("\"CONNECT {host}:443 HTTP/1.1 CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n\""),
    ] {
        assert_eq!(sh(&*environment, &ask_proxy(&head)).await.stdout, "HTTP/1.1 405 Method Not Allowed\n", "{head}");
    }
    let endless = "\"CONNECT \" + \"a\".repeat(100000)";
    assert_eq!(sh(&*environment, &ask_proxy(endless)).await.stdout.lines().next(), Some("closed"));
    assert!(listener.accept().is_err(), "somebody came through");
    // npm itself gets through, and follows no redirect elsewhere: that would be another CONNECT.
    assert!(sh(&*environment, "npm view is-odd@3.0.1 version").await.stdout.contains("3.0.1"));
    docker_builder.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn no_path_leaves_the_workspace() {
    let docker_builder = Docker::open().await;
    let environment = docker_builder.environment().await;
    let links = "ln -s /etc/passwd out; ln -s /tmp outdir; ln -s ../../../etc up; ln -s /tmp/absent dangling; \
                 mkdir in; echo inside >in/file; ln -s in alias; ln -s /app/in/file /tmp/link; mkfifo pipe; \
                 mkdir /app2 2>/dev/null; ln -s /app2 near; ln -s loop loop";
    sh(&*environment, links).await;
    let outside =
        ["/etc/passwd", "../etc/passwd", "a/../../etc/passwd", "out", "outdir/x", "up/passwd", "dangling", "near/x"];
    for path in outside {
        for error in [
            environment.read_file(path).await.expect_err(path),
            environment.write_file(path, "x".into()).await.expect_err(path),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error}");
        }
    }
    assert_eq!(environment.list_files("outdir").await.expect_err("a link").kind(), ErrorKind::PermissionDenied);
    assert_eq!(environment.delete_file("up/passwd").await.expect_err("a link").kind(), ErrorKind::PermissionDenied);
    // A link that stays inside works; a link is removed itself; nobody waits for a pipe.
    assert_eq!(environment.read_file("alias/file").await.expect("a link inside"), "inside\n");
    environment.delete_file("out").await.expect("the link alone");
    assert_eq!(environment.read_file("pipe").await.expect_err("a pipe").kind(), ErrorKind::Conflict);
    assert!(environment.read_file("loop").await.is_err());
    assert!(sh(&*environment, "test -s /etc/passwd").await.success());
    // A path is an argument, never text of a command.
    environment.write_file("$(touch hacked)`touch hacked`; touch hacked", "x".into()).await.expect("an odd name");
    assert!(!environment.list_files("").await.expect("a list").contains(&"hacked".to_owned()));
    docker_builder.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn install_scripts_run_only_where_they_are_allowed() {
    let (source, settings) = project(&json!({ "esbuild": "0.28.2" }), "return 1;");
    let without = Docker::open_with(config().with_warm(0)).await;
    without.builder.build(&source, &settings).await.expect("a build without scripts");
    let environment = without.environment().await;
    environment
        .write_file(
            "evil/package.json",
            r#"{"name":"evil","version":"1.0.0","scripts":{"install":"touch /app/ran"}}"#.into(),
        )
        .await
        .expect("a package");
    environment.write_file("user/package.json", r#"{"name":"user"}"#.into()).await.expect("a project");
    let installed = sh(&*environment, "cd user && npm install ../evil && ls node_modules").await;
    assert!(installed.stdout.contains("evil"), "{installed:?}");
    assert!(!environment.list_files("").await.expect("a list").contains(&"ran".to_owned()));
    // It would have run: what stopped it is the setting.
    sh(
        &*environment,
        "cd evil && npm rebuild --ignore-scripts=false; cd ../user && npm rebuild --ignore-scripts=false",
    )
    .await;
    assert!(environment.list_files("").await.expect("a list").contains(&"ran".to_owned()));
    without.close().await;

    let allowed = Docker::open_with(config().with_warm(0).with_install_scripts_of("esbuild")).await;
    allowed.builder.build(&source, &settings).await.expect("a build with a script");
    allowed.close().await;
}

#[tokio::test]
#[ignore = "needs a Docker engine"]
async fn packages_that_are_not_listed_are_refused_by_name() {
    let docker_builder = Docker::open_with(config().with_allowed_packages(["is-odd"])).await;
    let (source, settings) = project(&json!({ "left-pad": "1.3.0", "is-odd": "3.0.1" }), "return 1;");
    let error = docker_builder.builder.build(&source, &settings).await.expect_err("it is not listed");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("left-pad") && !error.message().contains("is-odd"), "{error}");
    docker_builder.close().await;
}
