//! The pipeline's own metrics, as OTLP, as Prometheus text and as a report.

use common::exposition;
use common::{PATIENCE, retry_at_once};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, NumberDataPoint, metric, number_data_point,
};
use otlp_collector::config::{Endpoint, MetricsOptions, Selection};
use otlp_collector::span::{KeepIf, Sampler, TailSampling};
use otlp_collector::stats::{NoticeKind, OnNotice};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{
    Collector, Compression, Config, Destination, EndpointOptions, Span, SpanContext,
};
use prost::Message;

/// Returns all values by metric and attributes, as in `name{key=value,…}`, without the attributes
/// that all have in common.
fn values(body: impl AsRef<[u8]>) -> BTreeMap<String, f64> {
    let request = ExportMetricsServiceRequest::decode(body.as_ref()).unwrap();
    let mut values = BTreeMap::new();
    let mut insert = |metric: &Metric, attributes: &[KeyValue], value: f64| {
        let key = key(&metric.name, attributes);
        assert!(
            values.insert(key.clone(), value).is_none(),
            "{key} occurs twice"
        );
    };
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|r| &r.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        match metric.data.as_ref().unwrap() {
            metric::Data::Sum(sum) => {
                for point in &sum.data_points {
                    insert(metric, &point.attributes, number(point));
                }
            }
            metric::Data::Gauge(gauge) => {
                for point in &gauge.data_points {
                    insert(metric, &point.attributes, number(point));
                }
            }
            metric::Data::Histogram(histogram) => {
                assert_eq!(metric.unit, "s");
                for point in &histogram.data_points {
                    check_buckets(point);
                    insert(metric, &point.attributes, point.count as f64);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    values
}

fn number(point: &NumberDataPoint) -> f64 {
    assert!(point.time_unix_nano >= point.start_time_unix_nano);
    match point.value.unwrap() {
        number_data_point::Value::AsInt(value) => value as f64,
        number_data_point::Value::AsDouble(value) => value,
    }
}

fn check_buckets(point: &HistogramDataPoint) {
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(point.explicit_bounds.is_sorted());
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    assert!(point.min <= point.max && point.max <= point.sum);
    assert_eq!(point.min.is_some(), point.count > 0);
}

fn key(name: &str, attributes: &[KeyValue]) -> String {
    let attributes = attributes.iter().filter_map(|attribute| {
        let value = match attribute.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(text) => text.clone(),
            any_value::Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let short = attribute.key.rsplit('.').next()?;
        let is_shown = [
            "origin",
            "sampling_result",
            "type",
            "status_code",
            "name",
            "reason",
            "state",
        ];
        (is_shown.contains(&short) && !attribute.key.ends_with("component.type"))
            .then(|| format!("{short}={value}"))
    });
    let name = name.trim_start_matches("otel.sdk.");
    format!("{name}{{{}}}", attributes.collect::<Vec<_>>().join(","))
}

#[test]
fn metrics_are_sent_and_correct() {
    let (receiver, refusing) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    receiver.answer_next([Answer::partial_success(2, "some")]);
    refusing.answer(Answer::status(400));
    let collector = Collector::new(Config {
        destinations: vec![
            Endpoint::new(receiver.endpoint()).into(),
            Destination::from(Endpoint::new(refusing.endpoint())),
        ],
        sampler: Sampler::default(),
        buffer_capacity: 1000,
        batch_size: 100,
        // Only a flush sends requests, so that they can be counted.
        batch_timeout_ms: 3_600_000,
        metrics: Some(MetricsOptions {
            interval_ms: 1,
            ..MetricsOptions::new(receiver.endpoint())
        }),
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    for _ in 0..3 {
        recorder.start("root").try_end().unwrap();
    }
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let unsampled = SpanContext::extract([("traceparent", header)]).unwrap();
    recorder
        .span_builder("not sampled")
        .parent(Some(&unsampled))
        .start()
        .try_end()
        .unwrap();
    {
        let root = recorder.start("root");
        recorder.start_child(&root, "child").try_end().unwrap();
    }
    collector.flush(PATIENCE).unwrap();
    let too_large = Span::new("x".repeat(100_000));
    collector.collect(too_large).unwrap_err();

    let is_done = |values: &BTreeMap<String, f64>| {
        values["processor.span.processed{name=batching_span_processor/0,type=too_large}"] == 1.0
    };
    let values = loop {
        if let Some(values) = receiver.metrics().last().map(values).filter(is_done) {
            break values;
        }
        thread::yield_now();
    };
    let first = "name=otlp_http_span_exporter/0";
    let second = "name=otlp_http_span_exporter/1";
    for (key, value) in [
        (
            "span.started{origin=none,sampling_result=RECORD_AND_SAMPLE}".to_string(),
            4.0,
        ),
        (
            "span.started{origin=local,sampling_result=RECORD_AND_SAMPLE}".to_string(),
            1.0,
        ),
        (
            "span.started{origin=remote,sampling_result=DROP}".to_string(),
            1.0,
        ),
        (
            "span.started{origin=none,sampling_result=DROP}".to_string(),
            0.0,
        ),
        (
            "processor.span.queue.size{name=batching_span_processor/0}".to_string(),
            0.0,
        ),
        (
            "processor.span.queue.capacity{name=batching_span_processor/0}".to_string(),
            1000.0,
        ),
        (
            "processor.span.processed{name=batching_span_processor/0}".to_string(),
            5.0,
        ),
        (format!("exporter.span.inflight{{{first}}}"), 0.0),
        (format!("exporter.span.exported{{{first}}}"), 3.0),
        (
            format!("exporter.span.exported{{{first},type=rejected}}"),
            2.0,
        ),
        (format!("exporter.span.exported{{{second}}}"), 0.0),
        (
            // The error of the last attempt.
            format!("exporter.span.exported{{{second},type=400}}"),
            5.0,
        ),
        (
            format!("exporter.span.exported{{{second},type=rejected}}"),
            0.0,
        ),
        (
            // Not a full success.
            format!("exporter.operation.duration{{{first},status_code=200,type=rejected}}"),
            1.0,
        ),
        (
            format!("exporter.operation.duration{{{second},status_code=400,type=400}}"),
            1.0,
        ),
        ("otlp_collector.spans.accepted{}".to_string(), 5.0),
        (
            "otlp_collector.spans.refused{reason=too_large}".to_string(),
            1.0,
        ),
        (
            format!("otlp_collector.endpoint.status{{{first},state=connected}}"),
            1.0,
        ),
        (
            format!("otlp_collector.endpoint.status{{{first},state=failing}}"),
            0.0,
        ),
        (
            format!("otlp_collector.endpoint.status{{{second},state=failing}}"),
            1.0,
        ),
        (
            format!("otlp_collector.endpoint.responses{{{first},status_code=200}}"),
            1.0,
        ),
        (
            format!("otlp_collector.endpoint.connections{{{second}}}"),
            1.0,
        ),
        (
            format!("otlp_collector.endpoint.last_success.timestamp{{{second}}}"),
            0.0,
        ),
        ("otlp_collector.buffer.utilization{}".to_string(), 0.0),
        ("otlp_collector.network_thread.panics{}".to_string(), 0.0),
        ("otlp_collector.delivery.duration{}".to_string(), 5.0),
    ] {
        assert_eq!(values.get(&key), Some(&value), "{key}: {values:#?}");
    }

    let body = receiver.metrics().pop().unwrap();
    let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
    let resource = &request.resource_metrics[0];
    assert_eq!(
        resource.scope_metrics[0].scope.as_ref().unwrap().name,
        "otlp-collector"
    );
    let attributes = &resource.resource.as_ref().unwrap().attributes;
    assert!(
        attributes
            .iter()
            .any(|attribute| attribute.key == "service.name")
    );
    // Requests with metrics are not counted with those of spans.
    assert_eq!(receiver.counts().requests, 1);
    assert_eq!(collector.stats().network.requests, 2);
}

#[test]
fn metrics_that_cannot_be_sent_do_not_affect_spans() {
    let receiver = Receiver::start().unwrap();
    let gone = Receiver::start().unwrap();
    gone.close();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        metrics: Some(MetricsOptions {
            interval_ms: 1,
            ..MetricsOptions::new(gone.endpoint())
        }),
        ..Config::default()
    })
    .unwrap();
    for _ in 0..100 {
        collector.collect(Span::new("span")).unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    gone.reopen().unwrap();
    while gone.metrics().is_empty() {
        thread::yield_now();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 100);
}

#[test]
fn spans_that_are_not_exported_are_counted_by_reason() {
    let gone = Receiver::start().unwrap();
    gone.close();
    let collector = Collector::new(Config {
        endpoint: gone.endpoint(),
        buffer_capacity: 100,
        batch_size: 100,
        shutdown_timeout_ms: 1,
        ..Config::default()
    })
    .unwrap();
    let (mut accepted, mut refused) = (0, 0);
    while refused < 7 {
        match collector.collect(Span::new("span")) {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    collector.shutdown().unwrap();
    for _ in 0..3 {
        collector.collect(Span::new("late")).unwrap_err();
    }
    let page = collector.stats().to_prometheus();
    let processed = "otel_sdk_processor_span_processed_total";
    assert_eq!(count(&page, processed, "queue_full"), 7);
    // These were accepted before the shutdown.
    assert_eq!(count(&page, processed, "shutdown_timeout"), accepted);
    assert_eq!(count(&page, processed, "already_shutdown"), 3);
    // None of these spans was ever sent.
    let exported = "otel_sdk_exporter_span_exported_total";
    for error in ["rejected", "timeout", "connection_lost"] {
        assert_eq!(count(&page, exported, error), 0, "{error}");
    }
    let dropped = "otlp_collector_spans_dropped_total";
    let dropped = page
        .lines()
        .find(|line| line.starts_with(dropped) && line.contains("shut_down"));
    assert!(
        dropped.unwrap().ends_with(&format!(" {accepted}")),
        "{page}"
    );
}

/// Returns the value of a metric with this `error.type`, or without one if it is empty.
fn count(page: &str, name: &str, error: &str) -> u64 {
    let is_it = |line: &&str| match error {
        "" => !line.contains("error_type"),
        error => line.contains(&format!("error_type=\"{error}\"")),
    };
    let lines = page.lines().filter(|line| line.starts_with(name));
    let line = lines.into_iter().find(is_it).expect("a line");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_retried_request_is_one_export() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(503));
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        endpoint_options: retry_at_once(),
        batch_size: 1,
        ..Config::default()
    })
    .unwrap();
    let (processed, in_flight, exported, operations) = (
        "otel_sdk_processor_span_processed_total",
        "otel_sdk_exporter_span_inflight",
        "otel_sdk_exporter_span_exported_total",
        "otel_sdk_exporter_operation_duration_seconds_count",
    );
    collector.collect(Span::new("span")).unwrap();
    receiver.wait_until(PATIENCE, |counts| counts.requests > 3);
    // The request is waiting or in flight.
    for _ in 0..20 {
        let page = collector.stats().to_prometheus();
        assert_eq!(count(&page, processed, ""), 1);
        assert_eq!(count(&page, in_flight, ""), 1);
        assert_eq!(count(&page, "otel_sdk_processor_span_queue_size", ""), 0);
        assert_eq!(count(&page, exported, ""), 0);
        assert!(!page.contains(operations), "{page}");
    }
    receiver.answer(Answer::ok());
    collector.flush(PATIENCE).unwrap();
    let page = collector.stats().to_prometheus();
    assert_eq!(count(&page, processed, ""), 1);
    assert_eq!(count(&page, in_flight, ""), 0);
    assert_eq!(count(&page, exported, ""), 1);
    assert_eq!(count(&page, operations, ""), 1);

    // A request that never succeeds counts once, with the error of its last attempt.
    receiver.answer(Answer::status(503));
    collector.collect(Span::new("span")).unwrap();
    collector.flush(Duration::from_millis(1)).unwrap_err();
    receiver.wait_until(PATIENCE, |counts| counts.requests > 10);
    drop(receiver);
    collector.shutdown().unwrap();
    let page = collector.stats().to_prometheus();
    assert_eq!(count(&page, processed, ""), 2);
    assert_eq!(count(&page, in_flight, ""), 0);
    // The receiver is gone, so the last attempt has one of these errors.
    let failed = ["503", "connection_lost", "aborted"].map(|error| {
        let lines = page.lines().filter(|line| line.starts_with(exported));
        let line = lines
            .into_iter()
            .find(|line| line.contains(&format!("\"{error}\"")));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    });
    assert_eq!(failed.iter().sum::<u64>(), 1, "{page}");
    let ends = page.lines().filter(|line| line.starts_with(operations));
    assert_eq!(ends.count(), 2, "{page}");
}

#[test]
fn a_request_that_was_split_is_one_export() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([Answer::status(413)]);
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    })
    .unwrap();
    for _ in 0..100 {
        collector.collect(Span::new("x".repeat(100))).unwrap();
    }
    collector.flush(PATIENCE).unwrap();
    let requests = receiver.counts().requests;
    assert!(requests > 2, "{requests}");
    let page = collector.stats().to_prometheus();
    let operations = "otel_sdk_exporter_operation_duration_seconds_count";
    assert_eq!(count(&page, operations, ""), 1);
    assert_eq!(
        count(&page, "otel_sdk_exporter_span_exported_total", ""),
        100
    );
}

