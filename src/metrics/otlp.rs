//! As OTLP.

use super::{Attribute, Data, Metric, Point, Seconds, Value, metrics};
use crate::attribute::{AnyValue, KeyValue};
use crate::otlp::proto;
use crate::stats::Stats;

/// The metrics as one `ScopeMetrics` without its scope: the elements of its field `metrics`.
pub(crate) fn elements(stats: &Stats, start_time: u64, now: u64) -> proto::ScopeMetrics {
    let metrics = metrics(stats).into_iter();
    proto::ScopeMetrics {
        metrics: metrics
            .map(|metric| encode(metric, start_time, now))
            .collect(),
        ..proto::ScopeMetrics::default()
    }
}

fn encode(metric: Metric, start_time: u64, now: u64) -> proto::Metric {
    use proto::AggregationTemporality::Cumulative;
    let sum = |points: Vec<Point<u64>>, is_monotonic| {
        let points = points
            .into_iter()
            .map(|point| number(point, start_time, now));
        proto::metric::Data::Sum(proto::Sum {
            data_points: points.collect(),
            aggregation_temporality: Cumulative.into(),
            is_monotonic,
        })
    };
    let data = match metric.data {
        Data::Counter(points) => sum(points, true),
        Data::UpDownCounter(points) => sum(points, false),
        Data::Histogram(points) => {
            let points = points
                .into_iter()
                .map(|point| bucket(point, start_time, now));
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

fn number(point: Point<u64>, start_time: u64, now: u64) -> proto::NumberDataPoint {
    let value = i64::try_from(point.value).unwrap_or(i64::MAX);
    proto::NumberDataPoint {
        attributes: attributes(point.attributes),
        start_time_unix_nano: start_time,
        time_unix_nano: now,
        value: Some(proto::number_data_point::Value::AsInt(value)),
    }
}

fn bucket(point: Point<Seconds>, start_time: u64, now: u64) -> proto::HistogramDataPoint {
    let Seconds {
        count,
        sum,
        min,
        max,
    } = point.value;
    proto::HistogramDataPoint {
        attributes: attributes(point.attributes),
        start_time_unix_nano: start_time,
        time_unix_nano: now,
        count,
        sum: Some(sum),
        bucket_counts: vec![count],
        explicit_bounds: Vec::new(),
        min: Some(min),
        max: Some(max),
    }
}

fn attributes(attributes: Vec<Attribute>) -> Vec<proto::KeyValue> {
    let attributes = attributes.into_iter().map(|(key, value)| {
        let value = match value {
            Value::Text(text) => AnyValue::from(text),
            Value::Number(number) => AnyValue::from(number),
        };
        KeyValue::new(key, value).into()
    });
    attributes.collect()
}
