//! Recording uses little stack for any values.

use std::thread;

use otlp_collector::span::{AnyValueRef, Event, EventRef, KeyValueRef};
use otlp_collector::testing::Receiver;
use otlp_collector::{AnyValue, Collector, Config, KeyValue, Recorder, Span, SpanRef, key};

/// The figures in the docs of `SpanLimits`.
const STACK_KIB: usize = if cfg!(debug_assertions) { 384 } else { 48 };

/// Returns keys that all occur twice, enough of them that repeats are found by a hash table.
fn repeated_keys() -> impl Iterator<Item = String> {
    (0..18).map(|number| format!("key.{}", number / 2))
}

/// Returns nested lists, beyond the nesting limit.
fn nested_lists() -> AnyValue {
    let list = |inner: AnyValue, _| {
        let mut entries: Vec<_> = repeated_keys().map(|key| KeyValue::new(key, 1)).collect();
        entries.push(KeyValue::new("key.0", inner));
        AnyValue::KeyValueList(entries)
    };
    (0..32).fold(AnyValue::Int(1), list)
}

/// Returns nested arrays, beyond the nesting limit.
fn nested_arrays() -> AnyValue {
    (0..47).fold(AnyValue::Int(1), |inner, _| AnyValue::Array(vec![inner]))
}

/// Returns a span with the value in its attributes and in those of an event.
fn owned_span(value: &AnyValue) -> Span {
    let mut span = Span::new("owned");
    span.attributes = repeated_keys().map(|key| KeyValue::new(key, 1)).collect();
    span.attributes.push(KeyValue::new("key.1", value.clone()));
    span.events = vec![Event {
        attributes: span.attributes.clone(),
        ..Event::new("event")
    }];
    span
}

#[inline(never)]
fn record(recorder: &Recorder, span: &Span) {
    let attributes: Vec<_> = (span.attributes.iter())
        .map(|attribute| KeyValueRef::new(&attribute.key, &attribute.value))
        .collect();
    let value = attributes[attributes.len() - 1].value;
    // Also as a borrowed value: a list of lists.
    let outer = [KeyValueRef::new("outer", value); 18];
    let events = [EventRef {
        attributes: &attributes,
        ..EventRef::new("event", 1)
    }];
    let span = SpanRef {
        attributes: &attributes,
        events: &events,
        ..SpanRef::new(recorder.new_trace_id(), recorder.new_span_id(), "span")
    };
    recorder.record(&span).unwrap();
    let outer = AnyValueRef::from(&outer);
    let longest_tuple = (
        (key!("tuple.0"), 1),
        (key!("tuple.1"), "text"),
        (key!("tuple.2"), value),
        ("tuple.3", value),
        ("tuple.4", outer),
        ("tuple.5", 0.5),
        ("tuple.6", true),
        ("tuple.7", 7),
        ("tuple.8", "text"),
        ("key.0", outer),
        ("key.1", value),
        ("key.2", 2),
    );
    recorder.record_with(&span, longest_tuple).unwrap();
    let mut open = recorder.start("open");
    open.set_attribute("nested", value)
        .set_attribute("nested", value);
    open.add_event("event", &attributes);
    open.set_attribute("other", value);
    open.try_end().unwrap();
}

#[test]
fn the_most_deeply_nested_values_use_no_more_stack_than_documented() {
    let receiver = Receiver::start_counting().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        open_span_bytes: 32 * 1024,
        ..Config::default()
    })
    .unwrap();
    // Another thread does the one-time initialisation of the process.
    collector.collect(Span::new("first")).unwrap();
    for value in [nested_lists(), nested_arrays()] {
        let span = owned_span(&value);
        let collector = collector.clone();
        let thread = thread::Builder::new().stack_size(STACK_KIB * 1024);
        let recording = thread.spawn(move || {
            record(&collector.recorder().unwrap(), &span);
            collector.collect(span).unwrap();
        });
        recording.unwrap().join().unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 9);
}
