//! The OpenTelemetry SDK with its OTLP exporter: protobuf over HTTP by reqwest's blocking client,
//! both of which are its default.

use std::time::Duration;

use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

use super::{Finished, Peer};
use crate::workload::{
    ADDRESS, CACHED, NAME, PARENT_ID, POSTGRESQL, ROWS, SERVICE, SYSTEM, TRACE_ID, Workload,
    address, cached, rows,
};

pub const NOTES: &str = "opentelemetry_sdk: tuned has a queue of 131,072 spans, batches of 8,192, a \
    delay of 200 ms, all attributes given at once, and the text that is known only at run time \
    made static. It says how many spans it dropped in a log line at its end; a program cannot ask.";

pub fn default(endpoint: &str) -> Box<dyn Peer> {
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter(endpoint))
        .with_resource(resource())
        .build();
    Box::new(ByDefault(provider))
}

pub fn tuned(endpoint: &str) -> Box<dyn Peer> {
    Box::new(Tuned(tuned_provider(endpoint)))
}

/// Creates a provider with a queue and batches for many spans.
pub fn tuned_provider(endpoint: &str) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(128 * 1024)
        .with_max_export_batch_size(8 * 1024)
        .with_scheduled_delay(Duration::from_millis(200))
        .build();
    let processor = BatchSpanProcessor::builder(exporter(endpoint))
        .with_batch_config(config)
        .build();
    SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_resource(resource())
        .build()
}

pub fn exporter(endpoint: &str) -> SpanExporter {
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .build()
        .expect("a valid configuration")
}

pub fn resource() -> Resource {
    Resource::builder().with_service_name(SERVICE).build()
}

/// Returns the parent's context.
pub fn parent() -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(TRACE_ID),
        SpanId::from_bytes(PARENT_ID),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ))
}

pub fn finish(provider: &SdkTracerProvider) -> Finished {
    Finished::of(provider.shutdown().map_err(|error| error.to_string()))
}

struct ByDefault(SdkTracerProvider);

impl Peer for ByDefault {
    fn produce(&self, workload: &mut Workload) {
        let tracer = self.0.tracer(SERVICE);
        let (address, parent) = (address(), parent());
        workload.run(|number| {
            let mut span = tracer
                .span_builder(NAME)
                .with_kind(SpanKind::Client)
                .start_with_context(&tracer, &parent);
            span.set_attribute(KeyValue::new(SYSTEM, POSTGRESQL));
            span.set_attribute(KeyValue::new(ADDRESS, address.clone()));
            span.set_attribute(KeyValue::new(ROWS, rows(number)));
            span.set_attribute(KeyValue::new(CACHED, cached(number)));
            span.end();
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish(&self.0)
    }
}

struct Tuned(SdkTracerProvider);

impl Peer for Tuned {
    fn produce(&self, workload: &mut Workload) {
        let tracer = self.0.tracer(SERVICE);
        // Static texts are not copied.
        let address: &'static str = address().leak();
        let parent = parent();
        workload.run(|number| {
            let mut span = tracer
                .span_builder(NAME)
                .with_kind(SpanKind::Client)
                .with_attributes([
                    KeyValue::new(SYSTEM, POSTGRESQL),
                    KeyValue::new(ADDRESS, address),
                    KeyValue::new(ROWS, rows(number)),
                    KeyValue::new(CACHED, cached(number)),
                ])
                .start_with_context(&tracer, &parent);
            span.end();
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish(&self.0)
    }
}
