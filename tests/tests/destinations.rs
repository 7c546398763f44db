//! Several destinations do not delay each other, and endpoints of a group replace each other.

use std::thread;
use std::time::Duration;

use common::PATIENCE;
use otlp_collector::config::{Endpoint, MetricsOptions, Selection};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{
    Collector, Compression, Config, Destination, EndpointOptions, Overflow, Recorder, Refused,
    SpanRef, internals,
};

use common::script::{ScriptedServer, Step, response};

fn endpoint(url: String) -> Endpoint {
    Endpoint {
        url,
        options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 20,
            ..EndpointOptions::default()
        },
    }
}

fn group(selection: Selection, receivers: &[&Receiver]) -> Destination {
    let endpoints = receivers
        .iter()
        .map(|receiver| endpoint(receiver.endpoint()));
    Destination {
        endpoints: endpoints.collect(),
        selection,
    }
}

fn collector(destinations: Vec<Destination>) -> Collector {
    Collector::new(Config {
        destinations,
        batch_size: 100,
        batch_timeout_ms: 20,
        buffer_capacity: 10_000,
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap()
}

fn record(recorder: &Recorder) -> Result<(), Refused> {
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    recorder.record(&SpanRef::new(trace_id, span_id, "span"))
}

/// Records this many spans, all of which are accepted, and waits until this destination has received
/// them.
fn deliver(collector: &Collector, spans: u64, to: usize) {
    let recorder = collector.recorder().unwrap();
    (0..spans).for_each(|_| record(&recorder).unwrap());
    let all = collector.ledger().accepted;
    while collector.ledger().destinations[to].delivered < all {
        thread::yield_now();
    }
}

#[test]
fn all_destinations_receive_the_same_spans() {
    let receivers: Vec<_> = (0..3).map(|_| Receiver::start().unwrap()).collect();
    let all = receivers.iter().map(|r| endpoint(r.endpoint()).into());
    let collector = collector(all.collect());
    let recorder = collector.recorder().unwrap();
    (0..1000).for_each(|_| record(&recorder).unwrap());
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!((ledger.accepted, ledger.delivered()), (1000, 3000));
    let ids = |receiver: &Receiver| {
        let mut ids: Vec<_> = (receiver.spans().into_iter()).map(|s| s.span_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&receivers[0]).len(), 1000);
    assert!(receivers.iter().all(|r| ids(r) == ids(&receivers[0])));
}

/// A destination that rejects large requests receives split batches; another one that reaches the
/// same batches later receives them whole.
#[test]
fn batches_split_for_one_destination_are_whole_for_another() {
    for compression in [Compression::None, Compression::Gzip] {
        let small = ScriptedServer::start(vec![
            vec![Step::ServeUpTo(4000, response(413, "", b""))];
            1000
        ]);
        let late = Receiver::start().unwrap();
        late.pause();
        let mut first = endpoint(small.endpoint());
        first.options.compression = Compression::Gzip;
        let mut second = endpoint(late.endpoint());
        second.options.connections_max = 1;
        second.options.compression = compression;
        let collector = Collector::new(Config {
            destinations: vec![first.into(), second.into()],
            batch_size: 150,
            batch_timeout_ms: 3_600_000,
            ..Config::default()
        })
        .unwrap();
        for _ in 0..10 {
            deliver(&collector, 150, 0);
        }
        late.resume();
        let ledger = collector.flush(PATIENCE).unwrap();
        for destination in &ledger.destinations {
            assert_eq!(destination.delivered, 1500, "{ledger}");
        }
        assert_eq!(late.spans().len(), 1500);
    }
}

/// Sends several times the buffer's capacity to a healthy receiver beside another destination.
fn healthy_beside(other: Destination) -> Collector {
    let healthy = Receiver::start_counting().unwrap();
    let collector = collector(vec![other, endpoint(healthy.endpoint()).into()]);
    for _ in 0..60 {
        deliver(&collector, 1000, 1);
    }
    let ledger = collector.ledger();
    assert_eq!(ledger.refused.total(), 0, "{ledger}");
    assert_eq!(ledger.destinations[1].dropped.total(), 0, "{ledger}");
    assert_eq!(healthy.counts().spans, 60_000);
    let other = &ledger.destinations[0];
    let known = other.settled() + other.in_flight + other.buffered;
    assert_eq!(known, 60_000, "{ledger}");
    collector
}

#[test]
fn a_dead_destination_does_not_affect_others() {
    let dead = Receiver::start().unwrap();
    dead.close();
    let collector = healthy_beside(endpoint(dead.endpoint()).into());
    let ledger = collector.ledger();
    // The dead destination has lost the oldest spans. About half a buffer is kept for it.
    let lost = ledger.destinations[0].dropped.overflow;
    assert_eq!(lost + ledger.destinations[0].buffered, 60_000, "{ledger}");
    assert!((50_000..58_000).contains(&lost), "{ledger}");
    dead.reopen().unwrap();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.destinations[0].delivered, 60_000 - lost, "{ledger}");
    assert_eq!(dead.spans().len() as u64, 60_000 - lost);
}

#[test]
fn a_silent_destination_does_not_affect_others() {
    let stall = vec![Step::ReadRequest, Step::Drain];
    let silent = ScriptedServer::start(vec![stall; 1000]);
    healthy_beside(endpoint(silent.endpoint()).into());
}

#[test]
fn a_refusing_destination_does_not_affect_others() {
    let refusing = Receiver::start_counting().unwrap();
    refusing.answer(Answer::status(503));
    healthy_beside(endpoint(refusing.endpoint()).into());
}

#[test]
fn a_hostile_destination_does_not_affect_others() {
    let garbage = Step::Write(b"\0\xffHTTP/9.9 -200\r\n".repeat(1000));
    let hostile = ScriptedServer::start(vec![vec![Step::ReadHead, garbage]; 10_000]);
    healthy_beside(endpoint(hostile.endpoint()).into());
}

#[test]
fn a_destination_with_many_hanging_connections_does_not_affect_others() {
    let stall = vec![Step::ReadRequest, Step::Drain];
    let silent = ScriptedServer::start(vec![stall; 1000]);
    let mut endpoint = endpoint(silent.endpoint());
    endpoint.options.connections_max = 64;
    healthy_beside(endpoint.into());
}

#[test]
fn short_failures_of_the_foremost_destination_are_not_an_outage() {
    let dead = Receiver::start().unwrap();
    dead.close();
    let flapping = Receiver::start_counting().unwrap();
    // Every fifth request is retried.
    let answers = (0..5000).map(|n| Answer::status(if n % 5 == 0 { 503 } else { 200 }));
    flapping.answer_next(answers);
    let collector = collector(vec![
        endpoint(dead.endpoint()).into(),
        endpoint(flapping.endpoint()).into(),
    ]);
    for _ in 0..60 {
        deliver(&collector, 1000, 1);
    }
    assert_eq!(collector.ledger().refused.total(), 0);
}

#[test]
fn a_hanging_request_does_not_delay_later_ones() {
    let server = ScriptedServer::start([vec![Step::ReadRequest, Step::Drain]]);
    let mut endpoint = endpoint(server.endpoint());
    endpoint.options.request_timeout_ms = 86_400_000;
    let collector = collector(vec![endpoint.into()]);
    let recorder = collector.recorder().unwrap();
    // On another connection, long before the first request times out.
    while collector.ledger().delivered() < 20_000 {
        let _ = record(&recorder);
    }
    assert_eq!(collector.stats().network.retries, 0);
}

#[test]
fn a_hanging_request_does_not_delay_flushed_spans() {
    let server = ScriptedServer::start([vec![Step::ReadRequest, Step::Drain]]);
    let mut endpoint = endpoint(server.endpoint());
    endpoint.options.request_timeout_ms = 86_400_000;
    let collector = collector(vec![endpoint.into()]);
    let recorder = collector.recorder().unwrap();
    record(&recorder).unwrap();
    while collector.ledger().destinations[0].in_flight == 0 {
        thread::yield_now();
    }
    record(&recorder).unwrap();
    // The first request hangs for a day; the second one uses another connection.
    while collector.ledger().delivered() == 0 {
        assert!(collector.flush(Duration::from_millis(20)).is_err());
    }
    assert_eq!(collector.ledger().destinations[0].in_flight, 1);
}

#[test]
fn another_endpoint_of_a_group_replaces_a_hanging_one() {
    let hanging = ScriptedServer::start(vec![vec![Step::ReadRequest, Step::Drain]; 10]);
    let mut first = endpoint(hanging.endpoint());
    first.options.request_timeout_ms = 86_400_000;
    let second = Receiver::start_counting().unwrap();
    let collector = collector(vec![Destination {
        endpoints: vec![first, endpoint(second.endpoint())],
        selection: Selection::FailOver,
    }]);
    let recorder = collector.recorder().unwrap();
    while second.counts().spans < 1000 {
        let _ = record(&recorder);
    }
    assert_eq!(collector.stats().network.retries, 0);
}

#[test]
fn a_lagging_destination_catches_up() {
    let (slow, healthy) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    slow.pause();
    let collector = collector(vec![
        endpoint(slow.endpoint()).into(),
        endpoint(healthy.endpoint()).into(),
    ]);
    // Less than half of the buffer's capacity.
    deliver(&collector, 4000, 1);
    slow.resume();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 8000, "{ledger}");
    assert_eq!(slow.spans().len(), 4000);
}

