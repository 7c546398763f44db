//! Metrics as Prometheus text (exposition format 0.0.4), with names by OpenTelemetry's rules.

use std::fmt::Write;

use crate::metrics::gather::gather;
use crate::metrics::metric::{Attribute, Metric, MetricData, Point};
use crate::stats::{Buckets, Stats};

impl Stats {
    /// Returns all metrics in the Prometheus text format: those of the semantic conventions
    /// (`otel_sdk_*`) and this library's own (`otlp_collector_*`).
    ///
    /// The latter include the state of each endpoint (`otlp_collector_endpoint_status`), its
    /// responses, failures and last success, refused and dropped spans by reason, and the time from
    /// a span's end to its acknowledgement.
    ///
    /// Each of these alert rules means that an endpoint fails, spans are lost, or the network
    /// thread does not respond. In a group with fail-over the first can be true while another
    /// endpoint delivers.
    ///
    /// ```text
    /// otlp_collector_endpoint_status{otlp_collector_endpoint_state!~"unused|connected"} > 0
    /// absent(otlp_collector_endpoint_status)
    /// rate(otlp_collector_spans_refused_total[1m]) > 0
    /// rate(otlp_collector_spans_dropped_total[1m]) > 0
    /// rate(otel_sdk_exporter_span_exported_total{error_type!=""}[1m]) > 0
    /// otlp_collector_buffer_utilization_ratio > 0.8
    /// ```
    ///
    /// ```
    /// # use otlp_collector::{Collector, Config};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let collector = Collector::new(Config::default())?;
    /// let page = collector.stats().to_prometheus();
    /// assert!(page.contains("# TYPE otel_sdk_exporter_span_exported_total counter"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut page = String::new();
        for metric in gather(self) {
            write_metric(&mut page, &metric);
        }
        page
    }
}

fn write_metric(page: &mut String, metric: &Metric) {
    let name = name(metric);
    match &metric.data {
        MetricData::Counter(points) => {
            let name = format!("{name}_total");
            write_head(page, &name, "counter", metric.description);
            write_points(page, &name, points);
        }
        MetricData::UpDownCounter(points) => {
            write_head(page, &name, "gauge", metric.description);
            write_points(page, &name, points);
        }
        MetricData::Gauge(points) => {
            write_head(page, &name, "gauge", metric.description);
            write_points(page, &name, points);
        }
        MetricData::Histogram(points) => {
            write_head(page, &name, "histogram", metric.description);
            for point in points {
                write_histogram(page, &name, &labels(&point.attributes), &point.value);
            }
        }
    }
}

/// Returns the name with a suffix for the unit. Units in braces add none.
fn name(metric: &Metric) -> String {
    let name = metric.name.replace('.', "_");
    match metric.unit {
        "s" => format!("{name}_seconds"),
        "1" => format!("{name}_ratio"),
        _ => name,
    }
}

fn write_histogram(page: &mut String, name: &str, labels: &str, buckets: &Buckets) {
    let bounds = Buckets::bounds().map(|bound| bound.to_string());
    let bounds = bounds.chain(std::iter::once("+Inf".to_string()));
    let separator = if labels.is_empty() { "" } else { "," };
    let mut cumulative = 0;
    for (bound, count) in bounds.zip(buckets.counts()) {
        cumulative += count;
        let labels = format!("{labels}{separator}le=\"{bound}\"");
        write_line(page, &format!("{name}_bucket"), &labels, cumulative);
    }
    let sum = buckets.durations.sum_us as f64 / 1e6;
    write_line(page, &format!("{name}_sum"), labels, sum);
    write_line(
        page,
        &format!("{name}_count"),
        labels,
        buckets.durations.count,
    );
}

fn write_head(page: &mut String, name: &str, kind: &str, description: &str) {
    // Writing to a string is infallible.
    let _ = writeln!(page, "# HELP {name} {description}");
    let _ = writeln!(page, "# TYPE {name} {kind}");
}

fn write_points(page: &mut String, name: &str, points: &[Point<impl std::fmt::Display>]) {
    for point in points {
        write_line(page, name, &labels(&point.attributes), &point.value);
    }
}

fn write_line(page: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(page, "{name} {value}"),
        _ => writeln!(page, "{name}{{{labels}}} {value}"),
    };
}

fn labels(attributes: &[Attribute]) -> String {
    let labels = attributes.iter().map(|(key, value)| {
        let value = (value.to_string().replace('\\', "\\\\"))
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{}=\"{value}\"", key.replace('.', "_"))
    });
    labels.collect::<Vec<_>>().join(",")
}
