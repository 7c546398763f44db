//! Metrics of OpenTelemetry's semantic conventions (`otel/sdk-metrics`).

use crate::metrics::metric::{Attribute, AttributeValue, Metric, MetricData, Point};
use crate::stats::ledger::{DestinationLedger, DroppedSpans};
use crate::stats::{
    Buckets, DestinationStats, EndpointStats, Export, ExportedSpans, Exports, Stats,
};

/// Component types. Each destination counts as one processor and one exporter.
const PROCESSOR: &str = "batching_span_processor";
pub(super) const EXPORTER: &str = "otlp_http_span_exporter";

pub(super) fn metrics(stats: &Stats) -> Vec<Metric> {
    vec![
        Metric {
            name: "otel.sdk.span.live",
            unit: "{span}",
            description: "Sampled spans that have not ended.",
            data: MetricData::UpDownCounter(vec![live(stats)]),
        },
        Metric {
            name: "otel.sdk.span.started",
            unit: "{span}",
            description: "Open spans that were started.",
            data: MetricData::Counter(started(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.queue.size",
            unit: "{span}",
            description: "Spans that wait to be exported.",
            data: MetricData::UpDownCounter(waiting(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.queue.capacity",
            unit: "{span}",
            description: "Spans that can wait to be exported.",
            data: MetricData::UpDownCounter(capacity(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.processed",
            unit: "{span}",
            description: "Spans whose export was started, with any outcome, or that were lost before.",
            data: MetricData::Counter(processed(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.span.inflight",
            unit: "{span}",
            description: "Spans whose export was started and has no outcome yet, also between attempts.",
            data: MetricData::UpDownCounter(in_flight(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.span.exported",
            unit: "{span}",
            description: "Spans whose export has ended, by the reason of failure.",
            data: MetricData::Counter(exported(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.operation.duration",
            unit: "s",
            description: "Time from the first attempt to send a request to its outcome.",
            data: MetricData::Histogram(durations(stats)),
        },
    ]
}

// ---- Values ----

const SAMPLED: &str = "RECORD_AND_SAMPLE";

fn live(stats: &Stats) -> Point<u64> {
    Point {
        attributes: vec![("otel.span.sampling_result", SAMPLED.into())],
        value: stats.open_spans.live(),
    }
}

fn started(stats: &Stats) -> Vec<Point<u64>> {
    let by_result = [
        (SAMPLED, stats.open_spans.sampled),
        ("DROP", stats.open_spans.unsampled),
    ];
    let point = |result: &str, origin: &str, value| Point {
        attributes: vec![
            ("otel.span.parent.origin", origin.into()),
            ("otel.span.sampling_result", result.into()),
        ],
        value,
    };
    let points = by_result.iter().flat_map(|(result, counts)| {
        let by_origin = ["none", "local", "remote"].into_iter().zip(counts);
        by_origin.map(|(origin, count)| point(result, origin, *count))
    });
    points.collect()
}

fn waiting(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).map(|destination| {
        let DestinationView { exports, lost, .. } = &destination;
        let gone = exports.begun + lost.total();
        destination.of_processor(stats.ledger.accepted.saturating_sub(gone), None)
    });
    points.collect()
}

fn capacity(stats: &Stats) -> Vec<Point<u64>> {
    let destinations = destinations(stats);
    let points = destinations.map(|d| d.of_processor(stats.buffer_capacity, None));
    points.collect()
}

fn processed(stats: &Stats) -> Vec<Point<u64>> {
    let refused = &stats.ledger.refused;
    let points = destinations(stats).flat_map(|destination| {
        let DestinationView { exports, lost, .. } = &destination;
        let outcomes = [
            (exports.begun, None),
            (refused.buffer_full + lost.overflow, Some("queue_full")),
            (refused.too_large, Some("too_large")),
            (refused.unknown_scope, Some("unknown_scope")),
            (refused.shut_down, Some("already_shutdown")),
            (lost.shut_down, Some("shutdown_timeout")),
            (refused.no_recorder, Some("no_recorder")),
            (refused.no_slab, Some("no_slab")),
            (refused.forked, Some("forked")),
        ];
        outcomes.map(|(spans, error)| destination.of_processor(spans, error))
    });
    points.collect()
}

fn in_flight(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).map(|destination| {
        let DestinationView {
            ledger, exports, ..
        } = &destination;
        let ended = ledger.delivered + ledger.rejected + exports.dropped.total();
        let in_flight = exports.begun.saturating_sub(ended);
        destination.of_exporter(in_flight, None)
    });
    points.collect()
}

/// Errors whose time series exist from the start, so that alerts see their first increase.
const COMMON_ERRORS: [&str; 3] = ["rejected", "timeout", "connection_lost"];

fn exported(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).flat_map(|destination| {
        let delivered = destination.of_exporter(destination.ledger.delivered, None);
        let common = COMMON_ERRORS.map(|error| destination.of_exporter(0, Some(error)));
        let failed = destination.failures.iter().map(|(export, totals)| {
            let error = error_type(export);
            destination.of_exporter(totals.failed_spans, error.as_deref())
        });
        let failed: Vec<_> = failed.filter(|point| point.value > 0).collect();
        std::iter::once(delivered).chain(common).chain(failed)
    });
    points.collect()
}

fn durations(stats: &Stats) -> Vec<Point<Buckets>> {
    let mut points = Vec::new();
    for (index, destination) in stats.network.destinations.iter().enumerate() {
        let exports = destination.exports.iter().map(|(export, totals)| Point {
            attributes: of_export(index, destination, export),
            value: totals.durations.clone(),
        });
        points.extend(exports.filter(|point| point.value.durations.count > 0));
    }
    points
}

/// Returns the error of an export's last attempt; `None` if it was a full success.
fn error_type(export: &Export) -> Option<String> {
    let status = export.failure_status();
    export
        .error
        .map(str::to_string)
        .or_else(|| status.map(|status| status.to_string()))
}

// ---- Attributes ----

/// A destination's statistics: those of one processor and one exporter.
struct DestinationView<'a> {
    index: usize,
    ledger: &'a DestinationLedger,
    exports: ExportedSpans,
    /// Spans dropped before they were passed to an endpoint.
    lost: DroppedSpans,
    endpoints: &'a [EndpointStats],
    /// Exports by outcome.
    failures: &'a Exports,
}

fn destinations(stats: &Stats) -> impl Iterator<Item = DestinationView<'_>> {
    static NONE: Exports = Exports::new();
    let ledgers = stats.ledger.destinations.iter();
    let pairs = ledgers.zip(&stats.exports).enumerate();
    pairs.map(|(index, (ledger, exports))| {
        let network = stats.network.destinations.get(index);
        DestinationView {
            index,
            ledger,
            exports: *exports,
            lost: ledger.dropped - exports.dropped,
            endpoints: network.map_or(&[], |network| &network.endpoints),
            failures: network.map_or(&NONE, |network| &network.exports),
        }
    })
}

impl DestinationView<'_> {
    fn of_processor(&self, value: u64, error: Option<&str>) -> Point<u64> {
        let mut attributes = component(PROCESSOR, self.index);
        attributes.extend(error.map(|error| ("error.type", error.into())));
        Point { attributes, value }
    }

    /// Returns a point of the exporter. The point has a server address if the destination has exactly
    /// one endpoint.
    fn of_exporter(&self, value: u64, error: Option<&str>) -> Point<u64> {
        let mut attributes = component(EXPORTER, self.index);
        if let [endpoint] = self.endpoints {
            attributes.extend(server(endpoint));
        }
        attributes.extend(error.map(|error| ("error.type", error.into())));
        Point { attributes, value }
    }
}

fn of_export(index: usize, destination: &DestinationStats, export: &Export) -> Vec<Attribute> {
    let mut attributes = component(EXPORTER, index);
    let endpoint = destination.endpoints.get(export.endpoint);
    attributes.extend(endpoint.into_iter().flat_map(server));
    let status = export.status.map(u64::from);
    attributes
        .extend(status.map(|status| ("http.response.status_code", AttributeValue::Number(status))));
    let error = error_type(export).map(AttributeValue::Text);
    attributes.extend(error.map(|error| ("error.type", error)));
    attributes
}

pub(super) fn component(kind: &str, index: usize) -> Vec<Attribute> {
    vec![
        (
            "otel.component.name",
            AttributeValue::Text(format!("{kind}/{index}")),
        ),
        ("otel.component.type", kind.into()),
    ]
}

pub(super) fn server(endpoint: &EndpointStats) -> [Attribute; 2] {
    [
        ("server.address", (&*endpoint.server_address).into()),
        (
            "server.port",
            AttributeValue::Number(endpoint.server_port.into()),
        ),
    ]
}
