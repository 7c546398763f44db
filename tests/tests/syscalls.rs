//! Recording makes no system call except the wake-up of the network thread. These tests record between
//! two marks; `.ci/syscalls` runs them under strace and checks the calls between the marks.

use std::fs;
use std::future::{Future, pending};
use std::mem;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use otlp_collector::span::{EventRef, KeyValueRef};
use otlp_collector::testing::Receiver;
use otlp_collector::{
    Collector, Config, EndpointOptions, Instrument, Overflow, Recorder, Refused, SpanKind, SpanRef,
    current, key, span,
};

const SPANS: u64 = 100_000;
const ROUNDS: u64 = 100;
/// 200,000 spans/s.
const STEADY_SPANS: u64 = 1_000_000;
const STEADY_ROUNDS: u32 = 5_000;

#[test]
#[ignore = "needs strace: run .ci/syscalls"]
fn recording_with_a_healthy_endpoint_only_wakes_the_network_thread() {
    let receiver = Receiver::start_counting().unwrap();
    let collector = collector(&receiver, 2 * SPANS);
    on_recording_thread(&collector, |collector, recorder| {
        record(recorder, 1_000);
        for _ in 0..ROUNDS {
            // So that the network thread is idle and each round has to wake it.
            collector.flush(PATIENCE).unwrap();
            assert_eq!(record_marked("healthy", recorder, SPANS / ROUNDS), 0);
        }
    });
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 1_000 + SPANS);
}

#[test]
#[ignore = "needs strace: run .ci/syscalls"]
fn recording_at_a_steady_rate_seldom_wakes_the_network_thread() {
    const INTERVAL: Duration = Duration::from_millis(1);
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        ..Config::default()
    })
    .unwrap();
    on_recording_thread(&collector, |_, recorder| {
        let began = Instant::now();
        for round in 0..STEADY_ROUNDS {
            // Not between the marks: some machines need a system call to read the clock.
            while began.elapsed() < INTERVAL * round {}
            let spans = STEADY_SPANS / u64::from(STEADY_ROUNDS);
            assert_eq!(record_marked("steady", recorder, spans), 0);
        }
    });
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), STEADY_SPANS);
}

#[test]
#[ignore = "needs strace: run .ci/syscalls"]
fn recording_with_a_refusing_endpoint_only_wakes_the_network_thread() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.close();
    let collector = collector(&receiver, 2 * SPANS);
    on_recording_thread(&collector, |collector, recorder| {
        record(recorder, 1_000);
        wait_for_failed_connect(collector);
        assert_eq!(record_marked("refusing", recorder, SPANS), 0);
    });
    assert_eq!(collector.ledger().pending(), 1_000 + SPANS);
}

#[test]
#[ignore = "needs strace: run .ci/syscalls"]
fn recording_into_a_full_buffer_makes_no_system_call() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.close();
    let collector = collector(&receiver, 1_000);
    on_recording_thread(&collector, |collector, recorder| {
        while record(recorder, 1) == 0 {}
        wait_for_failed_connect(collector);
        assert_eq!(record_marked("full", recorder, SPANS), SPANS);
    });
    assert_eq!(collector.ledger().refused.buffer_full, SPANS + 1);
}

#[test]
#[ignore = "needs strace: run .ci/syscalls"]
fn recording_while_the_oldest_spans_are_dropped_only_wakes_the_network_thread() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        overflow: Overflow::DropOldest,
        ..config(&receiver, 20_000)
    })
    .unwrap();
    on_recording_thread(&collector, |collector, recorder| {
        record(recorder, 1_000);
        wait_for_failed_connect(collector);
        // Some spans may be refused before the network thread has made room.
        record_marked("dropping", recorder, SPANS);
    });
    let ledger = collector.ledger();
    assert_eq!(ledger.accepted + ledger.refused.buffer_full, 1_000 + SPANS);
    assert!(ledger.dropped() > 0);
}

fn collector(receiver: &Receiver, buffer_capacity: u64) -> Collector {
    Collector::new(config(receiver, buffer_capacity)).unwrap()
}

