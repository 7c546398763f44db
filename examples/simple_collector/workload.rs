//! The work of one thread: traces of a server span with three client spans.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use otlp_collector::span::KeyValueRef;
use otlp_collector::{Recorder, SpanKind, SpanRef, unix_nanos};

use crate::options::Options;

/// One in this many calls of `record` is measured: enough for percentiles, too few to reduce the
/// rate. A prime, so that each position in a slab is measured at times.
const SAMPLE_EVERY: u64 = 61;
const CHILDREN: u64 = 3;

/// One thread's share of the work.
pub struct Plan {
    spans: u64,
    /// Time between two spans, if a rate was given.
    interval: Option<Duration>,
}

/// Measurements of one thread or of all threads.
pub struct Records {
    pub record_ns: Histogram<u64>,
    /// Start time of the first span, in Unix nanoseconds.
    pub first_time: u64,
}

impl Records {
    pub fn new() -> Self {
        const MINUTE_NS: u64 = 60_000_000_000;
        Self {
            record_ns: Histogram::new_with_bounds(1, MINUTE_NS, 3).expect("the bounds are valid"),
            first_time: u64::MAX,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.record_ns += &other.record_ns;
        self.first_time = self.first_time.min(other.first_time);
    }
}

impl Plan {
    pub fn share(options: &Options, index: usize) -> Self {
        let threads = options.threads as u64;
        let extra = u64::from((index as u64) < options.spans % threads);
        Self {
            spans: options.spans / threads + extra,
            interval: options
                .rate
                .map(|rate| Duration::from_secs_f64(threads as f64 / rate as f64)),
        }
    }

    pub fn run(&self, recorder: &Recorder) -> Records {
        let mut records = Records::new();
        let mut left = self.spans;
        let began = Instant::now();
        records.first_time = unix_nanos();
        while left > 0 {
            self.pace(began, self.spans - left);
            let children = CHILDREN.min(left - 1);
            record_trace(
                recorder,
                children,
                self.spans - left,
                &mut records.record_ns,
            );
            left -= 1 + children;
        }
        records
    }

    /// Sleeps if the span with this number is not due yet. Spans are recorded in bursts of about a
    /// millisecond, since a sleep before each would cost more than recording it.
    fn pace(&self, began: Instant, number: u64) {
        const BURST: Duration = Duration::from_millis(1);
        let Some(interval) = self.interval else {
            return;
        };
        let due = began + interval.mul_f64(number as f64);
        let early = due.saturating_duration_since(Instant::now());
        if early >= BURST {
            thread::sleep(early);
        }
    }
}

/// Records a trace. Its spans are numbered from `number` on.
fn record_trace(recorder: &Recorder, children: u64, number: u64, record_ns: &mut Histogram<u64>) {
    let trace_id = recorder.new_trace_id();
    let root_id = recorder.new_span_id();
    let start_time = unix_nanos();
    for child in 0..children {
        let start_time = unix_nanos();
        let attributes = [
            KeyValueRef::new("db.system.name", "postgresql"),
            KeyValueRef::new("server.address", "orders-db-3.internal"),
            KeyValueRef::new("db.response.returned_rows", 17 + child as i64),
            KeyValueRef::new("db.cached", child == 0),
        ];
        let span = SpanRef {
            parent_span_id: Some(root_id),
            kind: SpanKind::Client,
            start_time,
            end_time: unix_nanos(),
            attributes: &attributes,
            ..SpanRef::new(trace_id, recorder.new_span_id(), "SELECT shop.order_line")
        };
        record(recorder, &span, number + child, record_ns);
    }
    let attributes = [
        KeyValueRef::new("http.request.method", "GET"),
        KeyValueRef::new("http.route", "/shop/{shop}/orders/{id}"),
        KeyValueRef::new("http.response.status_code", 200),
        KeyValueRef::new("service.load", 0.75),
    ];
    let span = SpanRef {
        kind: SpanKind::Server,
        start_time,
        end_time: unix_nanos(),
        attributes: &attributes,
        ..SpanRef::new(trace_id, root_id, "GET /shop/{shop}/orders/{id}")
    };
    record(recorder, &span, number + children, record_ns);
}

/// Records a span and measures the time for one in [`SAMPLE_EVERY`].
///
/// The result is ignored: the collector counts refused spans.
fn record(recorder: &Recorder, span: &SpanRef<'_>, number: u64, record_ns: &mut Histogram<u64>) {
    if !number.is_multiple_of(SAMPLE_EVERY) {
        let _ = recorder.record(span);
        return;
    }
    let began = Instant::now();
    let _ = recorder.record(span);
    record_ns.saturating_record(began.elapsed().as_nanos() as u64);
}
