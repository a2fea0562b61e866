//! Promises of [`Publisher`](crate::Publisher) that need no client. `artifact` makes a small artifact that starts on
//! the target, another one for each number.

use secrecy::SecretString;
use uuid::Uuid;

use crate::ErrorKind;
use crate::artifact::Artifact;
use crate::name::{EnvName, ServerId, ServerName, VersionId};
use crate::publisher::{LogOptions, Publisher, ServerRef};

/// Makes an artifact for a server.
pub type MakeArtifact = fn(&ServerName, u32) -> Artifact;

/// A server nobody else uses.
fn unique_server() -> ServerRef {
    let id = Uuid::new_v4().simple().to_string();
    let name = format!("contract-{}", &id[..16]).parse().expect("a valid name");
    ServerRef { id: ServerId::random(), name }
}

async fn stage(publisher: &dyn Publisher, server: &ServerRef, artifact: &Artifact) -> VersionId {
    publisher.stage(server, artifact).await.unwrap().version
}

async fn live(publisher: &dyn Publisher, server: &ServerRef) -> Vec<VersionId> {
    let versions = publisher.list_versions(server).await.unwrap();
    versions.into_iter().filter(|version| version.active).map(|version| version.version).collect()
}

/// Staging is for looking at a version before anybody else does.
pub async fn a_staged_version_is_not_live(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let artifact = artifact(&server.name, 1);
    let staged = stage(publisher, &server, &artifact).await;
    let versions = publisher.list_versions(&server).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!((&versions[0].version, versions[0].artifact, versions[0].active), (&staged, artifact.digest(), false));
    assert_eq!(publisher.endpoint(&server).await.unwrap_err().kind(), ErrorKind::NotFound);
    publisher.unpublish(&server).await.unwrap();
}

/// One version is live, and the endpoint is the same whichever it is.
pub async fn activating_a_version_makes_it_the_live_one(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let mut urls = Vec::new();
    for number in [1, 2] {
        let version = stage(publisher, &server, &artifact(&server.name, number)).await;
        let endpoint = publisher.activate(&server, &version).await.unwrap();
        assert_eq!(publisher.endpoint(&server).await.unwrap().url, endpoint.url);
        assert_eq!(live(publisher, &server).await, [version]);
        urls.push(endpoint.url);
    }
    assert_eq!(urls[0], urls[1]);
    publisher.unpublish(&server).await.unwrap();
}

/// A deploy that is repeated after a crash may activate again.
pub async fn activating_twice_is_the_same_as_once(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    let first = publisher.activate(&server, &version).await.unwrap();
    let second = publisher.activate(&server, &version).await.unwrap();
    assert_eq!(first.url, second.url);
    assert_eq!(live(publisher, &server).await, [version]);
    publisher.unpublish(&server).await.unwrap();
}

/// A rollback needs nothing but the publisher.
pub async fn the_older_version_can_be_activated_again(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let first = stage(publisher, &server, &artifact(&server.name, 1)).await;
    publisher.activate(&server, &first).await.unwrap();
    let second = stage(publisher, &server, &artifact(&server.name, 2)).await;
    publisher.activate(&server, &second).await.unwrap();
    publisher.activate(&server, &first).await.unwrap();
    assert_eq!(live(publisher, &server).await, [first]);
    assert_eq!(publisher.list_versions(&server).await.unwrap().len(), 2);
    publisher.unpublish(&server).await.unwrap();
}

