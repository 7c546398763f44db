//! Spans, recorders and guards that outlive what they belong to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;

use otlp_collector::span::{GenerateIds, IdGenerator, KeepIf, ParentBased, Sampler, TailSampling};
use otlp_collector::{Collector, Config, OpenSpan, Overflow, Refused, Span, SpanId, TraceId, span};

use common::{ClosedPort, PATIENCE, span_id, start, trace_id};

/// Cells of a collector that has no pages.
fn only_cells(config: &mut Config, cells: usize) {
    config.open_span_bytes = 256;
    config.open_span_bytes_total = cells * 512;
}

/// Holds traces and drops those of which no span failed.
fn only_failed(config: &mut Config) {
    config.tail_sampling = Some(TailSampling::new(KeepIf {
        failed: true,
        ..KeepIf::default()
    }));
}

#[test]
fn a_span_without_a_cell_does_not_end_in_the_next_collector() {
    let (_receiver, collector) = start(|config| only_cells(config, 3));
    let in_cells: Vec<_> = (0..3).map(|_| collector.start("in a cell")).collect();
    let outlives = collector.start("in the heap");
    assert_eq!(collector.stats().spans_without_memory, 1);
    drop((in_cells, collector));
    let (_receiver, next) = start(|config| only_cells(config, 3));
    assert_eq!(outlives.try_end(), Err(Refused::ShutDown));
    assert_eq!(next.shutdown().unwrap().accepted, 0);
}

#[test]
fn spans_that_outlive_their_collector_take_no_held_trace_from_the_next() {
    let only_one_trace = |config: &mut Config| {
        only_cells(config, 5);
        config.tail_sampling = Some(TailSampling {
            held_traces_max: 1,
            ..TailSampling::new(KeepIf::default())
        });
    };
    for _ in 0..3 {
        let (_receiver, collector) = start(only_one_trace);
        let root = collector.start("root");
        collector.start_child(&root, "child").end();
        assert_eq!(collector.ledger().held, 1);
        collector.start("not held").end();
        root.end();
        let root = collector.start("outlives its collector");
        let ledger = collector.ledger();
        assert_eq!((ledger.accepted, ledger.sampled_out.at_end), (1, 2));
        drop(collector);
        assert_eq!(root.try_end(), Err(Refused::ShutDown));
    }
}

#[test]
fn a_parent_of_another_collector_keeps_its_held_spans() {
    let (receiver, holding) = start(only_failed);
    let (others, full) = start(|config| only_cells(config, 1));
    let root = holding.start("root");
    holding.start_child(&root, "held").end();
    let only = full.start("only");
    full.start_child(&root, "without memory").end();
    assert_eq!(holding.ledger().held, 1);
    drop((only, root));
    assert_eq!(full.shutdown().unwrap().delivered(), 2);
    assert_eq!(holding.shutdown().unwrap().sampled_out.at_end, 2);
    assert_eq!((receiver.spans().len(), others.spans().len()), (0, 2));
}

/// Runs `begin` on that many threads, then `between` while they wait, then `end` on them.
fn on_threads<T>(
    threads: usize,
    begin: impl Fn() -> T + Sync,
    between: impl FnOnce(),
    end: impl Fn(T) + Sync,
) {
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let begun = begin();
                barrier.wait();
                barrier.wait();
                end(begun);
            });
        }
        barrier.wait();
        between();
        barrier.wait();
    });
}

/// More than have counters with one recorder, on any machine.
const MANY_THREADS: usize = 400;

#[test]
fn spans_of_threads_without_counters_are_counted() {
    let (_receiver, collector) = start(|config| config.recorders_max = 1);
    on_threads(
        MANY_THREADS,
        || collector.start("span"),
        || {
            collector.shutdown().unwrap();
        },
        |span| assert_eq!(span.try_end(), Err(Refused::ShutDown)),
    );
    let ledger = collector.ledger();
    assert_eq!(ledger.refused.shut_down, MANY_THREADS as u64, "{ledger}");

    let (_receiver, collector) = start(|config| {
        config.recorders_max = 1;
        config.sampler = ParentBased::new(Sampler::AlwaysOff).into();
    });
    on_threads(
        MANY_THREADS,
        || collector.start("unsampled"),
        || (),
        OpenSpan::end,
    );
    assert_eq!(collector.ledger().sampled_out.at_start, MANY_THREADS as u64);
}

#[test]
fn threads_leave_counters_for_shared_recorders() {
    let (_receiver, collector) = start(|config| config.recorders_max = 1);
    let mut collected = Err(Refused::NoRecorder);
    on_threads(
        MANY_THREADS,
        || collector.start("span"),
        || collected = collector.collect(Span::new("collected")),
        drop,
    );
    collected.unwrap();
}

