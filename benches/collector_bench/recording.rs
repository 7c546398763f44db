//! Cost of recording a span to the thread that records it.
//!
//! Only the recording thread's time is measured: spans collect in the buffer, and are sent to a
//! receiver in this process while the clock is stopped.

use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use otlp_collector::span::{KeepIf, KeyValueRef, ParentBased, Sampler, StatusRef, TailSampling};
use otlp_collector::testing::Receiver;
use otlp_collector::{
    Collector, Config, Instrument, Key, Name, OpenSpan, Recorder, SpanKind, SpanRef, current,
    instrument, key, name, span, unix_nanos,
};

use crate::workload::{self, ADDRESS, CACHED, PARENT, ROWS, SELECT, SPAN, SYSTEM, TRACE};

/// Runs all groups.
pub fn benches(criterion: &mut Criterion) {
    one_span(criterion);
    open_spans(criterion);
    current_span(criterion);
    moved_spans(criterion);
    call_sites(criterion);
    sampling(criterion);
}

/// Spans recorded between two flushes. They fit into the cache, as in a service whose spans are sent as fast as
/// they are recorded.
const SPANS: u64 = 2_000;

struct Pipeline {
    recorder: Recorder,
    collector: Collector,
    _receiver: Receiver,
}

impl Pipeline {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let receiver = Receiver::start_counting().expect("a loopback socket");
        let mut config = Config {
            endpoint: receiver.endpoint(),
            // More than one flush has, so that only flushes send.
            buffer_capacity: 10 * SPANS as usize,
            batch_size: 10 * SPANS as usize,
            batch_timeout_ms: 3_600_000,
            ..Config::default()
        };
        change(&mut config);
        let collector = Collector::new(config).expect("a valid configuration");
        Self {
            recorder: collector.recorder().expect("a recorder"),
            collector,
            _receiver: receiver,
        }
    }

    /// Returns the time of this many rounds of `work`, each of which records some spans.
    fn time(&self, rounds: u64, spans: u64, work: &mut impl FnMut(&Recorder)) -> Duration {
        let mut time = Duration::ZERO;
        let mut left = rounds;
        while left > 0 {
            let now = left.min(SPANS / spans);
            let start = Instant::now();
            for _ in 0..now {
                work(&self.recorder);
            }
            time += start.elapsed();
            left -= now;
            let ledger = self
                .collector
                .flush(Duration::from_secs(60))
                .expect("a flush");
            assert_eq!(ledger.refused.total(), 0, "{ledger}");
        }
        time
    }
}

/// Adds a benchmark of `work`, which records at most `spans` spans.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    pipeline: &Pipeline,
    spans: u64,
    mut work: impl FnMut(&Recorder),
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| pipeline.time(rounds, spans, &mut work));
    });
}

/// Returns the four attributes as texts that are opaque to the compiler.
fn texts() -> [&'static str; 4] {
    black_box([
        "db.system.name",
        "server.address",
        "db.response.returned_rows",
        "db.cached",
    ])
}

/// Measures the span of the end-to-end report, by each way to record it. Its arguments are opaque to the
/// compiler.
fn one_span(criterion: &mut Criterion) {
    let pipeline = Pipeline::start(|_| {});
    let mut group = criterion.benchmark_group("record");
    let mut add = |name, work: fn(&Recorder)| bench(&mut group, name, &pipeline, 1, work);
    add("a tuple, ids and times given", |recorder| {
        let _ = recorder.record_with(&given(), tuple());
    });
    add("a slice, ids and times given", |recorder| {
        let (system, address, rows, cached) = tuple();
        let attributes = [
            KeyValueRef::new(system.0, system.1),
            KeyValueRef::new(address.0, address.1),
            KeyValueRef::new(rows.0, rows.1),
            KeyValueRef::new(cached.0, cached.1),
        ];
        let span = SpanRef {
            attributes: &attributes,
            ..given()
        };
        let _ = recorder.record(&span);
    });
    add("a tuple, random ids, times given", |recorder| {
        let _ = workload::record(recorder, black_box(1_000), black_box(2_000));
    });
    add("a tuple, random ids, clock read twice", |recorder| {
        let start_time = unix_nanos();
        let _ = workload::record(recorder, start_time, unix_nanos());
    });
    add("open, clock read twice", |recorder| {
        let builder = recorder.span_builder(SELECT).kind(SpanKind::Client);
        let mut span = builder.start();
        let (system, address, rows, cached) = tuple();
        span.set_attribute(system.0, system.1)
            .set_attribute(address.0, address.1)
            .set_attribute(rows.0, rows.1)
            .set_attribute(cached.0, cached.1);
        span.end();
    });
    group.finish();
}

