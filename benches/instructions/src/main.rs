//! Records a number of spans of one kind: `instructions KIND SPANS [ENDPOINT]`.
//!
//! `.ci/instructions` divides the difference between two runs by the difference of their spans: the instructions
//! of one span. `instructions receive` is an endpoint for it.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use otlp_collector::span::{KeyValueRef, ParentBased, Sampler};
use otlp_collector::testing::Receiver;
use otlp_collector::{
    Collector, Config, Instrument, Key, Name, Recorder, SpanId, SpanKind, SpanRef, TraceId, key, name, span,
};

use tracing_subscriber::layer::SubscriberExt;

const SYSTEM: Key<'static> = key!("db.system.name");
const ADDRESS: Key<'static> = key!("server.address");
const ROWS: Key<'static> = key!("db.response.returned_rows");
const CACHED: Key<'static> = key!("db.cached");
const SELECT: Name<'static> = name!("SELECT shop.order_line");
const TRACE: TraceId = TraceId::from_bytes([1; 16]).unwrap();
const PARENT: SpanId = SpanId::from_bytes([3; 8]).unwrap();

/// Returns the same keys and name as texts that are opaque to the compiler.
fn texts() -> ([Key<'static>; 4], Name<'static>) {
    let keys = black_box([
        "db.system.name",
        "server.address",
        "db.response.returned_rows",
        "db.cached",
    ]);
    (
        keys.map(Key::from),
        Name::from(black_box("SELECT shop.order_line")),
    )
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args == ["receive"] {
        receive();
    }
    let (Some(kind), Some(Ok(spans))) = (args.first(), args.get(1).map(|n| n.parse())) else {
        eprintln!("instructions KIND SPANS [ENDPOINT]");
        return ExitCode::from(2);
    };
    // Without an endpoint nothing listens, and the spans stay in the buffer.
    let endpoint = args
        .get(2)
        .map_or("http://127.0.0.1:9", |endpoint| endpoint);
    let collector = Collector::new(config(kind, endpoint)).expect("a valid configuration");
    let recorder = collector.recorder().expect("a recorder");
    if kind == "tracing-registry" {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::set_global_default(subscriber).expect("the first");
    } else if kind.starts_with("tracing") {
        let layer = otlp_collector::tracing::layer(&collector);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).expect("the first");
    }
    // The other kinds have a recorder, so only `inert` is without the collector.
    let _installed = (kind != "inert").then(|| collector.install());
    record(kind, spans, &recorder);
    if args.len() > 2 {
        let ledger = collector.flush(Duration::from_secs(60)).expect("a flush");
        assert_eq!(ledger.delivered(), spans, "{ledger}");
    }
    ExitCode::SUCCESS
}

/// Receives until it is killed.
fn receive() -> ! {
    let receiver = Receiver::start_counting().expect("a loopback socket");
    println!("{}", receiver.endpoint());
    loop {
        std::thread::park();
    }
}

fn config(kind: &str, endpoint: &str) -> Config {
    let sampler = match kind {
        "unsampled" | "tracing-unsampled" => ParentBased::new(Sampler::AlwaysOff).into(),
        _ => Sampler::default(),
    };
    Config {
        endpoint: endpoint.to_string(),
        sampler,
        // Nothing is sent before the flush.
        batch_size: 100_000,
        batch_timeout_ms: 3_600_000,
        shutdown_timeout_ms: 0,
        ..Config::default()
    }
}

fn record(kind: &str, spans: u64, recorder: &Recorder) {
    let prepared = ([SYSTEM, ADDRESS, ROWS, CACHED], SELECT);
    match kind {
        "record" | "network" => (0..spans).for_each(|n| finished(recorder, prepared, n)),
        "record-texts" => {
            let texts = texts();
            (0..spans).for_each(|n| finished(recorder, texts, n));
        }
        "record-with" => (0..spans).for_each(|n| finished_with(recorder, n)),
        "open" => (0..spans).for_each(|n| open(recorder, n)),
        "open-bare" => (0..spans).for_each(|n| open_bare(recorder, n)),
        "unsampled" => (0..spans).for_each(|n| open(recorder, n)),
        "current" | "inert" => (0..spans).for_each(current),
        "entered" => (0..spans).for_each(entered),
        "instrumented" => (0..spans).for_each(|n| instrumented(n, 1)),
        "instrumented-poll" => instrumented(0, spans),
        "context" => context(spans),
        "tracing" | "tracing-registry" | "tracing-unsampled" => (0..spans).for_each(traced),
        "tracing-event" => traced_events(spans),
        "tracing-poll" => traced_polls(spans),
        other => panic!("no kind of span is called {other}"),
    }
}