fn config(receiver: &Receiver, buffer_capacity: u64) -> Config {
    Config {
        endpoint: receiver.endpoint(),
        batch_size: 100,
        buffer_capacity: buffer_capacity as usize,
        // A dead endpoint is retried many times while spans are recorded.
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 1,
            ..EndpointOptions::default()
        },
        // Do not wait for spans that a dead endpoint has not received.
        shutdown_timeout_ms: 0,
        ..Config::default()
    }
}

fn on_recording_thread(
    collector: &Collector,
    work: impl FnOnce(&Collector, &Recorder) + Send + 'static,
) {
    let clone = collector.clone();
    let core = Collector::cores()[0];
    collector
        .spawn_pinned(core, "recording", move |recorder| {
            let _installed = clone.install_for_thread();
            work(&clone, &recorder);
        })
        .unwrap()
        .join()
        .unwrap();
}

fn wait_for_failed_connect(collector: &Collector) {
    while collector.stats().network.last_error.is_none() {
        thread::yield_now();
    }
}

/// Records between two unique system calls, which strace shows.
fn record_marked(situation: &str, recorder: &Recorder, spans: u64) -> u64 {
    // Both created before the first mark, since allocating them may make system calls.
    let begin = format!("/marker-begin-{situation}");
    let end = format!("/marker-end-{situation}");
    assert!(fs::metadata(&begin).is_err());
    let refused = record(recorder, spans);
    assert!(fs::metadata(&end).is_err());
    refused
}

/// Records this many spans, finished and open ones in turn. Returns how many were refused because
/// the buffer was full.
fn record(recorder: &Recorder, spans: u64) -> u64 {
    let mut refused = 0;
    for number in 0..spans {
        let result = match number % 5 {
            0 => record_finished(recorder, number),
            1 => record_tuple(recorder, number),
            2 => record_open(recorder, number),
            3 => record_current(number),
            _ => record_instrumented(number),
        };
        match result {
            Ok(()) => {}
            Err(Refused::BufferFull) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    refused
}

// Times are constant, since some machines need a system call to read the clock.
const START: u64 = 1_700_000_000_000_000_000;

fn record_finished(recorder: &Recorder, number: u64) -> Result<(), Refused> {
    let attributes = [
        KeyValueRef::new("http.request.method", "GET"),
        KeyValueRef::new("http.response.status_code", 200),
    ];
    recorder.record(&SpanRef {
        kind: SpanKind::Server,
        start_time: START + number,
        end_time: START + number + 500,
        attributes: &attributes,
        ..SpanRef::new(
            recorder.new_trace_id(),
            recorder.new_span_id(),
            "GET /orders",
        )
    })
}

fn record_tuple(recorder: &Recorder, number: u64) -> Result<(), Refused> {
    let span = SpanRef {
        start_time: START + number,
        end_time: START + number + 500,
        ..SpanRef::new(recorder.new_trace_id(), recorder.new_span_id(), "query")
    };
    recorder.record_with(&span, ((key!("db.response.returned_rows"), number),))
}

fn record_open(recorder: &Recorder, number: u64) -> Result<(), Refused> {
    let builder = recorder.span_builder("GET /orders").kind(SpanKind::Server);
    let mut span = builder.start_time(START + number).start();
    span.set_attribute("http.request.method", "GET")
        .set_attribute("http.response.status_code", 500)
        .set_attribute("http.response.status_code", 200)
        .add_event_at(&EventRef::new("cache miss", START + number + 1));
    span.try_end_at(START + number + 500)
}

fn record_current(number: u64) -> Result<(), Refused> {
    let span = span!("GET /orders", start_time: START + number, "number" = number).entered();
    current().set_attribute("http.response.status_code", 200);
    assert!(current().context().is_some());
    span.exit().try_end_at(START + number + 500)
}

fn record_instrumented(number: u64) -> Result<(), Refused> {
    let span = span!("GET /orders", start_time: START + number);
    let mut future = pin!(pending::<()>().instrument(span));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    // A future that ends its span itself reads the clock.
    mem::take(future.as_mut().span_mut()).try_end_at(START + number + 500)
}