/// And what was live stays live.
pub async fn an_unknown_version_is_not_found(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let unknown: VersionId = "no-such-version".parse().expect("a version id");
    assert_eq!(publisher.activate(&server, &unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    publisher.activate(&server, &version).await.unwrap();
    assert_eq!(publisher.activate(&server, &unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(live(publisher, &server).await, [version]);
    publisher.unpublish(&server).await.unwrap();
}

/// Discarding never takes a server down.
pub async fn the_live_version_cannot_be_discarded(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    publisher.activate(&server, &version).await.unwrap();
    assert_eq!(publisher.discard(&server, &version).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(live(publisher, &server).await, [version]);
    publisher.unpublish(&server).await.unwrap();
}

/// Discarding an absent version succeeds.
pub async fn a_discarded_version_is_gone(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    let kept = stage(publisher, &server, &artifact(&server.name, 2)).await;
    publisher.discard(&server, &version).await.unwrap();
    publisher.discard(&server, &version).await.unwrap();
    let versions = publisher.list_versions(&server).await.unwrap();
    assert_eq!(versions.iter().map(|version| &version.version).collect::<Vec<_>>(), [&kept]);
    assert_eq!(publisher.activate(&server, &version).await.unwrap_err().kind(), ErrorKind::NotFound);
    publisher.discard(&unique_server(), &version).await.unwrap();
    publisher.unpublish(&server).await.unwrap();
}

/// Each call of `stage` makes a version, also of the same artifact.
pub async fn versions_are_listed_newest_first(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let mut staged = Vec::new();
    for number in [1, 2, 1] {
        staged.insert(0, stage(publisher, &server, &artifact(&server.name, number)).await);
    }
    let versions = publisher.list_versions(&server).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version.clone()).collect::<Vec<_>>(), staged);
    assert!(versions.is_sorted_by(|newer, older| newer.created_at >= older.created_at));
    assert_eq!(versions[0].artifact, versions[2].artifact);
    assert_ne!(versions[0].artifact, versions[1].artifact);
    publisher.unpublish(&server).await.unwrap();
}

/// Reading about it is no error, but it has no endpoint.
pub async fn an_unknown_server_has_nothing(publisher: &dyn Publisher, _artifact: MakeArtifact) {
    let server = unique_server();
    assert!(publisher.list_versions(&server).await.unwrap().is_empty());
    assert!(publisher.logs(&server, LogOptions::default()).await.unwrap().is_empty());
    assert!(publisher.list_secret_names(&server).await.unwrap().is_empty());
    assert_eq!(publisher.endpoint(&server).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(publisher.list_servers().await.unwrap().iter().all(|published| published.server != server));
}

/// With what is live of each.
pub async fn servers_are_listed_by_name(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let (staged, activated) = (unique_server(), unique_server());
    stage(publisher, &staged, &artifact(&staged.name, 1)).await;
    let version = stage(publisher, &activated, &artifact(&activated.name, 1)).await;
    publisher.activate(&activated, &version).await.unwrap();
    let listed = publisher.list_servers().await.unwrap();
    assert!(listed.is_sorted_by(|a, b| a.server.name < b.server.name));
    let active =
        |server: &ServerRef| listed.iter().find(|listed| listed.server == *server).map(|found| found.active.clone());
    assert_eq!(active(&staged), Some(None));
    assert_eq!(active(&activated), Some(Some(version)));
    for server in [&staged, &activated] {
        publisher.unpublish(server).await.unwrap();
    }
}

/// Versions and secrets are gone, and the name is free.
pub async fn unpublishing_twice_is_the_same_as_once(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    publisher.activate(&server, &version).await.unwrap();
    publisher.set_secret(&server, &env_name("TOKEN"), SecretString::from("s3cret")).await.unwrap();
    for _ in 0..2 {
        publisher.unpublish(&server).await.unwrap();
        an_unknown_server(publisher, &server).await;
    }
    let next = ServerRef { id: ServerId::random(), name: server.name.clone() };
    let version = stage(publisher, &next, &artifact(&next.name, 1)).await;
    assert_eq!(publisher.list_versions(&next).await.unwrap()[0].version, version);
    publisher.unpublish(&next).await.unwrap();
}

async fn an_unknown_server(publisher: &dyn Publisher, server: &ServerRef) {
    assert!(publisher.list_versions(server).await.unwrap().is_empty());
    assert!(publisher.list_secret_names(server).await.unwrap().is_empty());
    assert_eq!(publisher.endpoint(server).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Sorted names, before and after the first version; a value appears nowhere.
pub async fn secrets_are_listed_by_name_and_never_shown(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    publisher.activate(&server, &version).await.unwrap();
    for name in ["TOKEN_B", "TOKEN_A", "TOKEN_B"] {
        let value = SecretString::from("s3cret-value");
        publisher.set_secret(&server, &env_name(name), value).await.unwrap();
    }
    let names = publisher.list_secret_names(&server).await.unwrap();
    assert_eq!(names, [env_name("TOKEN_A"), env_name("TOKEN_B")]);
    assert!(!format!("{publisher:?}").contains("s3cret-value"));
    publisher.remove_secret(&server, &env_name("TOKEN_A")).await.unwrap();
    publisher.remove_secret(&server, &env_name("TOKEN_A")).await.unwrap();
    assert_eq!(publisher.list_secret_names(&server).await.unwrap(), [env_name("TOKEN_B")]);
    publisher.unpublish(&server).await.unwrap();
}

/// A server of another id is foreign, also under the same name.
pub async fn a_name_belongs_to_one_server(publisher: &dyn Publisher, artifact: MakeArtifact) {
    let server = unique_server();
    let version = stage(publisher, &server, &artifact(&server.name, 1)).await;
    let stranger = ServerRef { id: ServerId::random(), name: server.name.clone() };
    let error = publisher.stage(&stranger, &artifact(&server.name, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(publisher.list_versions(&stranger).await.unwrap().is_empty());
    publisher.unpublish(&stranger).await.unwrap();
    assert_eq!(publisher.list_versions(&server).await.unwrap()[0].version, version);
    publisher.unpublish(&server).await.unwrap();
}

fn env_name(text: &str) -> EnvName {
    text.parse().expect("an environment name")
}