#[inline(always)]
fn given() -> SpanRef<'static> {
    SpanRef {
        parent_span_id: black_box(Some(PARENT)),
        kind: SpanKind::Client,
        start_time: black_box(1_000),
        end_time: black_box(2_000),
        ..SpanRef::new(black_box(TRACE), black_box(SPAN), SELECT)
    }
}

type Pair<V> = (Key<'static>, V);

#[inline(always)]
fn tuple() -> (
    Pair<&'static str>,
    Pair<&'static str>,
    Pair<i64>,
    Pair<bool>,
) {
    (
        (SYSTEM, "postgresql"),
        (ADDRESS, black_box("orders-db-3.internal")),
        (ROWS, black_box(17)),
        (CACHED, black_box(true)),
    )
}

/// Measures the same span, with times given, by a recorder and by the current span.
fn current_span(criterion: &mut Criterion) {
    let pipeline = Pipeline::start(|_| {});
    let installed = pipeline.collector.install_for_thread();
    let mut group = criterion.benchmark_group("current span");
    let mut add = |name, work: fn(&Recorder)| bench(&mut group, name, &pipeline, 1, work);
    add("by a recorder", |recorder| {
        let builder = recorder.span_builder(name!("SELECT shop.order_line"));
        let mut span = builder.start_time(1_000).start();
        span.set_attribute(key!("db.response.returned_rows"), 7);
        span.end_at(2_000);
    });
    add("by the macro", |_| {
        span!("SELECT shop.order_line", start_time: 1_000, db.response.returned_rows = 7)
            .end_at(2_000);
    });
    add("entered", |_| {
        let span =
            span!("SELECT shop.order_line", start_time: 1_000, db.response.returned_rows = 7);
        black_box(span.entered()).exit().end_at(2_000);
    });
    add("by a recorder, clock read twice", |recorder| {
        let mut span = recorder.start(name!("SELECT shop.order_line"));
        span.set_attribute(key!("db.response.returned_rows"), black_box(7));
        span.end();
    });
    add("by the attribute, clock read twice", |_| {
        select(black_box(7));
    });
    let root = span!("SELECT shop.order_line").entered();
    add("below another", |_| {
        span!("SELECT shop.order_line", start_time: 1_000, db.response.returned_rows = 7)
            .end_at(2_000);
    });
    add("reading the context", |_| {
        black_box(current().context());
    });
    drop(root);
    let mut future = pin!(pending::<()>().instrument(span!("SELECT shop.order_line")));
    let mut context = Context::from_waker(Waker::noop());
    bench(&mut group, "a poll", &pipeline, 1, |_| {
        let _ = black_box(future.as_mut()).poll(&mut context);
    });
    drop(installed);
    let mut add = |name, work: fn(&Recorder)| bench(&mut group, name, &pipeline, 1, work);
    add("without a collector", |_| {
        span!("SELECT shop.order_line", start_time: 1_000, db.response.returned_rows = 7)
            .end_at(2_000);
    });
}

#[instrument(name = "SELECT shop.order_line", skip_all, fields(db.response.returned_rows = rows))]
#[inline(always)]
fn select(rows: i64) {}

/// Measures spans of which half of the buffer is open at once: started and ended on one thread, and ended
/// on another. The time of a span is that of both threads.
fn moved_spans(criterion: &mut Criterion) {
    let pipeline = Pipeline::start(|_| {});
    let mut group = criterion.benchmark_group("moved span");
    group.bench_function("ended here", |bencher| {
        bencher.iter_custom(|rounds| moved(&pipeline, rounds, end_all));
    });
    let (to_other, spans) = crossbeam_channel::bounded(1);
    let (to_here, times) = crossbeam_channel::bounded(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            spans
                .iter()
                .try_for_each(|spans| to_here.send(end_all(spans)))
        });
        group.bench_function("ended on another thread", |bencher| {
            bencher.iter_custom(|rounds| {
                moved(&pipeline, rounds, |spans| {
                    to_other.send(spans).expect("the other thread");
                    times.recv().expect("the other thread")
                })
            });
        });
        drop(to_other);
    });
    group.finish();
}

