//! Recording makes no heap allocation.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use otlp_collector::span::{
    KeepIf, KeyValueRef, LinkRef, Sampler, SamplingInput, StatusRef, TailSampling,
};
use otlp_collector::testing::Receiver;
use otlp_collector::{
    Collector, Config, Instrument, Key, OpenSpan, Recorder, SpanContext, SpanKind, SpanRef,
    current, instrument, key, name, span,
};

/// Counts the allocations of the current thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: forwards all calls to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn record(recorder: &Recorder, spans: u32) -> u32 {
    let mut accepted = 0;
    for i in 0..spans {
        let attributes = [
            KeyValueRef::new("db.system.name", "postgresql"),
            KeyValueRef::new("server.address", "orders-db"),
            KeyValueRef::new("db.response.returned_rows", i),
            KeyValueRef::new("db.cached", i % 2 == 0),
        ];
        let span = SpanRef {
            kind: SpanKind::Client,
            start_time: 1,
            end_time: otlp_collector::unix_nanos(),
            attributes: &attributes,
            status: StatusRef::Error("cancelled"),
            ..SpanRef::new(
                recorder.new_trace_id(),
                recorder.new_span_id(),
                "SELECT orders",
            )
        };
        let result = if i % 2 == 0 {
            recorder.record(&span)
        } else {
            let rows = (key!("db.response.returned_rows"), i);
            recorder.record_with(&span, (rows, (key!("db.cached"), true)))
        };
        accepted += u32::from(result.is_ok());
        let input = SamplingInput::new(span.trace_id, "SELECT orders");
        assert!(recorder.should_sample(&input).is_sampled);
    }
    accepted
}

#[test]
fn recording_does_not_allocate() {
    let receiver = Receiver::start_counting().unwrap();
    // A small batch size, so that recording also wakes the network thread.
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        buffer_capacity: 200_000,
        batch_size: 100,
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    record(&recorder, 1_000);
    let mut accepted = 0;
    assert_eq!(allocations(|| accepted = record(&recorder, 100_000)), 0);
    assert_eq!(accepted, 100_000);
    assert_eq!(collector.shutdown().unwrap().delivered(), 101_000);
}

#[test]
fn refusing_does_not_allocate() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        buffer_capacity: 1_000,
        batch_size: 100,
        shutdown_timeout_ms: 0,
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    record(&recorder, 2_000);
    let mut accepted = 0;
    assert_eq!(allocations(|| accepted = record(&recorder, 100_000)), 0);
    assert_eq!(accepted, 0);
}

/// Records traces of open spans that use all features and end in any order.
fn open_and_end(recorder: &Recorder, spans: u32) {
    const ATTEMPT: Key<'static> = key!("attempt");
    let caller = [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", "rojo=00f067aa0ba902b7"),
    ];
    for number in 0..spans / 4 {
        let caller = SpanContext::extract(caller).unwrap();
        let links = [LinkRef::new(&caller)];
        let mut request = recorder
            .span_builder(name!("GET /orders"))
            .kind(SpanKind::Server)
            .parent(Some(&caller))
            .links(&links)
            .start();
        request
            .set_attribute("url.path", "/orders")
            .set_attribute(ATTEMPT, 1);
        let mut query = recorder.start_child(&request, "SELECT orders");
        let mut lookup = recorder.start_child(&query, "lookup");
        // Overwritten values, formatted values, and more than there is room for.
        for attempt in 0..3 {
            query
                .set_attribute(ATTEMPT, attempt)
                .set_attribute("size", "x".get(..1).unwrap());
        }
        for _ in 0..10 {
            lookup.add_event("cache miss", &[KeyValueRef::new("number", number)]);
            lookup.set_attribute_display("peer", &std::net::Ipv4Addr::LOCALHOST);
        }
        lookup
            .record_error(&std::fmt::Error)
            .set_status(StatusRef::Error("failed"));
        request.inject(|name, value| assert!(name.len() < value.len()));
        query.try_end().unwrap();
        request.set_name("GET /orders/{id}").add_link(&links[0]);
        let mut further = recorder.start_child(&request, "further");
        further.set_attribute("kept", true).add_event("kept", &[]);
        request.try_end().unwrap();
        further.try_end().unwrap();
        lookup.try_end().unwrap();
    }
}

fn with_open_spans(change: impl FnOnce(&mut Config)) -> (Receiver, Collector) {
    let receiver = Receiver::start_counting().unwrap();
    let mut config = Config {
        endpoint: receiver.endpoint(),
        buffer_capacity: 400_000,
        batch_size: 100,
        open_span_bytes: 512,
        open_span_bytes_total: 64 << 10,
        ..Config::default()
    };
    change(&mut config);
    let collector = Collector::new(config).unwrap();
    (receiver, collector)
}

#[test]
fn open_spans_do_not_allocate() {
    let (_receiver, collector) = with_open_spans(|_| {});
    let recorder = collector.recorder().unwrap();
    open_and_end(&recorder, 1_000);
    assert_eq!(allocations(|| open_and_end(&recorder, 20_000)), 0);
    assert_eq!(collector.shutdown().unwrap().delivered(), 21_000);
}

#[test]
fn spans_that_are_not_sent_do_not_allocate() {
    let (_receiver, collector) = with_open_spans(|config| config.sampler = Sampler::AlwaysOff);
    let recorder = collector.recorder().unwrap();
    assert_eq!(allocations(|| open_and_end(&recorder, 20_000)), 0);
    assert_eq!(collector.shutdown().unwrap().sampled_out.at_start, 20_000);

    let slow = KeepIf {
        slower_than: Some(Duration::from_secs(3600)),
        ..KeepIf::default()
    };
    let (_receiver, collector) = with_open_spans(|config| {
        config.tail_sampling = Some(TailSampling::new(slow));
    });
    let recorder = collector.recorder().unwrap();
    assert_eq!(allocations(|| open_and_end(&recorder, 20_000)), 0);
    assert_eq!(collector.shutdown().unwrap().sampled_out.at_end, 20_000);
}