#[test]
fn the_count_of_processed_spans_does_not_depend_on_their_outcome() {
    for answer in [
        Answer::ok(),
        Answer::status(400),
        Answer::partial_success(10, "all"),
    ] {
        let receiver = Receiver::start().unwrap();
        receiver.answer(answer);
        let collector = Collector::new(Config {
            endpoint: receiver.endpoint(),
            ..Config::default()
        })
        .unwrap();
        for _ in 0..10 {
            collector.collect(Span::new("span")).unwrap();
        }
        collector.flush(PATIENCE).unwrap();
        let page = collector.stats().to_prometheus();
        let processed = "otel_sdk_processor_span_processed_total";
        assert_eq!(count(&page, processed, ""), 10);
        let others = (page.lines())
            .filter(|line| line.starts_with(processed) && line.contains("error_type"));
        others.for_each(|line| assert!(line.ends_with(" 0"), "{line}"));
    }
}

#[test]
fn failed_exports_have_the_error_of_the_last_attempt() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([Answer::status(503), Answer::status(401)]);
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            ..EndpointOptions::default()
        },
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    collector.flush(PATIENCE).unwrap();
    let page = collector.stats().to_prometheus();
    let exported = "otel_sdk_exporter_span_exported_total";
    assert_eq!(count(&page, exported, "401"), 1);
    assert_eq!(count(&page, exported, "rejected"), 0);
    assert!(!page.contains("error_type=\"503\""), "{page}");
    let responses = "otlp_collector_endpoint_responses_total";
    let responses = page.lines().filter(|line| line.starts_with(responses));
    assert_eq!(responses.count(), 2, "{page}");
    assert_eq!(count(&page, "otlp_collector_requests_retried_total", ""), 1);
}

