//! Recording allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, KeyValueRef, Recorder, SpanKind, SpanRef, StatusRef};

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator; the counter itself allocates nothing.
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
            ..SpanRef::new(recorder.trace_id(), recorder.span_id(), "SELECT orders")
        };
        accepted += u32::from(recorder.record(&span).is_ok());
    }
    accepted
}

#[test]
fn recording_allocates_nothing() {
    let receiver = Receiver::start_counting().unwrap();
    // A small batch, so that the wake-up is exercised too.
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
fn refusing_allocates_nothing() {
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

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}
