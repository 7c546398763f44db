//! tracing with tracing-opentelemetry, over the same SDK and exporter.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Span, info_span};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::{Finished, Peer, sdk};
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
        let address = address();
        let parent = info_span!("request");
        parent
            .set_parent(sdk::parent())
            .expect("it has not started");
        let parent = parent.entered();
        if self.enters {
            workload.run(|number| drop(span(&address, number).entered()));
        } else {
            workload.run(|number| drop(span(&address, number)));
        }
        // Left open, or it would be a span that the others do not send.
        std::mem::forget(parent);
    }

    fn finish(self: Box<Self>) -> Finished {
        sdk::finish(&self.provider)
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