/// Two endpoints that differ only in their path have the same labels.
#[test]
fn no_series_occurs_twice() {
    let receiver = Receiver::start().unwrap();
    let endpoint = |path: &str| {
        let mut endpoint = Endpoint::new(receiver.endpoint());
        endpoint.options.path = path.to_string();
        endpoint
    };
    let collector = Collector::new(Config {
        destinations: vec![Destination {
            endpoints: vec![endpoint("/v1/traces"), endpoint("/other/v1/traces")],
            selection: Selection::RoundRobin,
        }],
        batch_size: 1,
        ..Config::default()
    })
    .unwrap();
    for _ in 0..10 {
        collector.collect(Span::new("span")).unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    let page = collector.stats().to_prometheus();
    exposition::check(&page);
    let connected = "otlp_collector_endpoint_state=\"connected\"} 2";
    assert!(page.lines().any(|line| line.ends_with(connected)), "{page}");
}

#[test]
fn the_last_metrics_include_all_spans() {
    for patience in [1, 3_600_000] {
        let receiver = Receiver::start().unwrap();
        let collector = Collector::new(Config {
            endpoint: receiver.endpoint(),
            metrics: Some(MetricsOptions {
                interval_ms: patience,
                ..MetricsOptions::new(receiver.endpoint())
            }),
            ..Config::default()
        })
        .unwrap();
        for _ in 0..100 {
            collector.collect(Span::new("span")).unwrap();
        }
        assert_eq!(collector.shutdown().unwrap().delivered(), 100);
        let last = receiver.metrics().last().map(values).unwrap();
        let exported = "exporter.span.exported{name=otlp_http_span_exporter/0}";
        assert_eq!(last[exported], 100.0, "{last:#?}");
    }
}

#[test]
fn the_last_metrics_include_spans_dropped_at_the_shutdown() {
    let receiver = Receiver::start().unwrap();
    let gone = Receiver::start().unwrap();
    gone.close();
    let collector = Collector::new(Config {
        destinations: vec![
            Endpoint::new(receiver.endpoint()).into(),
            Endpoint::new(gone.endpoint()).into(),
        ],
        shutdown_timeout_ms: 2000,
        metrics: Some(MetricsOptions::new(receiver.endpoint())),
        ..Config::default()
    })
    .unwrap();
    for _ in 0..100 {
        collector.collect(Span::new("span")).unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 100);
    let last = receiver.metrics().last().map(values).unwrap();
    let exported = "exporter.span.exported{name=otlp_http_span_exporter/0}";
    assert_eq!(last[exported], 100.0, "{last:#?}");
    let lost = "processor.span.processed{name=batching_span_processor/1,type=shutdown_timeout}";
    assert_eq!(last[lost], 100.0, "{last:#?}");
}

#[test]
fn the_last_metrics_are_sent_to_an_endpoint_that_has_recovered() {
    let (receiver, metrics) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    metrics.close();
    let mut options = MetricsOptions::new(metrics.endpoint());
    options.interval_ms = 1;
    options.endpoint.options.retry_initial_ms = 3_600_000;
    options.endpoint.options.retry_max_ms = 3_600_000;
    let (told, notices) = std::sync::mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        metrics: Some(options),
        on_notice: Some(OnNotice::new(move |notice| {
            told.send(notice.kind).unwrap();
        })),
        ..Config::default()
    })
    .unwrap();
    assert_eq!(notices.recv().unwrap(), NoticeKind::BackingOff);
    metrics.reopen().unwrap();
    collector.collect(Span::new("span")).unwrap();
    collector.shutdown().unwrap();
    let last = metrics.metrics().last().map(values).unwrap();
    let exported = "exporter.span.exported{name=otlp_http_span_exporter/0}";
    assert_eq!(last[exported], 1.0, "{last:#?}");
}