#[test]
fn with_all_destinations_dead_the_buffer_fills_and_new_spans_are_refused() {
    let receivers: Vec<_> = (0..2).map(|_| Receiver::start().unwrap()).collect();
    receivers.iter().for_each(Receiver::close);
    let all = receivers.iter().map(|r| endpoint(r.endpoint()).into());
    let collector = collector(all.collect());
    let recorder = collector.recorder().unwrap();
    let accepted = (0..30_000).filter(|_| record(&recorder).is_ok()).count() as u64;
    assert!(accepted >= 10_000);
    let ledger = collector.ledger();
    assert_eq!(ledger.refused.buffer_full, 30_000 - accepted);
    for receiver in &receivers {
        receiver.reopen().unwrap();
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    // They wait for each other, but not forever.
    for destination in &ledger.destinations {
        let lost = destination.dropped.overflow;
        assert_eq!(destination.delivered + lost, accepted, "{ledger}");
    }
    assert!(
        ledger.destinations.iter().any(|d| d.delivered == accepted),
        "{ledger}"
    );
}

#[test]
fn spans_dropped_for_newer_ones_are_counted_per_destination() {
    let (dead, healthy) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    dead.close();
    let collector = Collector::new(Config {
        destinations: vec![
            endpoint(dead.endpoint()).into(),
            endpoint(healthy.endpoint()).into(),
        ],
        overflow: Overflow::DropOldest,
        buffer_capacity: 10_000,
        batch_size: 100,
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    for _ in 0..40 {
        deliver(&collector, 1000, 1);
    }
    let ledger = collector.shutdown().unwrap();
    let [dead, healthy] = &ledger.destinations[..] else {
        panic!("expected two destinations: {ledger}");
    };
    assert_eq!((healthy.delivered, healthy.dropped.total()), (40_000, 0));
    assert_eq!(dead.dropped.total(), 40_000, "{ledger}");
    assert!(dead.dropped.overflow > 30_000, "{ledger}");
}

#[test]
fn a_failed_endpoint_of_a_group_is_replaced_until_it_recovers() {
    let (first, second) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let collector = collector(vec![group(Selection::FailOver, &[&first, &second])]);
    deliver(&collector, 100, 0);
    assert_eq!((first.spans().len(), second.spans().len()), (100, 0));
    first.close();
    deliver(&collector, 100, 0);
    assert_eq!((first.spans().len(), second.spans().len()), (100, 100));
    first.reopen().unwrap();
    // Until its backoff is over and it is tried again.
    while first.spans().len() == 100 {
        deliver(&collector, 1, 0);
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), ledger.accepted);
    let received = first.spans().len() + second.spans().len();
    assert_eq!(received as u64, ledger.accepted);
}

#[test]
fn a_request_that_one_endpoint_of_a_group_defers_goes_to_the_next() {
    let (first, second) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    first.answer(Answer::status(503).header("Retry-After", "3600"));
    let collector = collector(vec![group(Selection::FailOver, &[&first, &second])]);
    deliver(&collector, 100, 0);
    deliver(&collector, 100, 0);
    assert_eq!(first.counts().requests, 1);
    assert_eq!(second.spans().len(), 200);
}

#[test]
fn a_group_in_turn_uses_all_endpoints_except_failing_ones() {
    let receivers: Vec<_> = (0..3).map(|_| Receiver::start().unwrap()).collect();
    let all: Vec<_> = receivers.iter().collect();
    let collector = collector(vec![group(Selection::RoundRobin, &all)]);
    while receivers.iter().any(|receiver| receiver.spans().is_empty()) {
        deliver(&collector, 1, 0);
    }
    let before: Vec<_> = receivers.iter().map(|r| r.spans().len()).collect();
    receivers[1].close();
    for _ in 0..20 {
        deliver(&collector, 1, 0);
    }
    let after: Vec<_> = receivers.iter().map(|r| r.spans().len()).collect();
    assert_eq!(after[1], before[1]);
    assert!(after[0] > before[0] && after[2] > before[2]);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), ledger.accepted);
}

