//! What the spans of a call tell, and what they keep to themselves.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use metamcp_core::ServerKey;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::{Client, everything, memory, text};

/// A word that stands where secrets and bodies do.
const HIDDEN: &str = "hidden-from-spans";

/// Every span of ours, in the order they began.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<SeenSpan>>>);

#[derive(Debug)]
struct SeenSpan {
    id: u64,
    parent: Option<u64>,
    level: Level,
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Visit for SeenSpan {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.push((field.name(), format!("{value:?}").replace('"', "")));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_ours(attributes.metadata()) {
            return;
        }
        let scope = context.span_scope(id).into_iter().flatten().skip(1);
        let parent = scope.filter(|span| is_ours(span.metadata())).map(|span| span.id().into_u64()).next();
        let (level, name) = (*attributes.metadata().level(), attributes.metadata().name());
        let mut span = SeenSpan { id: id.into_u64(), parent, level, name, fields: Vec::new() };
        attributes.record(&mut span);
        self.0.lock().unwrap().push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        // Numbers are given again once a span is over.
        if let Some(span) = self.0.lock().unwrap().iter_mut().rev().find(|span| span.id == id.into_u64()) {
            values.record(span);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !is_ours(event.metadata()) {
            return;
        }
        let parent = context.event_span(event).map(|span| span.id().into_u64());
        let level = *event.metadata().level();
        let mut seen = SeenSpan { id: 0, parent, level, name: "event", fields: Vec::new() };
        event.record(&mut seen);
        assert!(!format!("{seen:?}").contains(HIDDEN), "{seen:?}");
    }
}

/// The MCP library's own tell whole messages below the level info.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("metamcp")
}

impl Seen {
    /// The tree of this level and above, below the first span of this name.
    fn tree(&self, name: &str, level: Level) -> String {
        let spans = self.0.lock().unwrap();
        let mut tree = String::new();
        let root = spans.iter().position(|span| span.name == name).expect("there is such a span");
        draw(&spans, root, level, 0, &mut tree);
        tree
    }
}

fn draw(spans: &[SeenSpan], index: usize, level: Level, depth: usize, tree: &mut String) {
    let span = &spans[index];
    if span.level > level {
        return;
    }
    write!(tree, "{:1$}{2}", "", depth * 2, span.name).unwrap();
    for (name, value) in &span.fields {
        // These differ from run to run.
        let told = if ["ms", "id", "version"].contains(name) { "…" } else { value };
        write!(tree, " {name}={told}").unwrap();
    }
    tree.push('\n');
    let end = spans[index + 1..].iter().position(|later| later.id == span.id).map_or(spans.len(), |at| index + 1 + at);
    for child in (index + 1..end).filter(|child| spans[*child].parent == Some(span.id)) {
        draw(spans, child, level, depth + 1, tree);
    }
}

#[tokio::test]
async fn the_spans_of_a_deployment_are_a_tree_of_the_verbs_without_bodies_and_secrets() {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "seen", "description": "Is seen." })).await;
    let body = format!("return '{HIDDEN}';");
    let tool = json!({ "serverId": "seen", "toolName": "say", "description": "Says.", "implementation": body });
    client.data("add_mcp_tool", tool).await;
    let key: ServerKey = "seen".parse().unwrap();
    meta.servers()
        .edit(&key, |definition| {
            let mut edited = definition.clone();
            edited.secrets.push("TOKEN".to_owned());
            Ok(edited)
        })
        .await
        .unwrap();
    meta.secrets().set(&key, &"TOKEN".parse().unwrap(), HIDDEN.into()).await.unwrap();
    client.data("deploy_mcp_server", json!({ "serverId": "seen" })).await;
    let call = json!({ "serverId": "seen", "toolName": "say", "arguments": { "text": HIDDEN } });
    assert!(text(&client.call("call_mcp_tool", call).await).contains(HIDDEN));

    insta::assert_snapshot!("spans_of_a_deployment", seen.tree("deploy", Level::INFO));
    let details = seen.tree("deploy", Level::DEBUG);
    assert!(details.contains("lease_server server=") && details.contains("put_version server="), "{details}");
    let all = format!("{:?}", seen.0.lock().unwrap());
    assert!(!all.contains(HIDDEN), "{all}");
}

#[tokio::test]
async fn a_version_is_read_once_however_often_it_is_called() {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.data("init_mcp_server", json!({ "name": "often", "description": "Is called." })).await;
    let tool = |name: &str| json!({ "serverId": "often", "toolName": name, "description": "Says.", "implementation": "return 1;" });
    let reads = || seen.0.lock().unwrap().iter().filter(|span| span.name == "get_version").count();
    for name in ["one", "two"] {
        client.data("add_mcp_tool", tool(name)).await;
        client.data("deploy_mcp_server", json!({ "serverId": "often" })).await;
        let before = reads();
        for _ in 0..3 {
            let call = json!({ "serverId": "often", "toolName": name });
            assert_eq!(text(&client.call("call_mcp_tool", call).await), format!("{name} {{}}"));
        }
        assert_eq!(reads(), before + 1);
    }
}

#[tokio::test]
async fn a_call_that_fails_says_so_in_its_span() {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let meta = memory::meta().await;
    let client = Client::connect(&meta, everything()).await;
    client.failure("deploy_mcp_server", json!({ "serverId": "absent" })).await;
    insta::assert_snapshot!("spans_of_a_failed_call", seen.tree("call", Level::DEBUG));
}
