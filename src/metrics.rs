//! The pipeline's own numbers as the metrics of OpenTelemetry's semantic conventions
//! (`otel/sdk-metrics`), and as text for Prometheus and for people.

mod otlp;
mod prometheus;
mod report;

use std::fmt;

pub(crate) use self::otlp::elements;

use crate::ledger::{DestinationLedger, DroppedSpans};
use crate::stats::{DestinationStats, Durations, EndpointStats, Export, ExportCounts, Stats};

/// One metric with all its points.
struct Metric {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    data: Data,
}

enum Data {
    /// Only ever more.
    Counter(Vec<Point<u64>>),
    /// More or less.
    UpDownCounter(Vec<Point<u64>>),
    /// One bucket for all, as the conventions want it.
    Histogram(Vec<Point<Seconds>>),
}

struct Point<T> {
    attributes: Vec<Attribute>,
    value: T,
}

type Attribute = (&'static str, Value);

enum Value {
    Text(String),
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// In seconds.
struct Seconds {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl From<&Durations> for Seconds {
    fn from(durations: &Durations) -> Self {
        let seconds = |us: u64| us as f64 / 1e6;
        Self {
            count: durations.count,
            sum: seconds(durations.sum_us),
            min: seconds(durations.min_us),
            max: seconds(durations.max_us),
        }
    }
}

/// There is one of each for every destination.
const PROCESSOR: &str = "batching_span_processor";
const EXPORTER: &str = "otlp_http_span_exporter";

fn metrics(stats: &Stats) -> Vec<Metric> {
    vec![
        Metric {
            name: "otel.sdk.span.live",
            unit: "{span}",
            description: "Sampled spans that have not ended.",
            data: Data::UpDownCounter(vec![live(stats)]),
        },
        Metric {
            name: "otel.sdk.span.started",
            unit: "{span}",
            description: "Open spans that were started.",
            data: Data::Counter(started(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.queue.size",
            unit: "{span}",
            description: "Spans that wait to be exported.",
            data: Data::UpDownCounter(waiting(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.queue.capacity",
            unit: "{span}",
            description: "Spans that can wait to be exported.",
            data: Data::UpDownCounter(capacity(stats)),
        },
        Metric {
            name: "otel.sdk.processor.span.processed",
            unit: "{span}",
            description: "Spans that were handed to the exporter, or lost before.",
            data: Data::Counter(processed(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.span.inflight",
            unit: "{span}",
            description: "Spans that were sent at least once and have no outcome.",
            data: Data::UpDownCounter(in_flight(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.span.exported",
            unit: "{span}",
            description: "Spans with a final outcome.",
            data: Data::Counter(exported(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.operation.duration",
            unit: "s",
            description: "From the first attempt to send a request to its outcome.",
            data: Data::Histogram(durations(stats)),
        },
    ]
}

// ---- What each of them counts ----

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
        let Destination { exports, lost, .. } = &destination;
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
    let invalid = refused.invalid_id + refused.unknown_scope;
    let points = destinations(stats).flat_map(|destination| {
        let Destination { exports, lost, .. } = &destination;
        let outcomes = [
            (exports.begun, None),
            (refused.buffer_full + lost.overflow, Some("queue_full")),
            (refused.too_large, Some("too_large")),
            (invalid, Some("invalid_span")),
            (refused.shut_down + lost.shut_down, Some("already_shutdown")),
        ];
        outcomes.map(|(spans, error)| destination.of_processor(spans, error))
    });
    points.collect()
}

fn in_flight(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).map(|destination| {
        let done: u64 = destination.outcomes().iter().map(|(spans, _)| spans).sum();
        let in_flight = destination.exports.begun.saturating_sub(done);
        destination.of_exporter(in_flight, None)
    });
    points.collect()
}

fn exported(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).flat_map(|destination| {
        let outcomes = destination.outcomes();
        outcomes.map(|(spans, error)| destination.of_exporter(spans, error))
    });
    points.collect()
}

fn durations(stats: &Stats) -> Vec<Point<Seconds>> {
    let mut points = Vec::new();
    for (index, destination) in stats.network.destinations.iter().enumerate() {
        let exports = destination.exports.iter();
        points.extend(exports.map(|(export, durations)| Point {
            attributes: of_export(index, destination, export),
            value: durations.into(),
        }));
    }
    points
}

// ---- Whom a point is about ----

/// One destination, which is a processor and an exporter of its own.
struct Destination<'a> {
    index: usize,
    ledger: &'a DestinationLedger,
    exports: ExportCounts,
    /// What was dropped before it was handed to an endpoint.
    lost: DroppedSpans,
    endpoints: &'a [EndpointStats],
}

fn destinations(stats: &Stats) -> impl Iterator<Item = Destination<'_>> {
    let ledgers = stats.ledger.destinations.iter();
    let pairs = ledgers.zip(&stats.exports).enumerate();
    pairs.map(|(index, (ledger, exports))| {
        let network = stats.network.destinations.get(index);
        Destination {
            index,
            ledger,
            exports: *exports,
            lost: ledger.dropped - exports.dropped,
            endpoints: network.map_or(&[], |network| &network.endpoints),
        }
    })
}

impl Destination<'_> {
    /// Of what was handed to an endpoint.
    fn outcomes(&self) -> [(u64, Option<&'static str>); 5] {
        let Self {
            ledger, exports, ..
        } = self;
        [
            (ledger.delivered, None),
            (ledger.rejected, Some("rejected")),
            (exports.dropped.retries, Some("retries_exhausted")),
            (exports.dropped.overflow, Some("queue_full")),
            (exports.dropped.shut_down, Some("already_shutdown")),
        ]
    }

    fn of_processor(&self, value: u64, error: Option<&str>) -> Point<u64> {
        let mut attributes = component(PROCESSOR, self.index);
        attributes.extend(error.map(|error| ("error.type", error.into())));
        Point { attributes, value }
    }

    /// A group is not one server.
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
    attributes.extend(status.map(|status| ("http.response.status_code", Value::Number(status))));
    let is_success = |status: &u64| (200..300).contains(status);
    let failure = status.filter(|status| !is_success(status));
    let error = match (export.error, failure) {
        (Some(error), _) => Some(error.into()),
        (None, failure) => failure.map(|status| Value::Text(status.to_string())),
    };
    attributes.extend(error.map(|error| ("error.type", error)));
    attributes
}

fn component(kind: &str, index: usize) -> Vec<Attribute> {
    vec![
        (
            "otel.component.name",
            Value::Text(format!("{kind}/{index}")),
        ),
        ("otel.component.type", kind.into()),
    ]
}

fn server(endpoint: &EndpointStats) -> [Attribute; 2] {
    [
        ("server.address", (&*endpoint.server_address).into()),
        ("server.port", Value::Number(endpoint.server_port.into())),
    ]
}
