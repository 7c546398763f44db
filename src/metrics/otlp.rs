//! Metrics as OTLP messages.

use crate::metrics::gather::gather;
use crate::metrics::metric::{Attribute, AttributeValue, Metric, MetricData, Point};
use crate::otlp::proto;
use crate::span::attribute::{AnyValue, KeyValue};
use crate::stats::{Buckets, Stats};

/// Returns all metrics as a `ScopeMetrics` message in which only the field `metrics` is set.
pub(crate) fn elements(stats: &Stats, start_time: u64, now: u64) -> proto::ScopeMetrics {
    let metrics = gather(stats).into_iter();
    proto::ScopeMetrics {
        metrics: metrics
            .map(|metric| encode(metric, start_time, now))
            .collect(),
        ..proto::ScopeMetrics::default()
    }
}

fn encode(metric: Metric, start_time: u64, now: u64) -> proto::Metric {
    use proto::AggregationTemporality::Cumulative;
    use proto::number_data_point::Value::{AsDouble, AsInt};
    let integer = |value| AsInt(i64::try_from(value).unwrap_or(i64::MAX));
    let sum = |points: Vec<Point<u64>>, is_monotonic| {
        let points = points
            .into_iter()
            .map(|point| number(point, integer, start_time, now));
        proto::metric::Data::Sum(proto::Sum {
            data_points: points.collect(),
            aggregation_temporality: Cumulative.into(),
            is_monotonic,
        })
    };
    let data = match metric.data {
        MetricData::Counter(points) => sum(points, true),
        MetricData::UpDownCounter(points) => sum(points, false),
        MetricData::Gauge(points) => {
            let points = points
                .into_iter()
                .map(|point| number(point, AsDouble, start_time, now));
            proto::metric::Data::Gauge(proto::Gauge {
                data_points: points.collect(),
            })
        }
        MetricData::Histogram(points) => {
            let points = points
                .into_iter()
                .map(|point| histogram(point, start_time, now));
            proto::metric::Data::Histogram(proto::Histogram {
                data_points: points.collect(),
                aggregation_temporality: Cumulative.into(),
            })
        }
    };
    proto::Metric {
        name: metric.name.to_string(),
        description: metric.description.to_string(),
        unit: metric.unit.to_string(),
        data: Some(data),
    }
}

fn number<T>(
    point: Point<T>,
    value: impl FnOnce(T) -> proto::number_data_point::Value,
    start_time: u64,
    now: u64,
) -> proto::NumberDataPoint {
    proto::NumberDataPoint {
        attributes: attributes(point.attributes),
        start_time_unix_nano: start_time,
        time_unix_nano: now,
        value: Some(value(point.value)),
    }
}

fn histogram(point: Point<Buckets>, start_time: u64, now: u64) -> proto::HistogramDataPoint {
    let buckets = &point.value;
    let durations = &buckets.durations;
    let seconds = |us: u64| us as f64 / 1e6;
    let is_empty = durations.count == 0;
    proto::HistogramDataPoint {
        attributes: attributes(point.attributes),
        start_time_unix_nano: start_time,
        time_unix_nano: now,
        count: durations.count,
        sum: Some(seconds(durations.sum_us)),
        bucket_counts: buckets.counts().to_vec(),
        explicit_bounds: Buckets::bounds().collect(),
        min: (!is_empty).then_some(seconds(durations.min_us)),
        max: (!is_empty).then_some(seconds(durations.max_us)),
    }
}

fn attributes(attributes: Vec<Attribute>) -> Vec<proto::KeyValue> {
    let attributes = attributes.into_iter().map(|(key, value)| {
        let value = match value {
            AttributeValue::Text(text) => AnyValue::from(text),
            AttributeValue::Number(number) => AnyValue::from(number),
        };
        KeyValue::new(key, value).into()
    });
    attributes.collect()
}