/// Newer metrics do not replace those that are being compressed.
#[test]
fn compressed_metrics_are_sent_however_often_they_are_due() {
    let receiver = Receiver::start().unwrap();
    let mut options = MetricsOptions::new(receiver.endpoint());
    options.interval_ms = 1;
    options.endpoint.options.compression = Compression::Gzip;
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        metrics: Some(options),
        ..Config::default()
    })
    .unwrap();
    while receiver.metrics().len() < 100 {
        thread::yield_now();
    }
    collector.shutdown().unwrap();
}

#[test]
fn metrics_that_cannot_be_delivered_do_not_delay_the_shutdown() {
    let receiver = Receiver::start().unwrap();
    // One endpoint refuses connections, the other never responds.
    let gone = Receiver::start().unwrap();
    gone.close();
    let silent = Receiver::start().unwrap();
    silent.pause();
    for metrics in [gone.endpoint(), silent.endpoint()] {
        let collector = Collector::new(Config {
            endpoint: receiver.endpoint(),
            shutdown_timeout_ms: 3_600_000,
            metrics: Some(MetricsOptions::new(metrics)),
            ..Config::default()
        })
        .unwrap();
        collector.collect(Span::new("span")).unwrap();
        assert_eq!(collector.shutdown().unwrap().delivered(), 1);
    }
}

