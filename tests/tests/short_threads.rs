//! Short-lived threads that record a few spans: the slabs that they leave behind do not prevent other
//! threads from recording.

use std::cell::RefCell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::PATIENCE;
use otlp_collector::config::Endpoint;
use otlp_collector::span::{InstrumentationScope, Scope};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{
    Collector, Config, Destination, EndpointOptions, Ledger, OpenSpan, Overflow, Recorder, Refused,
    Span, SpanRef,
};

use common::ClosedPort;

fn record(recorder: &Recorder) -> Result<(), Refused> {
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    recorder.record(&SpanRef::new(trace_id, span_id, "span"))
}

/// Records spans in the collector's own scope, and one in another.
fn record_some(collector: &Collector, scope: &Scope, spans: u64) {
    let recorder = collector.recorder().unwrap();
    (0..spans).for_each(|_| record(&recorder).unwrap());
    let in_scope = recorder.with_scope(scope).unwrap();
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    let span = SpanRef::new(trace_id, span_id, "in a scope");
    in_scope.record(&span).unwrap();
}

/// Runs `check` while that many other threads have a recorder each.
fn with_recorders_on_threads(collector: &Collector, threads: usize, check: impl FnOnce()) {
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let with_recorder = || {
            let _recorder = collector.recorder().unwrap();
            barrier.wait();
            barrier.wait();
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(with_recorder)).collect();
        barrier.wait();
        check();
        barrier.wait();
        // Until their thread-locals are gone.
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
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
            thread::scope(|threads| {
                let short = threads.spawn(|| record_some(&collector, &scope, number % 20));
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
        // Each time another scope takes over the previous scope's lane, which seals its slab.
        let scope = &scopes[number % scopes.len()];
        thread::scope(|threads| {
            let short = threads.spawn(|| record_some(&collector, scope, 1));
            short.join().unwrap();
        });
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
    let barrier = Barrier::new(501);
    thread::scope(|threads| {
        for _ in 0..500 {
            threads.spawn(|| {
                record(&collector.recorder().unwrap()).unwrap();
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        collector.flush(PATIENCE).unwrap();
        receiver.answer(Answer::status(503));
        let recorder = collector.recorder().unwrap();
        (0..11).for_each(|_| record(&recorder).unwrap());
        assert!(collector.flush(Duration::from_millis(1)).is_err());
        barrier.wait();
    });
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
        thread::scope(|threads| {
            let short = threads.spawn(|| record(&collector.recorder().unwrap()));
            short.join().unwrap().unwrap();
        });
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
    let in_scopes = || {
        let recorder = collector.recorder().unwrap();
        for scope in &scopes {
            let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
            let span = SpanRef::new(trace_id, span_id, "in a scope");
            recorder.with_scope(scope).unwrap().record(&span).unwrap();
        }
        // All three slabs are its own.
        let one_more = || collector.recorder().map(drop);
        let error = thread::scope(|threads| threads.spawn(one_more).join().unwrap());
        assert!(error.unwrap_err().is_resources());
    };
    for _ in 0..10 {
        with_recorders_on_threads(&collector, 3, || {
            assert!(collector.recorder().unwrap_err().is_resources());
        });
        thread::scope(|threads| threads.spawn(in_scopes).join().unwrap());
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 20);
    assert_eq!(receiver.counts().spans, 20);
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn many_threads_that_end_one_span_each_take_little_memory() {
    const THREADS: usize = 512;
    let (_receiver, collector) = common::start(|_| {});
    collector.start("first").end();
    let before = resident_bytes();
    let barrier = Barrier::new(THREADS + 1);
    let grown = thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                collector.start("span").set_attribute("key", "value");
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        let grown = resident_bytes().saturating_sub(before);
        barrier.wait();
        grown
    });
    assert!(grown < 40 << 20, "{grown} bytes");
    // Those with a second span get a slab, as long as there are any.
    for _ in 0..10_000 {
        thread::scope(|threads| {
            threads.spawn(|| {
                collector.start("one").end();
                collector.start("two").end();
            });
        });
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes");
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), 1 + THREADS as u64 + 20_000, "{ledger}");
}

#[test]
fn spans_start_and_end_in_destructors_of_thread_locals_and_beyond_the_limit_of_recorders() {
    struct EndsLate(Collector, Option<OpenSpan>);

    impl Drop for EndsLate {
        fn drop(&mut self) {
            let mut span = self.0.start("started in a destructor");
            span.set_attribute("key", "value");
            span.try_end().unwrap();
            self.1.take().unwrap().try_end().unwrap();
        }
    }

    thread_local! {
        static LATE: RefCell<Option<EndsLate>> = const { RefCell::new(None) };
    }

    let (receiver, collector) = common::start(|config| config.recorders_max = 1);
    let recorder = collector.recorder().unwrap();
    for _ in 0..10 {
        thread::scope(|threads| {
            let thread = threads.spawn(|| {
                // Used before the recorder is made.
                LATE.set(None);
                for _ in 0..3 {
                    collector.start("without a slab").try_end().unwrap();
                }
                assert!(collector.recorder().is_err());
                let span = collector.start("kept until the end");
                LATE.set(Some(EndsLate(collector.clone(), Some(span))));
            });
            // Until its thread-locals are gone.
            thread.join().unwrap();
        });
    }
    drop(recorder);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.total(), 0, "{ledger}");
    assert_eq!(receiver.counts().spans, 50);
}
