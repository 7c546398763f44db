//! Parts of the pipeline in isolation.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use crossbeam_queue::ArrayQueue;
use otlp_collector::internals::{Encoder, Merger, ring, status_of};
use otlp_collector::span::{EventRef, KeyValueRef, LinkRef, StatusRef};
use otlp_collector::{Collector, Config, SpanContext, SpanRef, key, unix_nanos};

use crate::workload::{ADDRESS, CACHED, PARENT, ROWS, SELECT, SPAN, SYSTEM, TRACE};

/// Runs all groups.
pub fn benches(criterion: &mut Criterion) {
    encoding(criterion);
    clock_and_ids(criterion);
    rings(criterion);
    requests(criterion);
}

/// Measures encoding by the shape of the span, without the buffer.
fn encoding(criterion: &mut Criterion) {
    let four = [
        KeyValueRef::new(SYSTEM, "postgresql"),
        KeyValueRef::new(ADDRESS, "orders-db-3.internal"),
        KeyValueRef::new(ROWS, 17),
        KeyValueRef::new(CACHED, true),
    ];
    let mut sixteen = [KeyValueRef::new("", 0); 16];
    let keys: Vec<String> = (0..16).map(|number| format!("shop.key.{number}")).collect();
    for (attribute, key) in sixteen.iter_mut().zip(&keys) {
        *attribute = KeyValueRef::new(key, "some text");
    }
    let list = [
        KeyValueRef::new("a", &[1_i64, 2, 3][..]),
        KeyValueRef::new("b", "c"),
    ];
    let nested = [KeyValueRef::new("list", &list[..])];
    let event = EventRef {
        attributes: &four[..1],
        ..EventRef::new("cache miss", 1_500)
    };
    let context = SpanContext::new(TRACE, PARENT);
    let links = [LinkRef::new(&context)];
    let text = "SELECT * FROM order_line WHERE ".repeat(20);
    let long = [KeyValueRef::new(key!("db.query.text"), &*text)];
    let bare = SpanRef {
        start_time: 1_000,
        end_time: 2_000,
        ..SpanRef::new(TRACE, SPAN, SELECT)
    };
    let shapes = [
        ("bare", bare),
        (
            "four attributes",
            SpanRef {
                attributes: &four,
                ..bare
            },
        ),
        (
            "sixteen attributes of texts",
            SpanRef {
                attributes: &sixteen,
                ..bare
            },
        ),
        (
            "a text of 620 bytes",
            SpanRef {
                attributes: &long,
                ..bare
            },
        ),
        (
            "a list with an array",
            SpanRef {
                attributes: &nested,
                ..bare
            },
        ),
        (
            "an event",
            SpanRef {
                events: &[event],
                ..bare
            },
        ),
        (
            "a link",
            SpanRef {
                links: &links,
                ..bare
            },
        ),
        (
            "failed",
            SpanRef {
                status: StatusRef::Error("timed out"),
                ..bare
            },
        ),
    ];
    let mut group = criterion.benchmark_group("encode");
    for (name, span) in shapes {
        let mut encoder = Encoder::new();
        group.throughput(Throughput::Bytes(encoder.encode(&span) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| encoder.encode(black_box(&span)));
        });
    }
    group.finish();
}

fn clock_and_ids(criterion: &mut Criterion) {
    let collector = Collector::new(Config::default()).expect("a valid configuration");
    let recorder = collector.recorder().expect("a recorder");
    let mut group = criterion.benchmark_group("clock");
    group.bench_function("unix_nanos", |bencher| bencher.iter(unix_nanos));
    group.bench_function("SystemTime::now", |bencher| {
        bencher.iter(std::time::SystemTime::now);
    });
    group.finish();
    let mut group = criterion.benchmark_group("ids");
    group.bench_function("trace id", |bencher| {
        bencher.iter(|| recorder.new_trace_id())
    });
    group.bench_function("span id", |bencher| bencher.iter(|| recorder.new_span_id()));
    group.finish();
}

/// Measures one item through a queue on one thread: the lower bound of a hand-over.
fn rings(criterion: &mut Criterion) {
    const CAPACITY: usize = 512;
    let mut group = criterion.benchmark_group("ring");
    let (mut producer, mut consumer) = ring(CAPACITY);
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let _ = producer.push(black_box(7));
            consumer.pop()
        });
    });
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    group.bench_function("rtrb", |bencher| {
        bencher.iter(|| {
            let _ = producer.push(black_box(7_u64));
            consumer.pop()
        });
    });
    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("crossbeam ArrayQueue", |bencher| {
        bencher.iter(|| {
            let _ = queue.push(black_box(7_u64));
            queue.pop()
        });
    });
    let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
    group.bench_function("crossbeam channel", |bencher| {
        bencher.iter(|| {
            let _ = sender.try_send(black_box(7_u64));
            receiver.try_recv()
        });
    });
    group.finish();
    between_threads(criterion);
}

/// Measures one item from a thread to another that waits for it. Both run before the clock starts.
fn between_threads(criterion: &mut Criterion) {
    const CAPACITY: usize = 512;
    let mut group = criterion.benchmark_group("ring between threads");
    group.bench_function("ours", |bencher| {
        bencher.iter_custom(|items| {
            let (mut producer, mut consumer) = ring(CAPACITY);
            hand_over(
                items,
                move |item| producer.push(item).is_ok(),
                move || consumer.pop(),
            )
        });
    });
    group.bench_function("rtrb", |bencher| {
        bencher.iter_custom(|items| {
            let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
            let push = move |item| producer.push(item).is_ok();
            hand_over(items, push, move || consumer.pop().ok())
        });
    });
    group.bench_function("crossbeam ArrayQueue", |bencher| {
        bencher.iter_custom(|items| {
            let queue = ArrayQueue::new(CAPACITY);
            hand_over(items, |item| queue.push(item).is_ok(), || queue.pop())
        });
    });
    group.bench_function("crossbeam channel", |bencher| {
        bencher.iter_custom(|items| {
            let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
            let push = move |item| sender.try_send(item).is_ok();
            hand_over(items, push, move || receiver.try_recv().ok())
        });
    });
    group.finish();
}

fn hand_over(
    items: u64,
    mut push: impl FnMut(u64) -> bool + Send,
    mut pop: impl FnMut() -> Option<u64>,
) -> Duration {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for item in 0..items {
                while !push(item) {}
            }
        });
        start.wait();
        let began = Instant::now();
        for _ in 0..items {
            while pop().is_none() {}
        }
        began.elapsed()
    })
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for batches in [1, 16] {
        let mut merger = Merger::new(batches);
        group.bench_function(format!("head and merge of {batches} batches"), |bencher| {
            bencher.iter(|| merger.merge());
        });
    }
    let answer = b"HTTP/1.1 200 OK\r\n\
        Content-Type: application/x-protobuf\r\n\
        Date: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
        Content-Length: 0\r\n\r\n";
    group.bench_function("response", |bencher| {
        bencher.iter(|| status_of(black_box(answer)));
    });
    group.finish();
}
