//! The reference server's spans, as a collector of OpenTelemetry gets them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod reference;

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, MetaObject, RequestMetaObject};
use rmcp::service::PeerRequestOptions;
use serde_json::json;
use tokio::net::TcpListener;

use reference::Http;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

type Spans = Arc<Mutex<Vec<Span>>>;

/// A collector that keeps what it is sent.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let router = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, spans)
}

async fn receive(State(spans): State<Spans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let names = resource.resource.unwrap_or_default().attributes;
        assert!(names.iter().any(|name| name.key == "service.name"), "{names:?}");
        let received = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(received);
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} is not among {names:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_a_part_of_its_callers_trace() {
    let (url, spans) = collector().await;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--data-dir", folder.path().to_str().unwrap()];
    let server = Http::start_on(&arguments, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await;
    let client = server.connect(&server.admin_key.clone().unwrap()).await;
    client.data("init_mcp_server", json!({ "name": "traced", "description": "Is traced." })).await;
    let body = "return 'a-body-is-nobodys-business';";
    let tool = json!({ "serverId": "traced", "toolName": "say", "description": "Says.", "implementation": body });
    client.data("add_mcp_tool", tool).await;

    let arguments = json!({ "serverId": "traced" }).as_object().cloned().unwrap();
    let params = CallToolRequestParams::new("deploy_mcp_server").with_arguments(arguments);
    let mut meta = MetaObject::new();
    meta.set_traceparent(format!("00-{TRACE}-{CALLER}-01"));
    let mut options = PeerRequestOptions::default();
    options.meta = Some(RequestMetaObject(meta));
    options.timeout = Some(Duration::from_secs(60));
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let sent = client.0.send_request_with_option(request, options).await.unwrap();
    sent.await_response().await.unwrap();
    client.call("deploy_mcp_server", json!({ "serverId": "absent" })).await;
    // What was not sent yet is sent at the end.
    server.end().await;

    let spans = spans.lock().unwrap();
    let call = spans.iter().find(|span| hex(&span.parent_span_id) == CALLER).expect("a span of the caller's trace");
    assert_eq!((call.name.as_str(), hex(&call.trace_id).as_str()), ("tools/call deploy_mcp_server", TRACE));
    assert_eq!(call.kind(), SpanKind::Server);
    let deploy = named(&spans, "deploy");
    assert_eq!((&deploy.parent_span_id, hex(&deploy.trace_id).as_str()), (&call.span_id, TRACE));
    for name in ["generate", "build", "stage", "verify", "activate"] {
        assert_eq!(hex(&named(&spans, name).trace_id), TRACE, "{name}");
    }
    assert!(deploy.end_time_unix_nano > deploy.start_time_unix_nano);
    let failed: Vec<_> = spans.iter().filter(|span| span.status.as_ref().is_some_and(is_error)).collect();
    assert!(failed.iter().any(|span| span.name == "tools/call deploy_mcp_server"), "{failed:?}");
    assert!(!format!("{spans:?}").contains("a-body-is-nobodys-business"));
}

fn is_error(status: &opentelemetry_proto::tonic::trace::v1::Status) -> bool {
    status.code() == StatusCode::Error
}
