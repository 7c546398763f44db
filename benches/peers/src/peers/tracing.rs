//! tracing: with tracing-opentelemetry, over the same SDK and exporter, and with this library's layer and
//! subscriber.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Span, info_span};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use otlp_collector::Collector;

use super::{Finished, Peer, ours, sdk};
use crate::workload::{POSTGRESQL, SERVICE, Workload, address, cached, rows};

pub const NOTES: &str = "tracing-opentelemetry: default enters each span, and sends the code's \
    place, the thread and busy times of each span besides; tuned does neither, does not activate \
    OpenTelemetry's context, and has the queue and batches of the SDK tuned. What it lost is in \
    the SDK's log line.";

pub fn default(endpoint: &str) -> Box<dyn Peer> {
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(sdk::exporter(endpoint))
        .with_resource(sdk::resource())
        .build();
    subscribe(&provider, |layer| layer);
    Box::new(Tracing {
        provider,
        enters: true,
    })
}

pub fn tuned(endpoint: &str) -> Box<dyn Peer> {
    let provider = sdk::tuned_provider(endpoint);
    subscribe(&provider, |layer| {
        layer
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
    });
    Box::new(Tracing {
        provider,
        enters: false,
    })
}

type Layer = OpenTelemetryLayer<Filtered, opentelemetry_sdk::trace::SdkTracer>;
type Filtered = tracing_subscriber::layer::Layered<LevelFilter, Registry>;

/// Spans of level INFO and above, to leave out those of the exporter and its HTTP client.
fn subscribe(provider: &SdkTracerProvider, change: impl FnOnce(Layer) -> Layer) {
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SERVICE));
    let filtered = Registry::default().with(LevelFilter::INFO);
    tracing::subscriber::set_global_default(filtered.with(change(layer)))
        .expect("no other subscriber");
}

struct Tracing {
    provider: SdkTracerProvider,
    enters: bool,
}

impl Peer for Tracing {
    fn produce(&self, workload: &mut Workload) {
        let parent = info_span!("request");
        parent
            .set_parent(sdk::parent())
            .expect("it has not started");
        produce_below(parent, self.enters, workload);
    }

    fn finish(self: Box<Self>) -> Finished {
        sdk::finish(&self.provider)
    }
}

fn produce_below(parent: Span, enters: bool, workload: &mut Workload) {
    let address = address();
    let parent = parent.entered();
    if enters {
        workload.run(|number| drop(span(&address, number).entered()));
    } else {
        workload.run(|number| drop(span(&address, number)));
    }
    // Left open, or it would be a span that the others do not send.
    std::mem::forget(parent);
}

/// With this library's layer, which enters each span.
pub fn our_layer(endpoint: &str) -> Box<dyn Peer> {
    let collector = ours::start(ours::config(endpoint));
    let filtered = Registry::default().with(LevelFilter::INFO);
    let layer = otlp_collector::tracing::layer(&collector);
    tracing::subscriber::set_global_default(filtered.with(layer)).expect("no other subscriber");
    Box::new(OursTracing(collector))
}

/// With this library's subscriber, which enters each span.
pub fn our_subscriber(endpoint: &str) -> Box<dyn Peer> {
    let collector = ours::start(ours::config(endpoint));
    let subscriber = otlp_collector::tracing::subscriber(&collector).with_max_level(LevelFilter::INFO);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    Box::new(OursTracing(collector))
}

struct OursTracing(Collector);

impl Peer for OursTracing {
    fn produce(&self, workload: &mut Workload) {
        let parent = info_span!("request");
        otlp_collector::tracing::SpanExt::set_parent(&parent, &ours::parent());
        produce_below(parent, true, workload);
    }

    fn finish(self: Box<Self>) -> Finished {
        ours::finish(&self.0)
    }
}

#[inline(always)]
fn span(address: &str, number: u64) -> Span {
    info_span!(
        "SELECT shop.articles",
        otel.kind = "client",
        db.system.name = POSTGRESQL,
        server.address = address,
        db.response.returned_rows = rows(number),
        db.cached = cached(number),
    )
}