#[test]
fn live_spans_are_those_that_have_not_ended_on_any_thread() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        tail_sampling: Some(TailSampling::new(KeepIf::default())),
        ..Config::default()
    })
    .unwrap();
    let live = || {
        let page = collector.stats().to_prometheus();
        let name = "otel_sdk_span_live{otel_span_sampling_result=\"RECORD_AND_SAMPLE\"} ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line").parse::<u64>().unwrap()
    };
    assert_eq!(live(), 0);
    let recorder = collector.recorder().unwrap();
    let root = recorder.start("root");
    let child = recorder.start_child(&root, "child");
    let late = recorder.start_child(&root, "ends after its root");
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let unsampled = SpanContext::extract([("traceparent", header)]).unwrap();
    let not_recording = (recorder.span_builder("not sampled"))
        .parent(Some(&unsampled))
        .start();
    assert_eq!(live(), 3);
    drop(not_recording);
    child.try_end().unwrap();
    root.try_end().unwrap();
    assert_eq!(live(), 1);
    late.try_end().unwrap();
    assert_eq!(live(), 0);

    let elsewhere = recorder.start("ends elsewhere");
    let other = recorder.start("ends on a thread with a recorder");
    assert_eq!(live(), 2);
    thread::scope(|scope| {
        scope.spawn(|| elsewhere.try_end().unwrap());
        scope.spawn(|| {
            let _recorder = collector.recorder().unwrap();
            other.try_end().unwrap();
        });
    });
    assert_eq!(live(), 0);
    drop(recorder);
    assert_eq!(live(), 0);
}