/// Returns the time of this many spans, which `end` ends and measures.
fn moved(
    pipeline: &Pipeline,
    rounds: u64,
    mut end: impl FnMut(Vec<OpenSpan>) -> Duration,
) -> Duration {
    let mut open = Vec::with_capacity(SPANS as usize / 2);
    let mut time = Duration::ZERO;
    let mut left = rounds;
    while left > 0 {
        let now = left.min(SPANS / 2);
        let start = Instant::now();
        open.extend((0..now).map(|_| {
            pipeline
                .recorder
                .span_builder(SELECT)
                .start_time(1_000)
                .start()
        }));
        time += start.elapsed();
        time += end(std::mem::take(&mut open));
        open.reserve(SPANS as usize / 2);
        left -= now;
        let ledger = pipeline
            .collector
            .flush(Duration::from_secs(60))
            .expect("a flush");
        assert_eq!(ledger.refused.total(), 0, "{ledger}");
    }
    time
}

fn end_all(spans: Vec<OpenSpan>) -> Duration {
    let start = Instant::now();
    for span in spans {
        span.end_at(2_000);
    }
    start.elapsed()
}

/// Measures a span from its start to its commit, by the way to record it.
fn open_spans(criterion: &mut Criterion) {
    let pipeline = Pipeline::start(|_| {});
    let mut group = criterion.benchmark_group("open span");
    bench(&mut group, "start and end", &pipeline, 1, |recorder| {
        recorder.start("SELECT shop.order_line").end();
    });
    bench(
        &mut group,
        "start and end, times given",
        &pipeline,
        1,
        |recorder| {
            let span = recorder
                .span_builder("SELECT shop.order_line")
                .start_time(1_000)
                .start();
            span.end_at(2_000);
        },
    );
    bench(
        &mut group,
        "four attributes, times given",
        &pipeline,
        1,
        |recorder| {
            let builder = recorder
                .span_builder("SELECT shop.order_line")
                .kind(SpanKind::Client);
            let mut span = builder.start_time(1_000).start();
            span.set_attribute("db.system.name", "postgresql")
                .set_attribute("server.address", "orders-db")
                .set_attribute("db.response.returned_rows", 7)
                .set_attribute("db.cached", true);
            span.end_at(2_000);
        },
    );
    bench(
        &mut group,
        "four attributes, one overwritten",
        &pipeline,
        1,
        |recorder| {
            let builder = recorder
                .span_builder("SELECT shop.order_line")
                .kind(SpanKind::Client);
            let mut span = builder.start_time(1_000).start();
            span.set_attribute("db.system.name", "postgresql")
                .set_attribute("server.address", "orders-db")
                .set_attribute("db.response.returned_rows", 7)
                .set_attribute("db.cached", true)
                .set_attribute("db.response.returned_rows", 8);
            span.end_at(2_000);
        },
    );
    bench(&mut group, "a child in a root", &pipeline, 2, |recorder| {
        let root = recorder
            .span_builder("GET /orders")
            .start_time(1_000)
            .start();
        let child = recorder
            .span_builder("SELECT")
            .child_of(&root)
            .start_time(1_100)
            .start();
        child.end_at(1_900);
        root.end_at(2_000);
    });
    bench(&mut group, "an event", &pipeline, 1, |recorder| {
        let mut span = recorder
            .span_builder("GET /orders")
            .start_time(1_000)
            .start();
        span.add_event("cache miss", &[KeyValueRef::new("key", "order/17")]);
        span.end_at(2_000);
    });
    group.finish();
}

