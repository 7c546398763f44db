//! A disabled collector uses hardly any resources, ignores other settings, and works.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::sync::Barrier;
use std::time::Duration;

use common::{PATIENCE, trace_id};
use otlp_collector::config::{Endpoint, MetricsOptions, TlsOptions};
use otlp_collector::span::{InstrumentationScope, KeepIf, Sampler, SpanLimits, TailSampling};
use otlp_collector::stats::ThreadState;
use otlp_collector::{
    AnyValue, Collector, Config, Destination, EndpointOptions, KeyValue, Overflow, Span,
    SpanContext, SpanRef,
};

/// Counts the bytes that the current thread allocates, including those that it frees again.
struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn allocated() -> usize {
    BYTES.get()
}

// SAFETY: forwards all calls to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn disabled() -> Config {
    Config {
        disabled: true,
        ..Config::default()
    }
}

fn threads() -> HashSet<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    names
        .flatten()
        .map(|name| name.trim().to_string())
        .collect()
}

#[test]
fn a_disabled_collector_allocates_no_buffer_and_starts_no_thread() {
    let before = allocated();
    let collector = Collector::new(disabled()).unwrap();
    let recorder = collector.recorder().unwrap();
    let bytes = allocated() - before;
    // An enabled collector's buffer has 26.5 MB by default.
    assert!(bytes < 200_000, "{bytes} bytes");
    assert_eq!(collector.buffer_bytes(), 0);
    if cfg!(target_os = "linux") {
        assert!(!threads().contains("otlp-network"), "{:?}", threads());
    }

    let before = allocated();
    for number in 0..10_000 {
        let span = SpanRef::new(trace_id(1), recorder.new_span_id(), "thrown away");
        recorder.record(&span).unwrap();
        let mut open = recorder.start("discarded too");
        open.set_attribute("number", number);
        open.try_end().unwrap();
    }
    assert_eq!(allocated() - before, 0);
    assert_eq!(collector.buffer_bytes(), 0);
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.refused.total()), (20_000, 0));
    assert_eq!(collector.stats().spans_without_memory, 0);
}

/// Each value would be an error in an enabled collector.
#[test]
fn a_disabled_collector_ignores_invalid_settings() {
    let settings: Vec<fn(&mut Config)> = vec![
        |c| c.buffer_capacity = 0,
        |c| c.buffer_capacity = usize::MAX,
        |c| c.batch_size = usize::MAX,
        |c| c.batch_timeout_ms = u64::MAX,
        |c| c.shutdown_timeout_ms = u64::MAX,
        |c| c.slab_bytes = 1,
        |c| c.recorders_max = 0,
        |c| c.recorders_max = usize::MAX,
        |c| c.open_span_bytes_total = 0,
        |c| c.open_span_bytes_total = usize::MAX,
        |c| c.open_span_bytes = 0,
        |c| {
            c.overflow = Overflow::Block {
                timeout_ms: u64::MAX,
            }
        },
        |c| c.network_core = Some(1 << 20),
        |c| c.pinned_cores = vec![1 << 20],
        |c| c.endpoint = "no URL".to_string(),
        |c| c.config_file = Some("otel.yaml".into()),
        |c| c.sampler = Sampler::TraceIdRatio(f64::NAN),
        |c| c.span_limits.attribute_count = u32::MAX,
        |c| c.resource_attributes = vec![KeyValue::new("", AnyValue::Empty)],
        |c| c.metrics = Some(MetricsOptions::new("no URL")),
        |c| c.destinations = vec![Destination::default()],
        |c| c.destinations = vec![Endpoint::new("ftp://h").into()],
        |c| {
            c.endpoint = "https://h".to_string();
            c.endpoint_options = EndpointOptions {
                tls: TlsOptions {
                    ca_file: Some("/no/such/file".into()),
                    ..TlsOptions::default()
                },
                ..EndpointOptions::default()
            };
        },
        |c| {
            c.tail_sampling = Some(TailSampling {
                held_traces_max: 0,
                ..TailSampling::new(KeepIf::default())
            });
        },
    ];
    for (number, change) in settings.into_iter().enumerate() {
        let mut config = disabled();
        change(&mut config);
        let collector = Collector::new(config.clone()).unwrap_or_else(|e| panic!("{number}: {e}"));
        let recorder = collector.recorder().unwrap();
        recorder.start("thrown away").set_attribute("a", 1);
        collector.collect(Span::new("thrown away")).unwrap();
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.refused.total(), 0, "{number}: {ledger}");

        config.disabled = false;
        assert!(Collector::new(config).is_err(), "{number} is not an error");
    }
}

#[test]
fn a_disabled_collector_does_everything_except_sending() {
    let collector = Collector::new(disabled()).unwrap();
    let scope = InstrumentationScope {
        attributes: vec![KeyValue::new("much", "x".repeat(100_000))],
        ..InstrumentationScope::new("storage")
    };
    let scope = collector.register_scope(scope).unwrap();
    let recorder = collector.recorder().unwrap();
    let trace_state = format!("a={},b={}", "x".repeat(250), "y".repeat(250));
    let caller = SpanContext::extract([
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", &*trace_state),
    ])
    .unwrap();
    let span = (recorder
        .with_scope(&scope)
        .unwrap()
        .span_builder("GET /orders"))
    .parent(Some(&caller))
    .start();
    let context = span.context().unwrap();
    assert_eq!(context.trace_id, caller.trace_id);
    assert_eq!(context.trace_state, caller.trace_state);
    assert!(context.trace_flags.is_sampled());
    span.try_end().unwrap();
    let mut span = Span::new("x".repeat(10_000_000));
    span.scope = Some(scope);
    collector.collect(span).unwrap();

    let core = Collector::cores()[0];
    let spawned = collector.clone();
    let worker = collector.spawn_pinned(core, "worker", move |recorder| {
        recorder.start("pinned").try_end().unwrap();
        (
            core_affinity::get_core_ids().unwrap(),
            spawned.pinning().threads.len(),
        )
    });
    let (cores, workers) = worker.unwrap().join().unwrap();
    assert_eq!((cores[0].id, cores.len(), workers), (core, 1, 1));
    let missing = Collector::cores().iter().max().unwrap() + 1;
    assert!(
        collector
            .spawn_pinned(missing, "worker", |_| ())
            .unwrap_err()
            .is_core()
    );

    let ledger = collector.flush(Duration::ZERO).unwrap();
    assert_eq!((ledger.accepted, ledger.pending()), (3, 0));
    assert!(collector.health().is_healthy());
    assert_eq!(collector.shutdown().unwrap(), ledger);
    assert_eq!(collector.shutdown().unwrap(), ledger);
    assert!(recorder.start("late").try_end().is_err());
    assert!(collector.flush(PATIENCE).unwrap_err().is_shut_down());
    assert!(collector.recorder().unwrap_err().is_shut_down());
    assert_eq!(collector.health().network_thread, ThreadState::ShutDown);
}

#[test]
fn many_threads_can_discard_spans() {
    let collector = Collector::new(Config {
        span_limits: SpanLimits::default(),
        recorders_max: 8,
        ..disabled()
    })
    .unwrap();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let recorder = collector.recorder().unwrap();
                barrier.wait();
                for _ in 0..1000 {
                    recorder.start("thrown away").try_end().unwrap();
                    collector.collect(Span::new("thrown away")).unwrap();
                }
            });
        }
    });
    assert_eq!(collector.shutdown().unwrap().accepted, 16_000);
}
