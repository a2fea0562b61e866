use super::fixture::{deployment_of, lease, moment, some_server, unique_name, version_id, with_tools};
use crate::ErrorKind;
use crate::name::ServerName;
use crate::registry::{
    DeploymentStep, Expect, ListOptions, LiveState, RecordStatus, Registry, ServerRecord, ServerSummary, ToolPlace,
    ToolSummary,
};

/// Servers whose names begin with `prefix`, in pages of `limit`.
async fn below(registry: &dyn Registry, prefix: &ServerName, options: &ListOptions) -> Vec<ServerSummary> {
    let mut found: Vec<ServerSummary> = Vec::new();
    let mut after = Some(prefix.clone());
    while let Some(from) = after {
        let page = registry.list_servers(&ListOptions { after: Some(from), ..options.clone() }).await.unwrap();
        assert!(page.items.len() <= options.limit as usize);
        assert!(page.next.is_none() || page.next.as_ref() == page.items.last().map(|last| &last.name));
        let ours = page.items.into_iter().filter(|item| item.name.as_str().starts_with(prefix.as_str()));
        let before = found.len();
        found.extend(ours);
        after = page.next.filter(|_| found.len() > before);
    }
    found
}

async fn put_below(registry: &dyn Registry, prefix: &ServerName, label: &str) -> ServerRecord {
    let name = format!("{prefix}{label}").parse().expect("a name");
    registry.put_server(&with_tools(&name, &["one"]), Expect::Absent).await.unwrap()
}

/// No server is left out or listed twice, whatever the size of a page, and a summary agrees with its record.
pub async fn pages_list_every_server_once_in_order_of_names(registry: &dyn Registry) {
    let prefix = unique_name();
    let mut servers = Vec::new();
    for label in ["-b", "-a", "-c2", "-c10", "-z", "-c"] {
        servers.push(put_below(registry, &prefix, label).await);
    }
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&ServerName> = servers.iter().map(|server| &server.name).collect();
    for limit in [1, 2, 3, 6, 7, 1_000] {
        let found = below(registry, &prefix, &ListOptions { limit, ..ListOptions::default() }).await;
        assert_eq!(found.iter().map(|item| &item.name).collect::<Vec<_>>(), names, "limit {limit}");
    }
    let first = &below(registry, &prefix, &ListOptions::default()).await[0];
    let record = &servers[0];
    assert_eq!((first.id, first.revision, first.status), (record.id, record.revision, record.status));
    assert_eq!((&first.description, &first.version), (&record.definition.description, &record.definition.version));
    assert_eq!(first.template.as_str(), record.definition.template);
    assert_eq!((first.created_at, first.updated_at), (record.created_at, record.updated_at));
    remove_all(registry, &servers).await;
}

/// No tool is left out or listed twice, however many are asked for; what a definition no longer has is not listed.
pub async fn tools_of_all_servers_are_listed_in_order(registry: &dyn Registry) {
    let prefix = unique_name();
    let mut servers = Vec::new();
    for (label, tools) in [("-b", &["two", "one"][..]), ("-a", &["z", "B", "a"]), ("-c", &[]), ("-d", &["last"])] {
        let name = format!("{prefix}{label}").parse().expect("a name");
        servers.push(registry.put_server(&with_tools(&name, tools), Expect::Absent).await.unwrap());
    }
    deploy(registry, &servers[0]).await;
    let listed = async |limit: u32| {
        let mut found: Vec<ToolSummary> = Vec::new();
        let mut after = Some(ToolPlace { server: prefix.clone(), tool: String::new() });
        while let Some(place) = after.take() {
            let tools = registry.list_tools(Some(place), limit).await.unwrap();
            let full = tools.len() == limit as usize;
            let ours = |tool: &ToolSummary| tool.server.as_str().starts_with(prefix.as_str());
            after = tools.last().filter(|last| full && ours(last)).map(ToolSummary::place);
            found.extend(tools.into_iter().filter(ours));
        }
        found
    };
    let expected = ["-a B", "-a a", "-a z", "-b one", "-b two", "-d last"].map(|name| format!("{prefix}{name}"));
    for limit in [1, 2, 3, 6, 1_000] {
        let names = listed(limit).await.into_iter().map(|tool| format!("{} {}", tool.server, tool.name));
        assert_eq!(names.collect::<Vec<_>>(), expected, "limit {limit}");
    }
    let (record, tools) = (&servers[0], listed(1_000).await);
    let of_record = &record.definition.tools[1];
    assert_eq!(
        (&tools[3].description, &tools[3].server_description),
        (&of_record.description, &record.definition.description)
    );
    assert_eq!(tools.iter().map(|tool| tool.live).collect::<Vec<_>>(), [false, false, false, true, true, false]);

    let record = &servers[1];
    let fewer = with_tools(&record.name, &["a"]);
    registry.put_server(&fewer, Expect::Revision(record.revision)).await.unwrap();
    let names = listed(4).await.into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    assert_eq!(names, ["a", "one", "two", "last"]);
    for limit in [0, 1_001, u32::MAX] {
        let error = registry.list_tools(None, limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "limit {limit}");
    }
    remove_all(registry, &servers).await;
}

