//! Cost of a span whose caches the service's own work has taken.
//!
//! `cargo bench --bench collector_bench -- cold`: before each span other memory is written, and the span
//! alone is measured. Each way to record is measured with 2 MB of it and with none, in turn.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use otlp_collector::span::KeyValueRef;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, Recorder, Span, SpanKind, SpanRef};

use crate::hdr;
use crate::report::Size;
use crate::workload::{ADDRESS, CACHED, PARENT, ROWS, SELECT, SPAN, SYSTEM, TRACE};

/// Bytes written between spans.
const OTHER_BYTES: usize = 2 << 20;
const LINE_BYTES: usize = 64;
/// Spans recorded between two flushes.
const SPANS: usize = 2_000;

/// A way to record a span, with the span's work that is not measured.
type Way = fn(&Collector, &Recorder) -> Duration;

const WAYS: [(&str, Way); 5] = [
    ("nothing", nothing),
    ("record_with", record_with),
    ("record", record),
    ("open span", open),
    ("collect", collect),
];

/// Prints the median and 99th percentile of each way: that of the best round.
pub fn run(size: Size) -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start_counting()?;
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        buffer_capacity: 20 * SPANS,
        // Only flushes send.
        batch_size: 20 * SPANS,
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    })?;
    let core = Collector::cores().last().copied().unwrap_or(0);
    let flushed = collector.clone();
    let measured = collector
        .spawn_pinned(core, "cold", move |recorder| {
            measure(&flushed, &recorder, size)
        })?
        .join()
        .map_err(|_| "the recording thread panicked")?;
    println!(
        "\nOne span, ns; cold: after {} MB of other memory were written",
        OTHER_BYTES >> 20
    );
    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>10}",
        "", "cold p50", "cold p99", "warm p50", "warm p99"
    );
    for (name, [cold, warm]) in measured {
        println!(
            "{name:<12} {:>10} {:>10} {:>10} {:>10}",
            cold.0, cold.1, warm.0, warm.1
        );
    }
    let ledger = collector.shutdown()?;
    match ledger.delivered() == ledger.accepted && ledger.refused.total() == 0 {
        true => Ok(()),
        false => Err(format!("a count does not close: {ledger}").into()),
    }
}

type Row = (&'static str, [(u64, u64); 2]);

/// Returns the median and 99th percentile of each way, cold and warm.
fn measure(collector: &Collector, recorder: &Recorder, size: Size) -> Vec<Row> {
    let mut other = vec![0_u8; OTHER_BYTES];
    let mut rows = WAYS.map(|(name, _)| (name, [(u64::MAX, u64::MAX); 2]));
    for _ in 0..2 * size.rounds {
        for ((_, way), (_, best)) in WAYS.iter().zip(&mut rows) {
            for (bytes, best) in [OTHER_BYTES, 0].into_iter().zip(best) {
                let samples = samples(collector, recorder, &mut other[..bytes], *way);
                let found = (
                    samples.value_at_quantile(0.5),
                    samples.value_at_quantile(0.99),
                );
                *best = (*best).min(found);
            }
        }
    }
    rows.into()
}

fn samples(
    collector: &Collector,
    recorder: &Recorder,
    other: &mut [u8],
    way: Way,
) -> Histogram<u64> {
    let mut samples = hdr::nanos();
    for _ in 0..SPANS {
        for line in other.chunks_mut(LINE_BYTES) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&mut *other);
        hdr::record(&mut samples, way(collector, recorder));
    }
    collector
        .flush(Duration::from_secs(60))
        .expect("the receiver accepts all");
    samples
}

fn nothing(_: &Collector, _: &Recorder) -> Duration {
    let began = Instant::now();
    black_box(());
    began.elapsed()
}

fn record_with(_: &Collector, recorder: &Recorder) -> Duration {
    let attributes = (
        (SYSTEM, black_box("postgresql")),
        (ADDRESS, black_box("orders-db-3.internal")),
        (ROWS, black_box(17)),
        (CACHED, black_box(true)),
    );
    let span = black_box(span());
    let began = Instant::now();
    let _ = black_box(recorder.record_with(&span, attributes));
    began.elapsed()
}

fn record(_: &Collector, recorder: &Recorder) -> Duration {
    let attributes = black_box([
        KeyValueRef::new(SYSTEM, "postgresql"),
        KeyValueRef::new(ADDRESS, "orders-db-3.internal"),
        KeyValueRef::new(ROWS, 17),
        KeyValueRef::new(CACHED, true),
    ]);
    let span = SpanRef {
        attributes: &attributes,
        ..span()
    };
    let began = Instant::now();
    let _ = black_box(recorder.record(black_box(&span)));
    began.elapsed()
}

fn open(_: &Collector, recorder: &Recorder) -> Duration {
    let began = Instant::now();
    let builder = recorder.span_builder(SELECT).kind(SpanKind::Client);
    let mut span = builder.start_time(1_000).start();
    span.set_attribute(SYSTEM, black_box("postgresql"))
        .set_attribute(ADDRESS, black_box("orders-db-3.internal"))
        .set_attribute(ROWS, black_box(17))
        .set_attribute(CACHED, black_box(true));
    span.end_at(2_000);
    began.elapsed()
}

fn collect(collector: &Collector, _: &Recorder) -> Duration {
    let mut span = Span {
        parent_span_id: Some(PARENT),
        kind: SpanKind::Client,
        start_time: 1_000,
        end_time: 2_000,
        ..Span::new("SELECT shop.order_line")
    };
    span.attributes = vec![
        otlp_collector::KeyValue::new("db.system.name", "postgresql"),
        otlp_collector::KeyValue::new("server.address", "orders-db-3.internal"),
        otlp_collector::KeyValue::new("db.response.returned_rows", 17),
        otlp_collector::KeyValue::new("db.cached", true),
    ];
    let span = black_box(span);
    let began = Instant::now();
    let _ = black_box(collector.collect(span));
    began.elapsed()
}

fn span() -> SpanRef<'static> {
    SpanRef {
        parent_span_id: Some(PARENT),
        kind: SpanKind::Client,
        start_time: 1_000,
        end_time: 2_000,
        ..SpanRef::new(TRACE, SPAN, SELECT)
    }
}
