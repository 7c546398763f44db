//! The pipeline's own numbers as the metrics of OpenTelemetry's semantic conventions
//! (`otel/sdk-metrics`), and as text for Prometheus and for people.

mod otlp;
mod prometheus;
mod report;

pub(crate) use self::otlp::elements;

use crate::ledger::DestinationLedger;
use crate::stats::{DestinationStats, EndpointStats, Stats};

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
    Histogram(Vec<Point<Durations>>),
}

struct Point<T> {
    attributes: Vec<(&'static str, String)>,
    value: T,
}

/// In seconds.
struct Durations {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

const PROCESSOR: [(&str, &str); 2] = [
    ("otel.component.name", "batching_span_processor/0"),
    ("otel.component.type", "batching_span_processor"),
];
const EXPORTER_TYPE: &str = "otlp_http_span_exporter";

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
            data: Data::UpDownCounter(vec![of_processor(waiting(stats), None)]),
        },
        Metric {
            name: "otel.sdk.processor.span.queue.capacity",
            unit: "{span}",
            description: "Spans that can wait to be exported.",
            data: Data::UpDownCounter(vec![of_processor(stats.buffer_capacity, None)]),
        },
        Metric {
            name: "otel.sdk.processor.span.processed",
            unit: "{span}",
            description: "Spans that were handed to the exporter, or refused.",
            data: Data::Counter(processed(stats)),
        },
        Metric {
            name: "otel.sdk.exporter.span.inflight",
            unit: "{span}",
            description: "Spans on the way, without a response so far.",
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
            description: "From a request's first byte to the end of its response.",
            data: Data::Histogram(durations(stats)),
        },
    ]
}

// ---- What each of them counts ----

const SAMPLED: &str = "RECORD_AND_SAMPLE";

fn live(stats: &Stats) -> Point<u64> {
    Point {
        attributes: vec![("otel.span.sampling_result", SAMPLED.to_string())],
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
            ("otel.span.parent.origin", origin.to_string()),
            ("otel.span.sampling_result", result.to_string()),
        ],
        value,
    };
    let points = by_result.iter().flat_map(|(result, counts)| {
        let by_origin = ["none", "local", "remote"].into_iter().zip(counts);
        by_origin.map(|(origin, count)| point(result, origin, *count))
    });
    points.collect()
}

/// Those that wait for the destination that is furthest behind.
fn waiting(stats: &Stats) -> u64 {
    let destinations = stats.ledger.destinations.iter();
    destinations.map(|d| d.buffered).max().unwrap_or(0)
}

fn processed(stats: &Stats) -> Vec<Point<u64>> {
    let refused = &stats.ledger.refused;
    vec![
        of_processor(stats.ledger.accepted - waiting(stats), None),
        of_processor(refused.buffer_full, Some("queue_full")),
        of_processor(refused.too_large, Some("too_large")),
        of_processor(
            refused.invalid_id + refused.unknown_scope,
            Some("invalid_span"),
        ),
        of_processor(refused.shut_down, Some("already_shutdown")),
    ]
}

fn in_flight(stats: &Stats) -> Vec<Point<u64>> {
    let destinations = destinations(stats);
    let points = destinations.map(|(index, ledger, destination)| {
        of_exporter(index, destination, ledger.in_flight, None)
    });
    points.collect()
}

fn exported(stats: &Stats) -> Vec<Point<u64>> {
    let points = destinations(stats).flat_map(|(index, ledger, destination)| {
        let outcomes = [
            (ledger.delivered, None),
            (ledger.rejected, Some("rejected")),
            (ledger.dropped.overflow, Some("queue_full")),
            (ledger.dropped.retries, Some("retries_exhausted")),
            (ledger.dropped.shut_down, Some("already_shutdown")),
        ];
        outcomes.map(|(spans, error)| of_exporter(index, destination, spans, error))
    });
    points.collect()
}

fn durations(stats: &Stats) -> Vec<Point<Durations>> {
    let mut points = Vec::new();
    for (index, destination) in stats.network.destinations.iter().enumerate() {
        for endpoint in &destination.endpoints {
            points.extend(durations_of(index, endpoint));
        }
    }
    points
}

fn durations_of(index: usize, endpoint: &EndpointStats) -> Vec<Point<Durations>> {
    let seconds = |us: u64| us as f64 / 1e6;
    let points = endpoint.responses.iter().map(|(status, responses)| {
        let mut attributes = exporter(index);
        attributes.extend(server(endpoint));
        attributes.push(("http.response.status_code", status.to_string()));
        if !(200..300).contains(status) {
            attributes.push(("error.type", status.to_string()));
        }
        Point {
            attributes,
            value: Durations {
                count: responses.count,
                sum: seconds(responses.duration_us),
                min: seconds(responses.duration_us_min),
                max: seconds(responses.duration_us_max),
            },
        }
    });
    points.collect()
}

// ---- Whom a point is about ----

type ExportedTo<'a> = (usize, &'a DestinationLedger, &'a DestinationStats);

fn destinations(stats: &Stats) -> impl Iterator<Item = ExportedTo<'_>> {
    let ledgers = stats.ledger.destinations.iter();
    let pairs = ledgers.zip(&stats.network.destinations).enumerate();
    pairs.map(|(index, (ledger, destination))| (index, ledger, destination))
}

fn of_processor(value: u64, error: Option<&str>) -> Point<u64> {
    let mut attributes: Vec<_> = (PROCESSOR.iter())
        .map(|(key, value)| (*key, value.to_string()))
        .collect();
    attributes.extend(error.map(|error| ("error.type", error.to_string())));
    Point { attributes, value }
}

/// A group is not one server.
fn of_exporter(
    index: usize,
    destination: &DestinationStats,
    value: u64,
    error: Option<&str>,
) -> Point<u64> {
    let mut attributes = exporter(index);
    if let [endpoint] = &destination.endpoints[..] {
        attributes.extend(server(endpoint));
    }
    attributes.extend(error.map(|error| ("error.type", error.to_string())));
    Point { attributes, value }
}

fn exporter(index: usize) -> Vec<(&'static str, String)> {
    vec![
        ("otel.component.name", format!("{EXPORTER_TYPE}/{index}")),
        ("otel.component.type", EXPORTER_TYPE.to_string()),
    ]
}

fn server(endpoint: &EndpointStats) -> [(&'static str, String); 2] {
    [
        ("server.address", endpoint.server_address.clone()),
        ("server.port", endpoint.server_port.to_string()),
    ]
}

/// Attributes whose values are numbers.
fn is_number(key: &str) -> bool {
    matches!(key, "server.port" | "http.response.status_code")
}