/// Nobody gets an empty or endless page by mistake.
pub async fn a_page_out_of_bounds_is_refused(registry: &dyn Registry) {
    for limit in [0, 1_001, u32::MAX] {
        let error = registry.list_servers(&ListOptions { limit, ..ListOptions::default() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "limit {limit}");
    }
}

/// Filters combine, and only what matches counts for a page.
pub async fn filters_by_status_and_age(registry: &dyn Registry) {
    let prefix = unique_name();
    let mut servers = Vec::new();
    for label in ["-a", "-b", "-c"] {
        servers.push(put_below(registry, &prefix, label).await);
    }
    deploy(registry, &servers[1]).await;
    let options = |status, age: Option<(&ServerRecord, i64)>| {
        let not_updated_since = age.map(|(server, seconds)| server.updated_at + time::Duration::seconds(seconds));
        ListOptions { limit: 1, after: None, status, not_updated_since }
    };
    let names = async |options| {
        let found = below(registry, &prefix, &options).await;
        found.iter().map(|item| item.name.to_string()).collect::<Vec<_>>()
    };
    let labels = |labels: &[&str]| labels.iter().map(|label| format!("{prefix}{label}")).collect::<Vec<_>>();
    let (first, newest) = (&servers[0], registry.get_server(&servers[1].id.into()).await.unwrap());
    assert_eq!(names(options(Some(RecordStatus::Draft), None)).await, labels(&["-a", "-c"]));
    assert_eq!(names(options(Some(RecordStatus::Deployed), None)).await, labels(&["-b"]));
    assert_eq!(names(options(Some(RecordStatus::Failed), None)).await, labels(&[]));
    assert_eq!(names(options(None, Some((first, 0)))).await, labels(&[]));
    assert_eq!(names(options(None, Some((first, -3_600)))).await, labels(&[]));
    assert_eq!(names(options(None, Some((&newest, 3_600)))).await, labels(&["-a", "-b", "-c"]));
    assert_eq!(names(options(Some(RecordStatus::Draft), Some((&newest, 3_600)))).await, labels(&["-a", "-c"]));
    remove_all(registry, &servers).await;
}

/// A name that is another one's beginning is its own server.
pub async fn names_that_begin_alike_stay_apart(registry: &dyn Registry) {
    let short = some_server(registry).await;
    let long = put_below(registry, &short.name, "-b").await;
    let joined = put_below(registry, &short.name, "b").await;
    registry.remove_server(long.id).await.unwrap();
    assert_eq!(registry.get_server(&short.name.clone().into()).await.unwrap(), short);
    assert_eq!(registry.get_server(&joined.name.clone().into()).await.unwrap(), joined);
    remove_all(registry, &[short, joined]).await;
}

async fn deploy(registry: &dyn Registry, server: &ServerRecord) {
    let held = lease(registry, server).await;
    let live = LiveState {
        status: RecordStatus::Deployed,
        url: "http://127.0.0.1/mcp".parse().expect("a URL"),
        version: version_id("v1"),
        revision: server.revision,
    };
    let deployment = deployment_of(server, DeploymentStep::Live, moment(0));
    registry.finish_deployment(&deployment, Some(live), &held).await.unwrap();
    registry.release_lease(&held).await.unwrap();
}

async fn remove_all(registry: &dyn Registry, servers: &[ServerRecord]) {
    for server in servers {
        registry.remove_server(server.id).await.unwrap();
    }
}