/// Measures keys and names as texts, and prepared at compile time.
fn call_sites(criterion: &mut Criterion) {
    let pipeline = Pipeline::start(|_| {});
    let mut group = criterion.benchmark_group("call site");
    bench(&mut group, "open, texts", &pipeline, 1, |recorder| {
        let [system, address, rows, cached] = texts();
        let name = black_box("SELECT shop.order_line");
        let mut span = recorder.span_builder(name).start_time(1_000).start();
        span.set_attribute(system, "postgresql")
            .set_attribute(address, "orders-db")
            .set_attribute(rows, 7)
            .set_attribute(cached, true);
        span.end_at(2_000);
    });
    bench(&mut group, "open, literals", &pipeline, 1, |recorder| {
        let mut span = recorder
            .span_builder("SELECT shop.order_line")
            .start_time(1_000)
            .start();
        span.set_attribute("db.system.name", "postgresql")
            .set_attribute("server.address", "orders-db")
            .set_attribute("db.response.returned_rows", 7)
            .set_attribute("db.cached", true);
        span.end_at(2_000);
    });
    bench(&mut group, "open, prepared", &pipeline, 1, |recorder| {
        let mut span = recorder.span_builder(SELECT).start_time(1_000).start();
        span.set_attribute(SYSTEM, "postgresql")
            .set_attribute(ADDRESS, "orders-db")
            .set_attribute(ROWS, 7)
            .set_attribute(CACHED, true);
        span.end_at(2_000);
    });
    for (form, name, [system, address, rows, cached]) in [
        (
            "finished, texts",
            Name::from("SELECT shop.order_line"),
            texts().map(Key::from),
        ),
        (
            "finished, prepared",
            SELECT,
            [SYSTEM, ADDRESS, ROWS, CACHED],
        ),
    ] {
        let (trace_id, span_id) = (
            pipeline.recorder.new_trace_id(),
            pipeline.recorder.new_span_id(),
        );
        bench(&mut group, form, &pipeline, 1, |recorder| {
            let attributes = [
                KeyValueRef::new(system, "postgresql"),
                KeyValueRef::new(address, "orders-db"),
                KeyValueRef::new(rows, 7),
                KeyValueRef::new(cached, true),
            ];
            let span = SpanRef {
                start_time: 1_000,
                end_time: 2_000,
                attributes: &attributes,
                ..SpanRef::new(trace_id, span_id, name)
            };
            let _ = recorder.record(black_box(&span));
        });
    }
    group.finish();
}

/// Measures spans that are not sent.
fn sampling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("not sent");
    let off =
        Pipeline::start(|config| config.sampler = ParentBased::new(Sampler::AlwaysOff).into());
    bench(&mut group, "unsampled root", &off, 1, |recorder| {
        recorder.start("GET /orders").end();
    });
    bench(
        &mut group,
        "unsampled root with attributes",
        &off,
        1,
        |recorder| {
            let mut span = recorder.start("GET /orders");
            span.set_attribute("url.path", "/orders")
                .set_attribute("http.response.status_code", 200);
            span.end();
        },
    );
    let root = off.recorder.start("GET /orders");
    bench(&mut group, "unsampled child", &off, 1, |recorder| {
        recorder.start_child(&root, "SELECT orders").end();
    });
    let few = Pipeline::start(|config| {
        config.sampler = ParentBased::new(Sampler::TraceIdRatio(1e-9)).into();
    });
    bench(&mut group, "ratio, unsampled root", &few, 1, |recorder| {
        recorder.start("GET /orders").end();
    });
    group.finish();
    drop(root);

    let mut group = criterion.benchmark_group("trace of ten spans");
    let failed = KeepIf {
        failed: true,
        ..KeepIf::default()
    };
    let tail = Pipeline::start(|config| config.tail_sampling = Some(TailSampling::new(failed)));
    let plain = Pipeline::start(|_| {});
    bench(&mut group, "not held", &plain, 10, |recorder| {
        trace(recorder, StatusRef::Unset)
    });
    bench(&mut group, "held and kept", &tail, 10, |recorder| {
        trace(recorder, StatusRef::Error(""));
    });
    bench(&mut group, "held and dropped", &tail, 10, |recorder| {
        trace(recorder, StatusRef::Unset)
    });
    group.finish();
}

fn trace(recorder: &Recorder, status: StatusRef<'_>) {
    let mut root = recorder
        .span_builder("GET /orders")
        .start_time(1_000)
        .start();
    for number in 0..9 {
        let mut child = recorder
            .span_builder(SELECT)
            .child_of(&root)
            .start_time(1_100)
            .start();
        child
            .set_attribute(SYSTEM, "postgresql")
            .set_attribute(ROWS, number);
        child.end_at(1_200);
    }
    root.set_status(status);
    root.end_at(2_000);
}