#[test]
fn a_panic_of_the_network_thread_loses_nothing() {
    let receiver = Receiver::start().unwrap();
    let collector = collector(vec![endpoint(receiver.endpoint()).into()]);
    deliver(&collector, 100, 0);
    receiver.pause();
    let recorder = collector.recorder().unwrap();
    (0..1000).for_each(|_| record(&recorder).unwrap());
    // While requests are in flight.
    while collector.ledger().destinations[0].in_flight == 0 {
        thread::yield_now();
    }
    for _ in 0..3 {
        internals::panic_network_thread(&collector);
    }
    receiver.resume();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(
        (ledger.accepted, ledger.delivered()),
        (1100, 1100),
        "{ledger}"
    );
    assert_eq!(collector.stats().network.panics, 3);
    assert_eq!(collector.shutdown().unwrap().dropped(), 0);
}

#[test]
fn a_disabled_collector_accepts_all_spans_and_sends_none() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        disabled: true,
        metrics: Some(MetricsOptions {
            interval_ms: 1,
            ..MetricsOptions::new(receiver.endpoint())
        }),
        buffer_capacity: 1000,
        batch_size: 100,
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    for _ in 0..20 {
        (0..500).for_each(|_| record(&recorder).unwrap());
        collector.flush(PATIENCE).unwrap();
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.refused.total()), (10_000, 0));
    assert_eq!(
        (ledger.delivered(), ledger.dropped(), ledger.pending()),
        (0, 0, 0)
    );
    assert_eq!(receiver.counts().connections, 0);
}

