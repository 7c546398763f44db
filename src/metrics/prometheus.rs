//! As text for Prometheus (exposition format 0.0.4), with names as OpenTelemetry's rules make them.

use std::fmt::Write;

use super::{Attribute, Data, Metric, Point, metrics};
use crate::stats::Stats;

impl Stats {
    /// All metrics of the semantic conventions as text for Prometheus, and the time from a span's end
    /// to its acknowledgement, `otlp_collector_delivery_seconds`.
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
        for metric in metrics(self) {
            write_metric(&mut page, &metric);
        }
        write_delivery(&mut page, self);
        page
    }
}

fn write_metric(page: &mut String, metric: &Metric) {
    let name = metric.name.replace('.', "_");
    match &metric.data {
        Data::Counter(points) => {
            let name = format!("{name}_total");
            write_head(page, &name, "counter", metric.description);
            points
                .iter()
                .for_each(|point| write_point(page, &name, point));
        }
        Data::UpDownCounter(points) => {
            write_head(page, &name, "gauge", metric.description);
            points
                .iter()
                .for_each(|point| write_point(page, &name, point));
        }
        Data::Histogram(points) => {
            let name = format!("{name}_seconds");
            write_head(page, &name, "histogram", metric.description);
            for point in points {
                let labels = labels(&point.attributes);
                let (count, sum) = (point.value.count, point.value.sum);
                write_line(
                    page,
                    &format!("{name}_bucket"),
                    &format!("{labels},le=\"+Inf\""),
                    count,
                );
                write_line(page, &format!("{name}_sum"), &labels, sum);
                write_line(page, &format!("{name}_count"), &labels, count);
            }
        }
    }
}

fn write_delivery(page: &mut String, stats: &Stats) {
    const NAME: &str = "otlp_collector_delivery_seconds";
    let histogram = &stats.network.delivery_us;
    write_head(
        page,
        NAME,
        "summary",
        "From a span's end to its acknowledgement, of one batch of each request.",
    );
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        let seconds = histogram.value_at_quantile(quantile) as f64 / 1e6;
        write_line(page, NAME, &format!("quantile=\"{quantile}\""), seconds);
    }
    write_line(page, &format!("{NAME}_count"), "", histogram.len());
}

fn write_head(page: &mut String, name: &str, kind: &str, description: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "# HELP {name} {description}");
    let _ = writeln!(page, "# TYPE {name} {kind}");
}

fn write_point(page: &mut String, name: &str, point: &Point<u64>) {
    write_line(page, name, &labels(&point.attributes), point.value);
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
