//! From a definition in memory to the first answer of its tool: create, deploy, connect with rmcp, call through the
//! gateway. The toolchain is warm, the server is a new one each time; taking it away again is not measured.
//!
//! After criterion's own figures it prints the median time of each step.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever runs it")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::StreamExt;
use metamcp_benches::{definition, median};
use metamcp_core::{DeployEvent, EventSink, MetaMcp, ServerKey};
use metamcp_local::LocalConfig;
use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;

fn pipeline(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let meta = runtime
        .block_on(metamcp_local::open(LocalConfig::new(folder.path())))
        .expect("the local target opens; it needs npm the first time");
    let mut steps = Steps::default();
    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    group.bench_function("definition_to_first_answer", |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    total += first_answer(&meta, &mut steps).await;
                }
                total
            })
        });
    });
    group.finish();
    steps.print();
    runtime.block_on(meta.close()).expect("the local target closes");
}

async fn first_answer(meta: &MetaMcp, steps: &mut Steps) -> Duration {
    let definition = definition("first-answer", 2);
    let mut clock = Clock::start();
    let record = meta.servers().create(&definition).await.expect("the server is new");
    clock.passed(steps, "1 create");
    let key = ServerKey::from(record.id);
    let (sink, mut events) = EventSink::channel();
    let deployments = meta.deployments();
    let seen = async {
        while let Some(event) = events.next().await {
            if let Some(step) = step(&event) {
                clock.passed(steps, step);
            }
        }
    };
    let (deployment, ()) = futures::join!(deployments.deploy_with_events(&key, sink), seen);
    let deployment = deployment.expect("the server deploys");
    clock.passed(steps, "8 record");
    let client = connect(deployment.url.as_str()).await;
    clock.passed(steps, "9 rmcp client connected");
    let arguments = json!({ "a": 2, "b": 3 }).as_object().cloned().unwrap_or_default();
    let answer = client.call_tool(CallToolRequestParams::new("tool_1").with_arguments(arguments)).await;
    clock.passed(steps, "10 tools/call answered");
    let total = clock.started.elapsed();
    assert_ne!(answer.expect("the tool answers").is_error, Some(true));

    client.cancel().await.expect("the client ends");
    meta.deployments().remove(&key).await.expect("the server can be removed");
    total
}

async fn connect(url: &str) -> RunningService<RoleClient, ClientConfig> {
    let config = ClientConfig::new(ClientCapabilities::default(), Implementation::new("metamcp-bench", "1.0.0"));
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let transport = StreamableHttpClientTransport::from_uri(url);
    config.serve_with_lifecycle(transport, lifecycle).await.expect("the server speaks MCP 2026-07-28")
}

fn step(event: &DeployEvent) -> Option<&'static str> {
    match event {
        DeployEvent::Started { .. } => Some("2 lease and record"),
        DeployEvent::Built { .. } => Some("3 generate and build"),
        DeployEvent::Staged { .. } => Some("4 stage (workerd starts)"),
        DeployEvent::Verified(_) => Some("5 verify the preview"),
        DeployEvent::Activated { .. } => Some("6 activate"),
        DeployEvent::Confirmed(_) => Some("7 verify live"),
        _ => None,
    }
}

/// Time since the last step.
struct Clock {
    started: Instant,
    last: Instant,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now }
    }

    fn passed(&mut self, steps: &mut Steps, step: &'static str) {
        steps.0.entry(step).or_default().push(self.last.elapsed());
        self.last = Instant::now();
    }
}

/// What each step took, every time.
#[derive(Default)]
struct Steps(BTreeMap<&'static str, Vec<Duration>>);

impl Steps {
    fn print(self) {
        let mut rows: Vec<_> = self.0.into_iter().map(|(step, times)| (step, times.len(), median(times))).collect();
        rows.sort_by_key(|(step, ..)| step.split(' ').next().and_then(|number| number.parse::<u32>().ok()));
        for (step, count, time) in rows {
            println!("{step:28} {:7.2} ms (median of {count})", time.as_secs_f64() * 1_000.0);
        }
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