#[inline(always)]
fn span_id(number: u64) -> SpanId {
    SpanId::from_u64(number + 1).expect("not 0")
}

#[inline(always)]
fn finished(recorder: &Recorder, (keys, name): ([Key<'_>; 4], Name<'_>), number: u64) {
    let [system, address, rows, cached] = keys;
    let attributes = [
        KeyValueRef::new(system, "postgresql"),
        KeyValueRef::new(address, "orders-db-3.internal"),
        KeyValueRef::new(rows, 17),
        KeyValueRef::new(cached, true),
    ];
    let span = SpanRef {
        parent_span_id: Some(PARENT),
        kind: SpanKind::Client,
        start_time: 1_000 + number,
        end_time: 2_000 + number,
        attributes: &attributes,
        ..SpanRef::new(TRACE, span_id(number), name)
    };
    let _ = recorder.record(black_box(&span));
}

#[inline(always)]
fn finished_with(recorder: &Recorder, number: u64) {
    let span = SpanRef {
        parent_span_id: black_box(Some(PARENT)),
        kind: SpanKind::Client,
        start_time: 1_000 + number,
        end_time: 2_000 + number,
        ..SpanRef::new(black_box(TRACE), span_id(number), SELECT)
    };
    let _ = recorder.record_with(
        &span,
        (
            (SYSTEM, "postgresql"),
            (ADDRESS, black_box("orders-db-3.internal")),
            (ROWS, black_box(17)),
            (CACHED, black_box(true)),
        ),
    );
}

#[inline(always)]
fn open(recorder: &Recorder, number: u64) {
    let mut span = recorder
        .span_builder(SELECT)
        .kind(SpanKind::Client)
        .start_time(1_000 + number)
        .start();
    span.set_attribute(SYSTEM, "postgresql")
        .set_attribute(ADDRESS, "orders-db-3.internal")
        .set_attribute(ROWS, 17)
        .set_attribute(CACHED, true);
    span.end_at(2_000 + number);
}

#[inline(always)]
fn open_bare(recorder: &Recorder, number: u64) {
    let span = recorder
        .span_builder(SELECT)
        .start_time(1_000 + number)
        .start();
    span.end_at(2_000 + number);
}

/// The same span as `open`, by the macro.
#[inline(always)]
fn start(number: u64) -> otlp_collector::OpenSpan {
    span!(
        "SELECT shop.order_line",
        kind: Client,
        start_time: 1_000 + number,
        "db.system.name" = "postgresql",
        "server.address" = "orders-db-3.internal",
        "db.response.returned_rows" = 17,
        "db.cached" = true,
    )
}

#[inline(always)]
fn current(number: u64) {
    start(number).end_at(2_000 + number);
}

#[inline(always)]
fn entered(number: u64) {
    let entered = start(number).entered();
    black_box(&entered);
    entered.exit().end_at(2_000 + number);
}

/// Polls a future with a span this many times.
#[inline(always)]
fn instrumented(number: u64, polls: u64) {
    let mut left = polls;
    let future = poll_fn(|_| {
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    let mut future = pin!(future.instrument(start(number)));
    let mut context = Context::from_waker(Waker::noop());
    while black_box(future.as_mut()).poll(&mut context).is_pending() {}
}

fn context(times: u64) {
    let _entered = start(0).entered();
    for _ in 0..times {
        black_box(otlp_collector::current().context());
    }
}

/// The same span by the crate `tracing`, entered once.
#[inline(always)]
fn traced(_: u64) {
    let span = tracing::info_span!(
        "SELECT shop.order_line",
        db.system.name = "postgresql",
        server.address = "orders-db-3.internal",
        db.response.returned_rows = 17,
        db.cached = true,
    );
    drop(black_box(span.entered()));
}

/// Events in spans of 20 each.
fn traced_events(events: u64) {
    for _ in 0..events / 20 {
        let _entered = tracing::info_span!("events").entered();
        for attempt in 0..20 {
            tracing::info!(attempt, reason = "timeout", "retried");
        }
    }
}

fn traced_polls(polls: u64) {
    let span = tracing::info_span!("polled");
    for _ in 0..polls {
        black_box(&span).in_scope(|| black_box(()));
    }
}
