//! The basic use of the crate: one configuration, `collect` on any thread, a ledger.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, span_id, trace_id};
use otlp_collector::testing::Receiver;
use otlp_collector::{
    Collector, Config, EndpointOptions, KeyValue, Overflow, Refused, Span, Status,
};

fn config(receiver: &Receiver) -> Config {
    Config {
        batch_size: 1000,
        batch_timeout_ms: 5000,
        buffer_capacity: 100_000,
        endpoint: receiver.endpoint(),
        ..Config::default()
    }
}

#[test]
fn spans_collected_on_one_thread_arrive() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        // With several connections, requests may overtake each other.
        endpoint_options: EndpointOptions {
            connections_max: 1,
            ..EndpointOptions::default()
        },
        ..config(&receiver)
    })
    .unwrap();
    for i in 0..10_000 {
        collector.collect(Span::new(format!("span-{i}"))).unwrap();
    }
    let ledger = collector.shutdown().unwrap();

    assert_eq!((ledger.accepted, ledger.delivered()), (10_000, 10_000));
    assert_eq!((ledger.refused.total(), ledger.dropped()), (0, 0));
    let spans = receiver.spans();
    assert_eq!(spans.len(), 10_000);
    for (i, span) in spans.iter().enumerate() {
        assert_eq!(span.name, format!("span-{i}"));
        assert!(span.end_time >= span.start_time);
    }
}

#[test]
fn all_fields_of_a_span_arrive() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let parent = Span::new("parent");
    let mut child = Span::child_of(&parent, "child");
    child.start_time = 5;
    child.end_time = 9;
    child.attributes = vec![
        KeyValue::new("text", "ä"),
        KeyValue::new("truth", true),
        KeyValue::new("number", -7),
        KeyValue::new("ratio", 0.5),
    ];
    child.status = Status::Error("broken".into());
    collector.collect(child).unwrap();
    collector.collect(parent.clone()).unwrap();
    collector.flush(PATIENCE).unwrap();

    let spans = receiver.spans();
    let [child, root] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(child.trace_id, parent.trace_id);
    assert_eq!(child.parent_span_id, Some(parent.span_id));
    assert_eq!((child.start_time, child.end_time), (5, 9));
    assert_eq!(child.attributes.len(), 4);
    assert_eq!(child.status, Status::Error("broken".into()));
    assert_eq!((root.parent_span_id, &root.status), (None, &Status::Unset));

    let request = &receiver.requests()[0];
    assert_eq!(request.path, "/v1/traces");
    assert_eq!(
        request.header("content-type"),
        Some("application/x-protobuf")
    );
    let resource = &request.spans[0].resource;
    let keys: Vec<_> = resource.attributes.iter().map(|a| &*a.key).collect();
    assert_eq!(
        keys[..4],
        [
            "service.name",
            "telemetry.sdk.language",
            "telemetry.sdk.name",
            "telemetry.sdk.version"
        ]
    );
}

#[test]
fn two_thousand_short_lived_threads_lose_no_span() {
    const THREADS: u64 = 2_000;
    const SPANS: u64 = 20;
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    for _ in 0..THREADS / 50 {
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let collector = collector.clone();
                thread::spawn(move || {
                    for _ in 0..SPANS {
                        collector.collect(Span::new("short")).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.accepted, THREADS * SPANS);
    assert_eq!(ledger.delivered(), THREADS * SPANS);
    assert_eq!(receiver.counts().spans, THREADS * SPANS);
}

#[test]
fn a_thousand_concurrent_threads_lose_no_span() {
    const THREADS: u64 = 1_000;
    const SPANS: u64 = 100;
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        // Long enough for a slow receiver and for threads that wait for a recorder.
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..config(&receiver)
    })
    .unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..SPANS {
                    collector.collect(Span::new("crowd")).unwrap();
                }
            });
        }
    });
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), THREADS * SPANS);
    assert_eq!(receiver.counts().spans, THREADS * SPANS);
}

#[test]
fn dropping_the_last_clone_flushes() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let clone = collector.clone();
    collector.collect(Span::new("one")).unwrap();
    drop(collector);
    clone.collect(Span::new("two")).unwrap();
    drop(clone);
    assert_eq!(receiver.spans().len(), 2);
}

#[test]
fn after_shutdown_spans_are_refused_and_counted() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let recorder = collector.recorder().unwrap();
    collector.collect(Span::new("before")).unwrap();
    let first = collector.shutdown().unwrap();
    assert_eq!(
        collector.collect(Span::new("after")),
        Err(Refused::ShutDown)
    );
    let span = otlp_collector::SpanRef::new(trace_id(1), span_id(1), "after");
    assert_eq!(recorder.record(&span), Err(Refused::ShutDown));

    let again = collector.shutdown().unwrap();
    assert_eq!((first.delivered(), again.delivered()), (1, 1));
    assert_eq!(again.refused.shut_down, 2);
    assert!(collector.flush(PATIENCE).unwrap_err().is_shut_down());
    assert!(collector.recorder().unwrap_err().is_shut_down());
    let worker = collector.spawn_pinned(Collector::cores()[0], "late", |_| ());
    assert!(worker.unwrap_err().is_shut_down());
    assert_eq!(collector.stats().network.requests, 1);
}

#[test]
fn flush_covers_other_threads_and_open_slabs() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let barrier = Barrier::new(11);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let recorder = collector.recorder().unwrap();
                for _ in 0..2 {
                    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
                    let span = otlp_collector::SpanRef::new(trace_id, span_id, "flushed");
                    recorder.record(&span).unwrap();
                    // Recorded, then flushed.
                    barrier.wait();
                    barrier.wait();
                }
            });
        }
        for expected in [10, 20] {
            barrier.wait();
            let ledger = collector.flush(PATIENCE).unwrap();
            assert_eq!(ledger.delivered(), expected);
            assert_eq!(receiver.spans().len() as u64, expected);
            barrier.wait();
        }
    });
}

#[test]
fn flush_accepts_any_timeout() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    // No span is pending, so the flush cannot time out.
    collector.flush(Duration::ZERO).unwrap();
    collector.collect(Span::new("one")).unwrap();
    let ledger = collector.flush(Duration::MAX).unwrap();
    assert_eq!(ledger.delivered(), 1);
    collector.flush(Duration::ZERO).unwrap();
}
