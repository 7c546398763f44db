//! The pipeline's statistics as metrics: those of OpenTelemetry's semantic conventions
//! (`otel.sdk.*`) and this library's own (`otlp_collector.*`). Formats: OTLP, Prometheus text and a
//! human-readable report.

mod otlp;
mod pipeline;
mod prometheus;
mod report;
mod sdk;

use std::fmt;

pub(crate) use self::otlp::elements;

use crate::stats::{Buckets, Stats};

/// A metric with all its data points.
struct Metric {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    data: Data,
}

enum Data {
    /// Monotonic sums.
    Counter(Vec<Point<u64>>),
    /// Sums that can fall.
    UpDownCounter(Vec<Point<u64>>),
    /// Values that are not additive.
    Gauge(Vec<Point<f64>>),
    /// Durations in seconds.
    Histogram(Vec<Point<Buckets>>),
}

#[derive(Clone)]
struct Point<T> {
    attributes: Vec<Attribute>,
    value: T,
}

type Attribute = (&'static str, Value);

#[derive(Clone, PartialEq)]
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

fn metrics(stats: &Stats) -> Vec<Metric> {
    let mut metrics = sdk::metrics(stats);
    metrics.extend(pipeline::metrics(stats));
    for metric in &mut metrics {
        metric.data.merge();
    }
    metrics
}

impl Data {
    /// Merges points with equal attributes, such as those of two endpoints with the same host and
    /// port: a time series must not occur twice.
    fn merge(&mut self) {
        match self {
            Self::Counter(points) | Self::UpDownCounter(points) => {
                merge(points, |value, more| *value += more);
            }
            Self::Gauge(points) => merge(points, |value, more| *value = value.max(*more)),
            Self::Histogram(points) => merge(points, Buckets::merge),
        }
    }
}

fn merge<T>(points: &mut Vec<Point<T>>, add: impl Fn(&mut T, &T)) {
    let mut merged: Vec<Point<T>> = Vec::with_capacity(points.len());
    for point in points.drain(..) {
        let same = |other: &&mut Point<T>| other.attributes == point.attributes;
        match merged.iter_mut().find(same) {
            Some(other) => add(&mut other.value, &point.value),
            None => merged.push(point),
        }
    }
    *points = merged;
}