#[test]
fn spans_that_move_between_threads_allocate_nothing() {
    const SPANS: usize = 1_000;
    let (_receiver, collector) = with_open_spans(|config| config.open_span_bytes_total = 8 << 20);
    let start = |spans: &mut Vec<_>| {
        for _ in 0..SPANS {
            spans.push(collector.start("moves to another thread"));
        }
    };
    let end = |spans: &mut Vec<OpenSpan>| {
        for mut span in spans.drain(..) {
            span.set_attribute("end", "there");
            span.try_end().unwrap();
        }
    };
    // Each thread's first two spans get it a recorder with a slab.
    let warm_up = || (0..2).for_each(|_| collector.start("first").end());
    let (there, here) = mpsc::sync_channel(1);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut spans = Vec::with_capacity(SPANS);
            warm_up();
            assert_eq!(allocations(|| start(&mut spans)), 0);
            there.send(spans).unwrap();
        });
        warm_up();
        let mut spans = here.recv().unwrap();
        assert_eq!(allocations(|| end(&mut spans)), 0);
    });
    assert_eq!(collector.shutdown().unwrap().delivered(), 1_004);
}

/// Traces by the current span, a future, and a function with the attribute.
fn use_current_span(traces: u32) {
    for number in 0..traces {
        let request = span!("GET /orders", kind: Server, "number" = number).entered();
        let mut query = span!("query", db.system.name = "postgresql", size = ?number);
        query.in_scope(|| {
            current()
                .set_attribute("deep", true)
                .add_event("event", &[]);
            assert!(current().context().is_some());
            instrumented(number);
        });
        let mut polls = 0;
        let future = poll_fn(|_| {
            polls += 1;
            match polls {
                1 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        let mut future = pin!(future.instrument(span!("future")));
        let mut context = Context::from_waker(Waker::noop());
        while future.as_mut().poll(&mut context).is_pending() {}
        // Out of order.
        let query = query.entered();
        drop(request);
        drop(query);
    }
}

#[instrument]
fn instrumented(number: u32) {
    current().set_attribute_display("shown", &number);
}

#[test]
fn the_current_span_allocates_nothing() {
    let (_receiver, collector) = with_open_spans(|_| {});
    let installed = collector.install_for_thread();
    use_current_span(10);
    assert_eq!(allocations(|| use_current_span(5_000)), 0);
    drop(installed);
    // Without a collector, not even a thread's first span does.
    let none = std::thread::spawn(|| allocations(|| use_current_span_of_none(100)));
    assert_eq!(none.join().unwrap(), 0);
    assert_eq!(collector.shutdown().unwrap().delivered(), 4 * 5_010);
}

fn use_current_span_of_none(spans: u32) {
    for number in 0..spans {
        let span = span!("none", "number" = number).entered();
        span.set_attribute("number", number);
        assert!(current().context().is_none());
    }
}

/// Spans of `tracing` with fields of all kinds, events, errors, links and changes.
fn use_tracing(traces: u32) {
    use otlp_collector::tracing::SpanExt;
    use tracing::{error, info, info_span};

    for number in 0..traces {
        let request = info_span!(
            "request",
            number,
            path = "/orders",
            later = tracing::field::Empty
        );
        let entered = request.clone().entered();
        request.record("later", tracing::field::display(number));
        info!(number, shown = %number, "event {number}");
        {
            let query = info_span!("query", size = ?number, otel.kind = "client").entered();
            query.follows_from(&request);
            query.set_attribute("any key", 5);
            error!(error = %number);
            drop(span!("below"));
        }
        let mut polls = 0;
        let future = poll_fn(|_| {
            polls += 1;
            match polls {
                1 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        let span = info_span!(parent: &request, "future");
        let mut future = pin!(tracing::Instrument::instrument(future, span));
        let mut context = Context::from_waker(Waker::noop());
        while future.as_mut().poll(&mut context).is_pending() {}
        assert!(request.context().is_some());
        drop(entered);
    }
}

#[test]
fn the_layer_for_tracing_allocates_nothing() {
    use tracing_subscriber::prelude::*;

    let (_receiver, collector) = with_open_spans(|_| {});
    let layer = otlp_collector::tracing::layer(&collector)
        .with_location(true)
        .with_threads(true)
        .with_target(true)
        .with_level(true)
        .with_tracked_inactivity(true);
    let installed = collector.install_for_thread();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        use_tracing(10);
        assert_eq!(allocations(|| use_tracing(5_000)), 0);
    });
    drop(installed);
    assert_eq!(collector.shutdown().unwrap().delivered(), 4 * 5_010);
}

#[test]
fn spans_beyond_the_memory_allocate_one_small_cell_each() {
    let (_receiver, collector) = with_open_spans(|config| config.open_span_bytes_total = 512);
    let recorder = collector.recorder().unwrap();
    let mut spans = Vec::with_capacity(100);
    let start = || (0..100).for_each(|_| spans.push(recorder.start("span")));
    assert_eq!(allocations(start), 99);
    assert_eq!(allocations(|| drop(spans)), 0);
    assert_eq!(collector.stats().spans_without_memory, 99);
}

#[test]
fn the_allocator_counts_allocations() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}
