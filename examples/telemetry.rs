//! Where a program's log and spans go: standard error, and with the feature `otel` a collector of OpenTelemetry.

use std::error::Error;
use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::Filter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer};

/// What is written where `RUST_LOG` says nothing.
const DEFAULT_LOG: &str = "warn,rmcp=error";

/// Begins to write the log to standard error: as much as `RUST_LOG` says, with a line for each span that ends.
///
/// Spans are also sent by OTLP over HTTP where `OTEL_EXPORTER_OTLP_ENDPOINT` or its variant for traces is set; the other
/// `OTEL_*` variables are read as their specification says. What was not sent yet is sent when the value is dropped.
pub fn start() -> Result<Telemetry, Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt::layer()
        // Standard output belongs to the protocol.
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::CLOSE)
        .with_filter(filter.and(without_messages()));
    let (telemetry, export) = exporter()?;
    tracing_subscriber::registry().with(log).with(export).init();
    Ok(telemetry)
}

/// Below the level info rmcp writes whole messages, the secrets in them too.
fn without_messages<S>() -> impl Filter<S> {
    filter_fn(|event| !event.target().starts_with("rmcp") || *event.level() <= Level::INFO)
}

/// A layer that exports spans, if any is to.
type Export<S> = Option<Box<dyn Layer<S> + Send + Sync>>;

#[cfg(not(feature = "otel"))]
fn exporter<S>() -> Result<(Telemetry, Export<S>), Box<dyn Error>> {
    Ok((Telemetry {}, None))
}

/// Sends the spans of ours: which share of them, `OTEL_TRACES_SAMPLER` says.
#[cfg(feature = "otel")]
fn exporter<S>() -> Result<(Telemetry, Export<S>), Box<dyn Error>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    let endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if endpoints.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        return Ok((Telemetry { provider: None }, None));
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "meta-mcp".to_owned());
    let resource = Resource::builder().with_service_name(name).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("meta-mcp"))
        .with_filter(filter_fn(|span| span.target().starts_with("metamcp")));
    Ok((Telemetry { provider: Some(provider) }, Some(layer.boxed())))
}

/// Sends what was not sent yet when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        #[cfg(feature = "otel")]
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}