#[test]
fn destinations_in_code_conflict_with_an_endpoint_from_the_environment() {
    let receiver = Receiver::start().unwrap();
    let from_environment = Config::from_lookup(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("no URL at all".to_string()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("1".to_string()),
        _ => None,
    });
    assert_eq!(from_environment.warnings, [""; 0]);
    let error = Collector::new(from_environment.clone()).unwrap_err();
    assert!(error.to_string().contains("\"no URL at all\""), "{error}");
    let both = Config {
        destinations: vec![endpoint(receiver.endpoint()).into()],
        ..from_environment
    };
    let error = Collector::new(both.clone()).unwrap_err();
    assert!(error.is_config());
    let error = error.to_string();
    assert!(
        error.contains("remove endpoint") && error.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{error}"
    );
    let collector = Collector::new(Config {
        endpoint: Config::default().endpoint,
        endpoint_options: EndpointOptions::default(),
        ..both
    })
    .unwrap();
    record(&collector.recorder().unwrap()).unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

#[test]
fn invalid_destinations_are_errors() {
    let good = Destination::from(Endpoint::new("http://localhost:1"));
    for (what, config) in [
        (
            "endpoints is 0",
            Config {
                destinations: vec![good.clone(), Destination::default()],
                ..Config::default()
            },
        ),
        (
            "has no scheme",
            Config {
                destinations: vec![good.clone(), Endpoint::new("localhost").into()],
                ..Config::default()
            },
        ),
        (
            "destinations is 65",
            Config {
                destinations: vec![good; 65],
                ..Config::default()
            },
        ),
    ] {
        let error = Collector::new(config).unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(what),
            "{error}"
        );
    }
}