#[test]
fn held_spans_of_threads_without_counters_are_counted_and_delivered() {
    let (receiver, collector) = start(|config| {
        config.recorders_max = 1;
        only_failed(config);
        if let Some(tail_sampling) = &mut config.tail_sampling {
            tail_sampling.held_trace_bytes = 1 << 20;
        }
    });
    let root = collector.start("root");
    on_threads(
        MANY_THREADS,
        || collector.start("thread"),
        || (),
        |mut other_root| {
            collector.start_child(&root, "held").end();
            collector.start_child(&root, "held").end();
            collector.start_child(&other_root, "held too").end();
            collector.start_child(&other_root, "held too").end();
            other_root.set_status(otlp_collector::span::StatusRef::Error(""));
        },
    );
    assert_eq!(collector.ledger().held, 2 * MANY_THREADS as u64);
    drop(root);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.accepted, 3 * MANY_THREADS as u64, "{ledger}");
    assert_eq!(ledger.delivered(), ledger.accepted, "{ledger}");
    assert_eq!(ledger.sampled_out.at_end, 2 * MANY_THREADS as u64 + 1);
    assert_eq!((ledger.held, ledger.pending()), (0, 0), "{ledger}");
    assert_eq!(receiver.counts().spans, 3 * MANY_THREADS as u64);
}

struct FixedIds;

impl GenerateIds for FixedIds {
    fn new_trace_id(&mut self) -> TraceId {
        trace_id(1)
    }

    fn new_span_id(&mut self) -> SpanId {
        span_id(2)
    }
}

#[test]
fn threads_without_recorders_use_the_id_generator() {
    let (_receiver, collector) = start(|config| {
        config.recorders_max = 1;
        config.id_generator = IdGenerator::Custom(Arc::new(|| Box::new(FixedIds)));
    });
    on_threads(
        MANY_THREADS,
        || collector.start("span"),
        || (),
        |span| assert_eq!(span.context().unwrap().trace_id, trace_id(1)),
    );
}

/// The buffer is full, and recorders would wait for hours.
#[test]
fn a_shutdown_with_held_spans_ends_in_time() {
    let closed = ClosedPort::new();
    let mut config = Config {
        endpoint: closed.endpoint(),
        buffer_capacity: 100,
        batch_size: 100,
        overflow: Overflow::Block {
            timeout_ms: 3_600_000,
        },
        shutdown_timeout_ms: 10,
        ..Config::default()
    };
    only_failed(&mut config);
    let collector = Collector::new(config).unwrap();
    let roots: Vec<_> = (0..1000).map(|_| collector.start("root")).collect();
    for root in &roots {
        collector.start_child(root, "held").end();
    }
    let (ended, end) = channel();
    thread::spawn(move || {
        let _ = collector.shutdown();
        ended.send(collector.ledger()).unwrap();
    });
    let ledger = end.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ledger.held, ledger.pending()), (0, 0), "{ledger}");
    assert_eq!(ledger.accepted + ledger.refused.total(), 1000, "{ledger}");
    drop(roots);
}

#[test]
fn id_generators_that_cannot_be_made_use_up_no_recorders() {
    let fails = Arc::new(AtomicBool::new(true));
    let make = {
        let fails = Arc::clone(&fails);
        move || -> Box<dyn GenerateIds> {
            assert!(!fails.load(Ordering::Relaxed), "made to fail");
            Box::new(FixedIds)
        }
    };
    let (_receiver, collector) = start(|config| {
        config.recorders_max = 1;
        config.id_generator = IdGenerator::Custom(Arc::new(make));
    });
    for _ in 0..MANY_THREADS {
        let made = catch_unwind(AssertUnwindSafe(|| collector.recorder().map(drop)));
        assert!(made.is_err());
    }
    fails.store(false, Ordering::Relaxed);
    assert_eq!(collector.recorder().unwrap().new_span_id(), span_id(2));
}

#[test]
fn installations_of_a_thread_end_in_any_order() {
    let (receiver, collector) = start(|_| {});
    let (others, other) = start(|_| {});
    let first = collector.install_for_thread();
    let second = other.install_for_thread();
    drop(first);
    drop(span!("the second's"));
    let third = collector.install_for_thread();
    drop(second);
    drop(span!("the third's"));
    drop(third);
    assert!(span!("none").is_none());
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
    assert_eq!(other.shutdown().unwrap().delivered(), 1);
    assert_eq!(receiver.spans()[0].name, "the third's");
    assert_eq!(others.spans()[0].name, "the second's");
}

#[test]
fn a_shutdown_while_thousands_of_spans_are_open_and_held_counts_each_once() {
    const THREADS: usize = 4;
    const TRACES: usize = 400;
    const SPANS: u64 = (THREADS * TRACES * 3) as u64;
    for _ in 0..5 {
        let (receiver, collector) = start(|config| {
            only_failed(config);
            config.buffer_capacity = 100_000;
        });
        let begun = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let open = || {
                        let root = collector.start("root");
                        collector.start_child(&root, "held").end();
                        let child = collector.start_child(&root, "open");
                        (child, root)
                    };
                    let traces: Vec<_> = (0..TRACES).map(|_| open()).collect();
                    begun.wait();
                    // Meanwhile the collector shuts down.
                    drop(traces);
                });
            }
            begun.wait();
            collector.shutdown().unwrap();
        });
        let ledger = collector.ledger();
        let (refused, sampled_out) = (ledger.refused.shut_down, ledger.sampled_out.at_end);
        assert_eq!(ledger.refused.total(), refused, "{ledger}");
        assert_eq!(ledger.accepted + refused + sampled_out, SPANS, "{ledger}");
        assert_eq!((ledger.held, ledger.pending()), (0, 0), "{ledger}");
        assert_eq!(receiver.counts().spans, ledger.delivered());
    }
}