#[test]
fn metrics_are_exposed_as_prometheus_text_and_as_a_report() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    })
    .unwrap();
    for _ in 0..7 {
        collector.collect(Span::new("span")).unwrap();
    }
    collector.flush(PATIENCE).unwrap();
    let stats = collector.stats();
    let page = stats.to_prometheus();
    let address = receiver.address();
    let exporter = format!(
        "otel_component_name=\"otlp_http_span_exporter/0\",\
         otel_component_type=\"otlp_http_span_exporter\",\
         server_address=\"{}\",server_port=\"{}\"",
        address.ip(),
        address.port()
    );
    for line in [
        "# TYPE otel_sdk_exporter_span_exported_total counter".to_string(),
        format!("otel_sdk_exporter_span_exported_total{{{exporter}}} 7"),
        format!("otel_sdk_exporter_span_exported_total{{{exporter},error_type=\"rejected\"}} 0"),
        "# TYPE otel_sdk_processor_span_queue_capacity gauge".to_string(),
        "# TYPE otel_sdk_exporter_operation_duration_seconds histogram".to_string(),
        format!(
            "otel_sdk_exporter_operation_duration_seconds_count{{{exporter},\
             http_response_status_code=\"200\"}} 1"
        ),
        "# TYPE otlp_collector_delivery_duration_seconds histogram".to_string(),
        "otlp_collector_delivery_duration_seconds_count 7".to_string(),
        "otlp_collector_delivery_duration_seconds_bucket{le=\"+Inf\"} 7".to_string(),
        "otlp_collector_buffer_utilization_ratio 0".to_string(),
    ] {
        assert!(page.lines().any(|other| other == line), "{line}: {page}");
    }
    exposition::check(&page);

    let report = stats.to_string();
    for part in [
        "accepted      7 spans",
        "  delivered   7",
        "connected for",
        "{200: 1}",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
}
