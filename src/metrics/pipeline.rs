//! Metrics that no semantic convention defines (`otlp_collector.*`).

use crate::metrics::metric::{Attribute, AttributeValue, Metric, MetricData, Point};
use crate::metrics::sdk::{EXPORTER, component, server};
use crate::stats::health::EndpointState;
use crate::stats::{EndpointStats, Stats};

pub(super) fn metrics(stats: &Stats) -> Vec<Metric> {
    let (buffer, spans, endpoints) = (buffer(stats), spans(stats), endpoints(stats));
    buffer.into_iter().chain(spans).chain(endpoints).collect()
}

fn buffer(stats: &Stats) -> [Metric; 2] {
    [
        Metric {
            name: "otlp_collector.buffer.utilization",
            unit: "1",
            description: "Used share of the buffer, in flight and waiting for a retry included; at \
                          1 spans are refused.",
            data: MetricData::Gauge(vec![point(Vec::new(), stats.buffer_utilization())]),
        },
        Metric {
            name: "otlp_collector.network_thread.panics",
            unit: "{panic}",
            description: "Panics that the network thread has survived.",
            data: MetricData::Counter(vec![point(Vec::new(), stats.network.panics)]),
        },
    ]
}

// ---- Spans ----

fn spans(stats: &Stats) -> [Metric; 7] {
    let network = &stats.network;
    let retries = network.destinations.iter().enumerate();
    [
        Metric {
            name: "otlp_collector.spans.accepted",
            unit: "{span}",
            description: "Spans accepted for delivery.",
            data: MetricData::Counter(vec![point(Vec::new(), stats.ledger.accepted)]),
        },
        Metric {
            name: "otlp_collector.spans.refused",
            unit: "{span}",
            description: "Spans that recording refused, by reason.",
            data: MetricData::Counter(by_reason(Vec::new(), &stats.ledger.refused.by_reason())),
        },
        Metric {
            name: "otlp_collector.spans.dropped",
            unit: "{span}",
            description: "Accepted spans that were dropped, by reason.",
            data: MetricData::Counter(dropped(stats)),
        },
        Metric {
            name: "otlp_collector.spans.without_memory",
            unit: "{span}",
            description: "Spans that lost their data because open_span_bytes_total were in use.",
            data: MetricData::Counter(vec![point(Vec::new(), stats.spans_without_memory)]),
        },
        Metric {
            name: "otlp_collector.spans.kept_early",
            unit: "{span}",
            description: "Held spans that were kept before their local root ended, for lack of memory.",
            data: MetricData::Counter(vec![point(Vec::new(), stats.spans_kept_early)]),
        },
        Metric {
            name: "otlp_collector.requests.retried",
            unit: "{request}",
            description: "Requests that were put back to be sent again.",
            data: MetricData::Counter(
                retries
                    .map(|(index, d)| point(component(EXPORTER, index), d.retries))
                    .collect(),
            ),
        },
        Metric {
            name: "otlp_collector.delivery.duration",
            unit: "s",
            description: "Time from a span's end to its acknowledgement, for one batch of each request.",
            data: MetricData::Histogram(vec![point(Vec::new(), network.delivery_buckets.clone())]),
        },
    ]
}

fn dropped(stats: &Stats) -> Vec<Point<u64>> {
    let destinations = stats.ledger.destinations.iter().enumerate();
    let points = destinations.flat_map(|(index, destination)| {
        by_reason(component(EXPORTER, index), &destination.dropped.by_reason())
    });
    points.collect()
}

fn by_reason(attributes: Vec<Attribute>, counts: &[(&str, u64)]) -> Vec<Point<u64>> {
    let points = counts.iter().map(|(reason, count)| {
        let mut attributes = attributes.clone();
        let reason = AttributeValue::Text(reason.replace(' ', "_"));
        attributes.push(("otlp_collector.reason", reason));
        point(attributes, *count)
    });
    points.collect()
}

// ---- Endpoints ----

fn endpoints(stats: &Stats) -> [Metric; 7] {
    let counter = |name, unit, description, value: fn(&EndpointStats) -> u64| Metric {
        name,
        unit,
        description,
        data: MetricData::Counter(of_each(stats, value)),
    };
    let gauge = |name, description, value: fn(&EndpointStats) -> f64| Metric {
        name,
        unit: "s",
        description,
        data: MetricData::Gauge(of_each(stats, value)),
    };
    [
        Metric {
            name: "otlp_collector.endpoint.status",
            unit: "{endpoint}",
            description: "Endpoints in this state: 0 or 1, more if several have the same host and port.",
            data: MetricData::UpDownCounter(status(stats)),
        },
        Metric {
            name: "otlp_collector.endpoint.responses",
            unit: "{response}",
            description: "Responses by status, those to retries included.",
            data: MetricData::Counter(responses(stats)),
        },
        counter(
            "otlp_collector.endpoint.requests.unanswered",
            "{request}",
            "Requests without a response: broken connections and timeouts.",
            |endpoint| endpoint.unanswered,
        ),
        counter(
            "otlp_collector.endpoint.connects.failed",
            "{connection}",
            "Connections that could not be established.",
            |endpoint| endpoint.failed_connects,
        ),
        counter(
            "otlp_collector.endpoint.connections",
            "{connection}",
            "Connections established.",
            |endpoint| endpoint.connections,
        ),
        gauge(
            "otlp_collector.endpoint.last_success.timestamp",
            "Unix time of the last successful response; 0 if there was none.",
            |endpoint| endpoint.last_success_time as f64 / 1e9,
        ),
        gauge(
            "otlp_collector.endpoint.oldest_request.age",
            "Time since the oldest unanswered request was started; 0 if there is none.",
            |endpoint| {
                let age = endpoint.health.oldest_request_age.unwrap_or_default();
                age.as_secs_f64()
            },
        ),
    ]
}

fn status(stats: &Stats) -> Vec<Point<u64>> {
    let points = all_endpoints(stats).flat_map(|(attributes, endpoint)| {
        EndpointState::ALL.map(|state| {
            let mut attributes = attributes.clone();
            let name = state.to_string().replace(' ', "_");
            attributes.push(("otlp_collector.endpoint.state", AttributeValue::Text(name)));
            point(attributes, u64::from(endpoint.health.state == state))
        })
    });
    points.collect()
}

fn responses(stats: &Stats) -> Vec<Point<u64>> {
    let points = all_endpoints(stats).flat_map(|(attributes, endpoint)| {
        let responses = endpoint.responses.iter();
        let points = responses.map(move |(status, responses)| {
            let mut attributes = attributes.clone();
            let status = AttributeValue::Number(u64::from(*status));
            attributes.push(("http.response.status_code", status));
            point(attributes, responses.count)
        });
        points.collect::<Vec<_>>()
    });
    points.collect()
}

fn of_each<T>(stats: &Stats, value: impl Fn(&EndpointStats) -> T) -> Vec<Point<T>> {
    let points = all_endpoints(stats);
    points
        .map(|(attributes, endpoint)| point(attributes, value(endpoint)))
        .collect()
}

fn all_endpoints(stats: &Stats) -> impl Iterator<Item = (Vec<Attribute>, &EndpointStats)> {
    let destinations = stats.network.destinations.iter().enumerate();
    destinations.flat_map(|(index, destination)| {
        destination.endpoints.iter().map(move |endpoint| {
            let mut attributes = component(EXPORTER, index);
            attributes.extend(server(endpoint));
            (attributes, endpoint)
        })
    })
}

fn point<T>(attributes: Vec<Attribute>, value: T) -> Point<T> {
    Point { attributes, value }
}
