//! Short-lived threads that record a few spans: the slabs that they leave behind do not prevent other
//! threads from recording.

use std::thread;
use std::time::Duration;

use common::PATIENCE;
use otlp_collector::config::Endpoint;
use otlp_collector::span::{InstrumentationScope, Scope};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{
    Collector, Config, Destination, EndpointOptions, Ledger, Overflow, Recorder, Refused, Span,
    SpanRef,
};

use common::ClosedPort;

fn record(recorder: &Recorder) -> Result<(), Refused> {
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    recorder.record(&SpanRef::new(trace_id, span_id, "span"))
}

/// Records spans in the collector's own scope, and one in another.
fn record_some(recorder: Recorder, scope: &Scope, spans: u64) {
    (0..spans).for_each(|_| record(&recorder).unwrap());
    let in_scope = recorder.with_scope(scope).unwrap();
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    let span = SpanRef::new(trace_id, span_id, "in a scope");
    in_scope.record(&span).unwrap();
}

/// Each thread leaves a nearly empty slab, which is kept for a dead destination.
#[test]
fn short_lived_threads_beside_a_dead_destination_are_not_refused() {
    const THREADS: u64 = 1500;
    for overflow in [
        Overflow::Refuse,
        Overflow::DropOldest,
        Overflow::Block { timeout_ms: 60_000 },
    ] {
        let (closed, healthy) = (ClosedPort::new(), Receiver::start_counting().unwrap());
        let collector = Collector::new(Config {
            destinations: vec![
                Destination::from(Endpoint::new(closed.endpoint())),
                Destination::from(Endpoint::new(healthy.endpoint())),
            ],
            overflow,
            batch_timeout_ms: 1,
            shutdown_timeout_ms: 10,
            ..Config::default()
        })
        .unwrap();
        let scope = collector
            .register_scope(InstrumentationScope::new("storage"))
            .unwrap();
        let delivered = |ledger: &Ledger| ledger.destinations[1].delivered;
        for number in 0..THREADS {
            let recorder = collector.recorder().unwrap();
            thread::scope(|threads| {
                let short = threads.spawn(|| record_some(recorder, &scope, number % 20));
                short.join().unwrap();
            });
            if number % 20 == 0 {
                // Wait for the healthy destination.
                while delivered(&collector.ledger()) < collector.ledger().accepted {
                    thread::yield_now();
                }
            }
        }
        for _ in 0..1000 {
            collector.collect(Span::new("afterwards")).unwrap();
        }
        let ledger = collector.shutdown().unwrap();
        assert_eq!(ledger.refused.total(), 0, "{overflow:?} {ledger}");
        assert_eq!(delivered(&ledger), ledger.accepted, "{overflow:?} {ledger}");
    }
}

/// A hanging request occupies no more than its share of the buffer, however few spans its slabs
/// contain.
#[test]
fn short_lived_threads_with_scopes_beside_a_hanging_destination_are_not_refused() {
    let (hanging, healthy) = (
        Receiver::start_counting().unwrap(),
        Receiver::start_counting().unwrap(),
    );
    hanging.pause();
    let options = EndpointOptions {
        request_timeout_ms: 3_600_000,
        ..EndpointOptions::default()
    };
    let collector = Collector::new(Config {
        destinations: vec![
            Destination::from(Endpoint {
                url: hanging.endpoint(),
                options,
            }),
            Destination::from(Endpoint::new(healthy.endpoint())),
        ],
        recorders_max: 4,
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    let scopes: Vec<_> = (0..9)
        .map(|number| InstrumentationScope::new(format!("scope {number}")))
        .map(|scope| collector.register_scope(scope).unwrap())
        .collect();
    for number in 0..1500 {
        let recorder = collector.recorder().unwrap();
        // Each time another scope takes over the previous scope's lane, which seals its slab.
        record_some(recorder, &scopes[number % scopes.len()], 1);
        if number % 100 == 0 {
            while collector.ledger().destinations[1].delivered < collector.ledger().accepted {
                thread::yield_now();
            }
        }
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0, "{ledger}");
}

#[test]
fn slabs_of_dropped_recorders_are_freed_in_an_outage() {
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    let recorders: Vec<_> = (0..500).map(|_| collector.recorder().unwrap()).collect();
    recorders
        .iter()
        .for_each(|recorder| record(recorder).unwrap());
    collector.flush(PATIENCE).unwrap();
    receiver.answer(Answer::status(503));
    (0..11).for_each(|_| record(&recorders[0]).unwrap());
    assert!(collector.flush(Duration::from_millis(1)).is_err());
    drop(recorders);
    // Returns after the network thread has checked all recorders.
    let _ = (collector.stats(), collector.stats());
    let recorder = collector.recorder().unwrap();
    for _ in 0..1000 {
        record(&recorder).unwrap();
    }
}

#[test]
fn successive_recorders_fill_one_slab() {
    let closed = ClosedPort::new();
    let collector = Collector::new(Config {
        endpoint: closed.endpoint(),
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    // Many more recorders than slabs.
    for _ in 0..10_000 {
        record(&collector.recorder().unwrap()).unwrap();
    }
    let ledger = collector.ledger();
    assert_eq!(
        (ledger.accepted, ledger.refused.total()),
        (10_000, 0),
        "{ledger}"
    );
}

#[test]
fn dropped_recorders_make_room_for_recorders_and_scopes() {
    let (receiver, collector) = common::start(|config| config.recorders_max = 3);
    let scopes = ["a", "b"].map(|name| {
        collector
            .register_scope(InstrumentationScope::new(name))
            .unwrap()
    });
    for _ in 0..10 {
        let three = [(); 3].map(|()| collector.recorder().unwrap());
        assert!(collector.recorder().unwrap_err().is_resources());
        drop(three);
        let one = collector.recorder().unwrap();
        for scope in &scopes {
            let (trace_id, span_id) = (one.new_trace_id(), one.new_span_id());
            let span = SpanRef::new(trace_id, span_id, "in a scope");
            one.with_scope(scope).unwrap().record(&span).unwrap();
        }
        assert!(collector.recorder().unwrap_err().is_resources());
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 20);
    assert_eq!(receiver.counts().spans, 20);
}
