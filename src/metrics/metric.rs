//! A metric, independent of the format in which it is exposed.

use std::fmt;

use crate::stats::Buckets;

/// A metric with all its data points.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) description: &'static str,
    pub(super) data: MetricData,
}

/// Points of a metric, by its kind.
pub(super) enum MetricData {
    /// Monotonic sums.
    Counter(Vec<Point<u64>>),
    /// Sums that can fall.
    UpDownCounter(Vec<Point<u64>>),
    /// Values that are not additive.
    Gauge(Vec<Point<f64>>),
    /// Durations in seconds.
    Histogram(Vec<Point<Buckets>>),
}

/// A value with its attributes: one time series at one moment.
#[derive(Clone)]
pub(super) struct Point<T> {
    pub(super) attributes: Vec<Attribute>,
    pub(super) value: T,
}

/// Key and value of an attribute.
pub(super) type Attribute = (&'static str, AttributeValue);

/// Value of an attribute: a string or an integer.
#[derive(Clone, PartialEq)]
pub(super) enum AttributeValue {
    Text(String),
    Number(u64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl MetricData {
    /// Merges points with equal attributes, such as those of two endpoints with the same host and
    /// port: a time series must not occur twice.
    pub(super) fn merge(&mut self) {
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
